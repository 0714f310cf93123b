"""Decode attention over a cache: Triton (interpreter here) and plain torch against fp64."""

from __future__ import annotations

import pytest
import torch
from agreement import check
from ssmprof_kernels import launch
from ssmprof_kernels.attention import plan
from ssmprof_kernels.attention import reference as attention
from ssmprof_kernels.attention.op import attention_decode
from ssmprof_kernels.attention.splits import splits

SMALL = {
    "BLOCK_N": 16, "FILL": 12, "MIN_TILES": 1, "EFFICIENCY": 0.85, "num_warps": 1, "num_stages": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    # Small tiles and twelve pretended slots: caches of some dozen tokens are split.
    for name in ("DEFAULT", "DEFAULT_FP32"):
        monkeypatch.setattr(plan, name, SMALL)
    launch.forget()
    yield
    launch.forget()


def test_caches_here_are_cut_and_merged():
    q, k, v = inputs()
    found = plan.record((q, k, v, None, None, None, torch.empty_like(q)), plan.DEFAULT, None, None)
    assert [launched.__name__.split("_")[-1] for launched, *_ in found._plan] == ["split", "merge"]


def inputs(batch=2, hq=8, hk=2, dim=16, room=70, dv=None, dtype=torch.float32):
    g = torch.Generator().manual_seed(3)
    return (
        torch.randn(batch, hq, dim, generator=g).to(dtype),
        torch.randn(batch, room, hk, dim, generator=g).to(dtype),
        torch.randn(batch, room, hk, dv or dim, generator=g).to(dtype),
    )


def compare(q, k, v, lengths=None, rms_bound=None, **options):
    """Kernel and plain form against the fp64 walk."""
    oracle = attention.attention_decode_sequential(
        q.double(), k.double(), v.double(), lengths, **options
    )
    plain = attention.attention_decode(q, k, v, lengths, **options)
    got = attention_decode(q, k, v, lengths, **options)
    check("o", got, oracle, plain, rms_bound=rms_bound)
    check("plain o", plain, oracle, plain, rms_bound=rms_bound)


@pytest.mark.parametrize(("hq", "hk"), [(4, 4), (8, 2), (7, 1), (8, 1)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_every_grouping_of_heads_agrees(hq, hk, dtype):
    lengths = torch.tensor([70, 33], dtype=torch.int32)
    compare(*inputs(hq=hq, hk=hk, dtype=dtype), lengths)


@pytest.mark.parametrize("lengths", [[0, 1], [15, 16], [17, 70], [70, 0]])
def test_every_length_from_empty_to_full_agrees(lengths):
    compare(*inputs(), torch.tensor(lengths, dtype=torch.int32))


def test_without_lengths_the_whole_cache_counts():
    compare(*inputs(room=37))


@pytest.mark.parametrize("window", [1, 16, 20, 100])
def test_a_window_hides_older_tokens(window):
    compare(*inputs(), torch.tensor([70, 18], dtype=torch.int32), window=window)


@pytest.mark.parametrize(("dim", "dv"), [(19, 19), (24, 40), (64, 64)])
def test_odd_and_unequal_head_widths_agree(dim, dv):
    compare(*inputs(dim=dim, dv=dv), scale=0.3)


def test_many_parts_are_merged_by_some_columns_at_a_time(monkeypatch):
    monkeypatch.setattr(plan, "DEFAULT_FP32", SMALL | {"FILL": 128})
    launch.forget()
    assert plan._merged(128, 40) == (128, 32)
    compare(*inputs(batch=1, hq=2, hk=1, room=2100, dv=40), torch.tensor([2071], dtype=torch.int32))


@pytest.mark.parametrize("room", [70, 12])  # several parts, and one
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_sink_is_one_more_logit(room, dtype):
    # Sinks that take nothing, some and nearly all of the softmax; a row without any token.
    sinks = torch.tensor([-30.0, -1.0, 0.0, 0.5, 3.0, 30.0, 1.0, float("-inf")])
    lengths = torch.tensor([room, 0], dtype=torch.int32)
    compare(*inputs(room=room, dtype=dtype), lengths, sinks=sinks)
    compare(*inputs(room=room, dtype=dtype), lengths, sinks=sinks, window=9)


def test_head_first_caches_by_strides_agree():
    q, k, v = inputs()
    first = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (k, v)]
    compare(q.transpose(0, 1).contiguous().transpose(0, 1), *first)


def test_pages_in_any_order_equal_the_plain_cache():
    q, k, v = inputs(room=64)
    lengths = torch.tensor([50, 64], dtype=torch.int32)
    table = torch.tensor([[3, 0, 6, 5], [1, 2, 7, 4]], dtype=torch.int32)
    pages = [torch.zeros(8, 16, 2, 16), torch.zeros(8, 16, 2, 16)]
    for page, cache in zip(pages, (k, v), strict=True):
        page[table.flatten().long()] = cache.reshape(8, 16, 2, 16)
    compare(q, *pages, lengths, block_table=table)
    torch.testing.assert_close(
        attention_decode(q, *pages, lengths, block_table=table), attention_decode(q, k, v, lengths)
    )


def test_tokens_beyond_the_length_have_no_influence_even_as_nan():
    q, k, v = inputs()
    lengths = torch.tensor([20, 41], dtype=torch.int32)
    before = attention_decode(q, k, v, lengths)
    k[0, 20:], v[0, 20:], k[1, 41:], v[1, 41:] = (float("nan"),) * 4
    assert torch.equal(attention_decode(q, k, v, lengths), before)


def test_large_scores_do_not_overflow():
    q, k, v = inputs()
    # Scores of some thousands: their rounding, not the softmax, limits the agreement.
    compare(q * 50, k * 50, v, rms_bound=1e-4)


def test_two_runs_give_equal_bits():
    q, k, v = inputs()
    assert torch.equal(attention_decode(q, k, v), attention_decode(q, k, v))


@pytest.mark.parametrize(
    ("programs", "tiles", "expected"),
    [(300, 1000, 1), (8, 4, 1), (8, 64, 28), (8, 4096, 29), (264, 100, 1), (1, 4096, 225)],
)
def test_the_split_count_fills_the_device_or_stays_one(programs, tiles, expected):
    count = splits(programs, tiles, 264, 2)
    assert count == 1 or tiles // count >= 2
    assert count == expected


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"q": torch.zeros(2, 0, 16)}, "q must have shape"),
        ({"k_cache": torch.zeros(2, 70, 2, 15)}, "k_cache must have shape"),
        ({"k_cache": torch.zeros(2, 70, 3, 16)}, "k_cache needs"),
        ({"k_cache": torch.zeros(2, 0, 2, 16)}, "k_cache needs"),
        ({"v_cache": torch.zeros(2, 69, 2, 16)}, "v_cache must have shape"),
        ({"v_cache": torch.zeros(2, 70, 2, 16, dtype=torch.float16)}, "q's dtype"),
        ({"lengths": torch.zeros(3, dtype=torch.int32)}, "lengths must have shape"),
        ({"window": 0}, "window must be"),
        ({"sinks": torch.zeros(7)}, "sinks must have shape"),
        ({"sinks": torch.zeros(16)[::2]}, "sinks must be floating point and contiguous"),
        ({"block_table": torch.zeros(3, 4, dtype=torch.int32)}, "block_table must have"),
    ],
)
def test_bad_input_is_named_before_any_launch(change, named):
    q, k, v = inputs()
    arguments = {"q": q, "k_cache": k, "v_cache": v} | change
    with pytest.raises(ValueError, match=named):
        attention_decode(**arguments)
