"""RWKV-7 against the recurrence in fp64: tails, packing, decays beyond a float, steps, input."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from ssmprof_kernels import rwkv7, rwkv7_step
from ssmprof_kernels.reference import rwkv7 as plain
from ssmprof_kernels.reference import rwkv7_sequential, rwkv7_step_sequential
from ssmprof_kernels.rwkv7.op import scan

torch.set_num_threads(1)

#: The lowest log decay of the model.
LOWEST = -0.6065306597126334
LIMIT = {torch.float32: 1e-5, torch.float16: 1e-3}
NAMES = ("r", "w", "k", "v", "kk", "a")


def inputs(
    batch: int, length: int, heads: int, width: int, dtype: torch.dtype, strength: float = 1.0
) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    shape = (batch, length, heads, width)
    r, k, v, kk = (torch.randn(shape, generator=g) for _ in range(4))
    w = LOWEST * strength * torch.rand(shape, generator=g)
    a = torch.rand(shape, generator=g)
    return [x.to(dtype) for x in (r, w, k, v, torch.nn.functional.normalize(kk, dim=-1), a)]


def rms(given: torch.Tensor, wanted: torch.Tensor) -> float:
    error = (given.double() - wanted.double()).pow(2).mean().sqrt()
    return float(error / wanted.double().pow(2).mean().sqrt().clamp(min=1e-30))


@pytest.mark.parametrize("shape", [(1, 1, 2, 16), (2, 65, 2, 20), (1, 70, 1, 64)])
@pytest.mark.parametrize("dtype", LIMIT)
def test_it_follows_the_recurrence(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    batch, _, heads, width = shape
    given, start = inputs(*shape, dtype), torch.randn(batch, heads, width, width)
    y, h = rwkv7(*given, initial_state=start, return_final_state=True)
    oracle, state = rwkv7_sequential(*given, initial_state=start)
    assert y.dtype == dtype
    assert h.dtype == torch.float32
    assert rms(y, oracle) <= LIMIT[dtype]
    assert rms(h, state) <= LIMIT[dtype]


def test_bf16_is_right_to_its_rounding() -> None:
    # The interpreter cuts where a GPU rounds: twice the error.
    given = inputs(1, 100, 2, 32, torch.bfloat16)
    y = rwkv7(*given)
    assert rms(y, rwkv7_sequential(*given)[0]) <= 1.5e-2


def test_decays_may_leave_the_range_of_a_float() -> None:
    given = inputs(1, 70, 1, 16, torch.float16, 200.0)
    y, h = rwkv7(*given, return_final_state=True)
    oracle, state = rwkv7_sequential(*given)
    assert y.isfinite().all()
    assert rms(y, oracle) <= 1e-3
    assert rms(h, state) <= 1e-3


def test_repeated_keys_do_not_cancel() -> None:
    """One key for all tokens, fully erased by each: powers of the triangle would explode."""
    given = inputs(1, 64, 1, 16, torch.float16)
    given[4] = given[4][:, :1].expand_as(given[4])
    given[5] = torch.ones_like(given[5])
    y = rwkv7(*given)
    assert rms(y, rwkv7_sequential(*given)[0]) <= 1e-3


@pytest.mark.parametrize("first", [1, 31, 32, 33])
def test_a_resumed_scan_equals_one_scan(first: int) -> None:
    given = inputs(1, 50, 2, 16, torch.float32)
    whole, end = rwkv7(*given, return_final_state=True)
    y, h = rwkv7(*[x[:, :first] for x in given], return_final_state=True)
    more, h = rwkv7(*[x[:, first:] for x in given], initial_state=h, return_final_state=True)
    assert rms(torch.cat([y, more], 1), whole) <= 1e-5
    assert rms(h, end) <= 1e-5


@pytest.mark.parametrize("lengths", [[0, 0, 16], [40, 1, 0, 35], [5] * 5])
def test_packed_sequences_do_not_see_each_other(lengths: list[int]) -> None:
    given = inputs(1, sum(lengths) + 7, 2, 16, torch.float16)
    start = torch.randn(len(lengths), 2, 16, 16)
    ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
    options: dict[str, Any] = {"initial_state": start, "cu_seqlens": ends}
    y, h = rwkv7(*given, **options, return_final_state=True)
    assert not y[:, sum(lengths) :].any()
    inside = [x[:, : sum(lengths)] for x in given]
    oracle, state = rwkv7_sequential(*inside, **options)
    assert rms(y[:, : sum(lengths)], oracle) <= 1e-3
    assert rms(h, state) <= 1e-3
    found, last = plain(*inside, **options, return_final_state=True)
    assert rms(found, oracle) <= 1e-3
    assert rms(last, state) <= 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_number_reaches_later_tokens_of_its_head_only(name: str) -> None:
    given = inputs(2, 40, 2, 16, torch.float16)
    clean = rwkv7(*given)
    dirty = [t.clone() for t in given]
    dirty[NAMES.index(name)][1, 20, 1, 3] = float("nan")
    y = rwkv7(*dirty)
    assert torch.equal(y[0], clean[0])
    assert torch.equal(y[1, :, 0], clean[1, :, 0])
    torch.testing.assert_close(y[1, :20], clean[1, :20], rtol=0.02, atol=0.02)
    assert y[1, 20, 1].isnan().any()


def test_any_strides() -> None:
    given = inputs(2, 20, 2, 16, torch.float16)
    wanted = rwkv7(*given)
    assert torch.equal(rwkv7(*[torch.stack([t, t], -1)[..., 0] for t in given]), wanted)
    first = [t.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) for t in given]
    assert torch.equal(rwkv7(*first), wanted)


def test_any_transition_of_rank_one() -> None:
    r, w, k, v, kk, _ = inputs(1, 40, 1, 16, torch.float32)
    b = torch.randn_like(kk) * 0.3
    y, _ = scan(r, w, k, v, -kk, b, None, None, 0.5, True, pair=False)
    state = torch.zeros(16, 16)
    for t in range(40):
        state = (torch.diag(w[0, t, 0].exp()) - torch.outer(b[0, t, 0], kk[0, t, 0])) @ state
        state = state + torch.outer(k[0, t, 0], v[0, t, 0])
        torch.testing.assert_close(y[0, t, 0], 0.5 * r[0, t, 0] @ state, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_steps_follow_the_recurrence_and_overwrite_the_state(dtype: torch.dtype) -> None:
    tokens = [x[:, 0] for x in inputs(3, 1, 2, 20, torch.float32)]
    state = torch.randn(3, 2, 20, 20).to(dtype)
    oracle, new = rwkv7_step_sequential(state, *tokens)
    y = rwkv7_step(state, *tokens)
    assert rms(y, oracle) <= 1e-5
    assert rms(state, new) <= (1e-6 if dtype == torch.float32 else 5e-4)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"v": torch.zeros(1, 4, 2)}, "v must have shape"),
        ({"r": torch.zeros(1, 5, 2, 16)}, "r must have shape"),
        ({"kk": torch.zeros(1, 4, 2, 15)}, "kk must have shape"),
        ({"r": torch.zeros(1, 4, 2, 16).half()}, "v's dtype"),
        ({"initial_state": torch.zeros(2, 2, 16, 16)}, "initial_state must have shape"),
        ({"cu_seqlens": torch.zeros(3)}, "cu_seqlens must be int32"),
    ],
)
def test_bad_input_is_one_error(change: dict[str, Any], named: str) -> None:
    given: dict[str, Any] = dict.fromkeys(NAMES, torch.zeros(1, 4, 2, 16))
    with pytest.raises(ValueError, match=named):
        rwkv7(**given | change)


def test_heads_that_are_too_wide_are_refused() -> None:
    x = torch.zeros(1, 4, 1, 200)
    with pytest.raises(ValueError, match="at most 128"):
        rwkv7(x, x, x, x, x, x)
    with pytest.raises(ValueError, match="kk must have shape"):
        rwkv7_step(torch.zeros(1, 1, 8, 8), *[torch.zeros(1, 1, 8)] * 4, x[0], x[0])
