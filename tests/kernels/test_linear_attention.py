"""GLA, retention and lightning attention against the recurrence in fp64: tails, segments, packing,
groups, gates that leave the range of a float, steps, bad input."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from agreement import check
from ssmprof_kernels import OPS, launch
from ssmprof_kernels.linear_attention import plan

torch.set_num_threads(1)

PREFILLS = ("gla", "retention", "lightning")
#: (B, L, H, Hk, K, V): tails, odd widths, shared keys, several blocks of values.
SHAPES = [(1, 1, 2, 2, 16, 16), (2, 65, 2, 1, 20, 70), (1, 130, 3, 3, 128, 19)]
LIMIT = {torch.float32: 1e-5, torch.float16: 1e-3}


def inputs(op: str, shape: tuple[int, ...], dtype: torch.dtype, strength: float = 1.0) -> list[Any]:
    g = torch.Generator().manual_seed(0)
    batch, length, heads, shared, key, value = shape
    q, k, v = (
        torch.randn(batch, length, *more, generator=g).to(dtype)
        for more in ((heads, key), (shared, key), (shared, value))
    )
    if op.startswith("gla"):
        how = (torch.randn(batch, length, shared, key, generator=g) * 20 * strength).to(dtype)
    else:
        how = -torch.linspace(0.0, 0.1, heads) * strength
    return [q, k, v, how]


def state_of(shape: tuple[int, ...], sequences: int | None = None) -> torch.Tensor:
    batch, _, heads, _, key, value = shape
    g = torch.Generator().manual_seed(1)
    return torch.randn(sequences or batch, heads, key, value, generator=g)


def rms(given: torch.Tensor, wanted: torch.Tensor) -> float:
    error = (given.double() - wanted.double()).pow(2).mean().sqrt()
    return float(error / wanted.double().pow(2).mean().sqrt().clamp(min=1e-30))


def tokens(op: str, given: list[Any], where: slice) -> list[Any]:
    return [t if i == 3 and op != "gla" else t[:, where] for i, t in enumerate(given)]


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Force the number of segments, which the time model would choose."""

    def force(count: int) -> None:
        for default in (plan.DEFAULT, plan.DEFAULT_NARROW):
            monkeypatch.setitem(default, "segments", count)
        launch.forget()

    yield force
    launch.forget()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", LIMIT)
@pytest.mark.parametrize("op", ["gla", "retention"])
def test_it_follows_the_recurrence(op: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    given, start = inputs(op, shape, dtype), state_of(shape)
    options = {"scale": 0.3, "initial_state": start}
    y, h = OPS[op].kernel(*given, **options, return_final_state=True)
    oracle, state = OPS[op].sequential(*given, **options)
    assert y.dtype == dtype
    assert h.dtype == torch.float32
    assert rms(y, oracle) <= LIMIT[dtype]
    assert rms(h, state) <= LIMIT[dtype]


def test_bf16_is_right_to_its_rounding() -> None:
    # The interpreter cuts where a GPU rounds: twice the error.
    for op in PREFILLS:
        given = inputs(op, SHAPES[1], torch.bfloat16)
        y = OPS[op].kernel(*given, scale=0.3)
        assert rms(y, OPS[op].sequential(*given, scale=0.3)[0]) <= 1.5e-2


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("op", PREFILLS)
def test_the_number_of_segments_does_not_matter(op: str, count: int, cut: Any) -> None:
    shape = (2, 103, 2, 1, 16, 20)
    given, options = inputs(op, shape, torch.float32), {"scale": 1.0}
    options["initial_state"] = state_of(shape)
    cut(count)
    y, h = OPS[op].kernel(*given, **options, return_final_state=True)
    oracle, state = OPS[op].sequential(*given, **options)
    assert rms(y, oracle) <= 1e-5
    assert rms(h, state) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_gates_may_close_at_once(dtype: torch.dtype) -> None:
    # Decays of e^-200 per token and of none side by side, in one chunk and in one feature.
    given = inputs("gla", (1, 70, 1, 1, 32, 16), dtype, 60.0)
    y, h = OPS["gla"].kernel(*given, scale=1.0, return_final_state=True)
    oracle, state = OPS["gla"].sequential(*given, scale=1.0)
    assert y.isfinite().all()
    assert rms(y, oracle) <= LIMIT[dtype]
    assert rms(h, state) <= LIMIT[dtype]


@pytest.mark.parametrize("count", [1, 2])
def test_an_open_gate_keeps_its_digits_behind_closed_ones(count: int, cut: Any) -> None:
    # Running sums of more than 1000 in each chunk, and gates side by side that are all but open.
    q, k, v, a = inputs("gla", (1, 70, 2, 1, 32, 16), torch.float32)
    a = torch.where(a > 0.0, 0.1 * a, -2000.0)
    cut(count)
    y, h = OPS["gla"].kernel(q, k, v, a, scale=1.0, return_final_state=True)
    oracle, state = OPS["gla"].sequential(q, k, v, a, scale=1.0)
    check("y", y, oracle, oracle, matrix_ulps=8)
    check("state", h, state, state, matrix_ulps=8)


@pytest.mark.parametrize("op", ["gla", "retention"])
@pytest.mark.parametrize("first", [1, 15, 16, 40])
def test_a_resumed_scan_equals_one_scan(op: str, first: int) -> None:
    given = inputs(op, (1, 50, 2, 1, 16, 16), torch.float32)
    whole, end = OPS[op].kernel(*given, scale=1.0, return_final_state=True)
    head = tokens(op, given, slice(first))
    y, h = OPS[op].kernel(*head, scale=1.0, return_final_state=True)
    rest = tokens(op, given, slice(first, None))
    more, h = OPS[op].kernel(*rest, scale=1.0, initial_state=h, return_final_state=True)
    assert rms(torch.cat([y, more], 1), whole) <= 1e-5
    assert rms(h, end) <= 1e-5


@pytest.mark.parametrize(("lengths", "count"), [([0, 0, 16], 1), ([40, 1, 0, 31], 3), ([5] * 5, 2)])
@pytest.mark.parametrize("op", ["gla", "retention"])
def test_packed_sequences_do_not_see_each_other(
    op: str, lengths: list[int], count: int, cut: Any
) -> None:
    shape = (1, sum(lengths) + 7, 2, 1, 16, 20)
    given, start = inputs(op, shape, torch.float32), state_of(shape, len(lengths))
    ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
    cut(count)
    options = {"scale": 1.0, "initial_state": start, "cu_seqlens": ends}
    y, h = OPS[op].kernel(*given, **options, return_final_state=True)
    assert not y[:, sum(lengths) :].any()
    inside = tokens(op, given, slice(sum(lengths)))
    oracle, state = OPS[op].sequential(*inside, **options)
    assert rms(y[:, : sum(lengths)], oracle) <= 1e-5
    assert rms(h, state) <= 1e-5
    plain, state = OPS[op].plain(*inside, **options, return_final_state=True)
    assert rms(plain, oracle) <= 1e-5
    assert rms(state, h) <= 1e-5


@pytest.mark.parametrize("name", ["q", "k", "v", "a"])
def test_what_is_no_number_reaches_later_tokens_of_its_head_only(name: str) -> None:
    given = inputs("gla", (2, 40, 2, 2, 16, 16), torch.float32)
    clean = OPS["gla"].kernel(*given, scale=1.0)
    dirty = [t.clone() for t in given]
    dirty["qkva".index(name)][1, 20, 1, 3] = float("nan")
    y = OPS["gla"].kernel(*dirty, scale=1.0)
    assert torch.equal(y[0], clean[0])
    assert torch.equal(y[1, :, 0], clean[1, :, 0])
    torch.testing.assert_close(y[1, :20], clean[1, :20], rtol=1e-4, atol=1e-4)
    assert y[1, 20, 1].isnan().any()
    if name == "q":
        assert torch.equal(y[1, 21:], clean[1, 21:])


@pytest.mark.parametrize("op", ["gla", "retention"])
def test_any_strides(op: str) -> None:
    shape = (2, 20, 2, 2, 16, 24)
    given = inputs(op, shape, torch.float32)
    wanted = OPS[op].kernel(*given, scale=1.0)
    apart = [torch.stack([t, t], -1)[..., 0] for t in given]
    assert torch.equal(OPS[op].kernel(*apart, scale=1.0), wanted)
    first = [t if t.dim() < 4 else t.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
             for t in given]  # fmt: skip
    assert torch.equal(OPS[op].kernel(*first, scale=1.0), wanted)
    one = [t if t.dim() < 4 else t[:, :, :1].expand(t.shape) for t in given]
    whole = [t.contiguous() for t in one]
    assert torch.equal(OPS[op].kernel(*one, scale=1.0), OPS[op].kernel(*whole, scale=1.0))


@pytest.mark.parametrize("op", ["gla", "retention", "lightning"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_steps_follow_the_recurrence_and_overwrite_the_state(op: str, dtype: torch.dtype) -> None:
    shape = (3, 1, 4, 2, 20, 19)
    q, k, v, how = inputs(op, shape, torch.float32)
    how = how[:, 0] if op == "gla" else how
    state = state_of(shape).to(dtype)
    old = state.clone()
    y = OPS[f"{op}_step"].kernel(state, q[:, 0], k[:, 0], v[:, 0], how, scale=0.3)
    oracle, new = OPS[f"{op}_step"].sequential(old, q[:, 0], k[:, 0], v[:, 0], how, scale=0.3)
    assert rms(y, oracle) <= 1e-5
    assert rms(state, new) <= (1e-6 if dtype == torch.float32 else 5e-4)


def test_the_cut_covers_every_chunk_and_packed_rows_have_slots_enough() -> None:
    meta = plan.DEFAULT
    for length, heads, packed in itertools.product((1, 64, 5000, 65536), (1, 4, 64), (None, 3)):
        found = plan.cut(1, length, heads, 512, packed, meta, 132)
        assert found.T * found.M * meta["C"] >= length
        needed = found.M if packed is None else length // (found.T * meta["C"]) + packed
        assert found.slots == needed
    assert plan.cut(1, 65536, 4, 512, None, meta, 132).M > 1
    assert plan.cut(8, 512, 64, 512, None, meta, 132).M == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"q": torch.zeros(1, 4, 2)}, "q must have shape"),
        ({"k": torch.zeros(1, 4, 3, 16)}, "divisor of H = 2"),
        ({"k": torch.zeros(1, 4, 1, 15)}, r"k must have shape \(B,L,Hk,K\)"),
        ({"v": torch.zeros(1, 5, 1, 8)}, "v must have shape"),
        ({"v": torch.zeros(1, 4, 1, 8).half()}, "q's dtype"),
        ({"decay": torch.zeros(3)}, r"decay must have shape \(H,\)"),
        ({"initial_state": torch.zeros(2, 2, 16, 8)}, "initial_state must have shape"),
        ({"cu_seqlens": torch.zeros(3)}, "cu_seqlens must be int32"),
        ({"q": torch.zeros(1, 4, 2, 300), "k": torch.zeros(1, 4, 1, 300)}, "at most 256"),
    ],
)
def test_bad_input_is_one_error(change: dict[str, Any], named: str) -> None:
    q, k, v = torch.zeros(1, 4, 2, 16), torch.zeros(1, 4, 1, 16), torch.zeros(1, 4, 1, 8)
    given = {"q": q, "k": k, "v": v, "decay": torch.zeros(2), "scale": 1.0} | change
    with pytest.raises(ValueError, match=named):
        OPS["retention"].kernel(**given)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"state": torch.zeros(1, 2, 16)}, "state must have shape"),
        ({"q": torch.zeros(1, 2, 15)}, "q must have shape"),
        ({"k": torch.zeros(1, 3, 16)}, "divisor of H = 2"),
        ({"a": torch.zeros(1, 1, 15)}, "a must have shape"),
    ],
)
def test_bad_input_of_a_step_is_one_error(change: dict[str, Any], named: str) -> None:
    x = torch.zeros(1, 1, 16)
    given = {"state": torch.zeros(1, 2, 16, 8), "q": torch.zeros(1, 2, 16), "k": x, "a": x}
    given |= {"v": torch.zeros(1, 1, 8)} | change
    with pytest.raises(ValueError, match=named):
        OPS["gla_step"].kernel(**given, scale=1.0)
