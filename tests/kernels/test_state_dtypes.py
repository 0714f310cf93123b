"""Decode states and prefill states of another dtype than the activations: every pair of floats."""

from __future__ import annotations

import itertools

import pytest
import torch
from ssmprof_kernels import OPS

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
PAIRS = list(itertools.product(FLOATS, FLOATS))


def near(got: torch.Tensor, want: torch.Tensor, dtype: torch.dtype) -> None:
    """Equal but for the last place: Triton's interpreter truncates to bf16, hardware rounds."""
    assert got.dtype == want.dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(got.double(), want.double(), rtol=2 * eps, atol=4 * eps)


@pytest.mark.parametrize(("dtype", "state_dtype"), PAIRS)
@pytest.mark.parametrize("tokens", [None, 1, 3])
@pytest.mark.parametrize("ring", [False, True])
def test_a_convolution_step_takes_a_state_of_any_dtype(dtype, state_dtype, tokens, ring):
    g = torch.Generator().manual_seed(0)
    shape = (4, 19) if tokens is None else (4, tokens, 19)
    x = torch.randn(*shape, generator=g).to(dtype)
    state = torch.randn(6, 19, 3, generator=g).to(state_dtype)
    weight, bias = torch.randn(19, 4, generator=g), torch.randn(19, generator=g)
    more = {
        "state_indices": torch.tensor([5, -1, 0, 2], dtype=torch.int32),
        "cache_seqlens": torch.tensor([0, 1, 7, 30], dtype=torch.int32) if ring else None,
    }
    twin, wide = state.clone(), state.double()
    y = OPS["causal_conv1d_update"].kernel(x, state, weight, bias, **more)
    near(y, OPS["causal_conv1d_update"].plain(x, twin, weight, bias, **more), dtype)
    near(state, twin, state_dtype)
    OPS["causal_conv1d_update"].sequential(x.double(), wide, weight, bias, **more)
    near(twin.double(), wide, state_dtype)


@pytest.mark.parametrize(("dtype", "state_dtype"), PAIRS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_convolution_takes_an_initial_state_of_any_dtype(dtype, state_dtype, packed):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1 if packed else 2, 21, 19, generator=g).to(dtype)
    init = torch.randn(2, 19, 3, generator=g).to(state_dtype)
    weight = torch.randn(19, 4, generator=g)
    cu = torch.tensor([0, 2, 21], dtype=torch.int32) if packed else None
    more = {"initial_state": init, "return_final_state": True, "cu_seqlens": cu}
    y, final = OPS["causal_conv1d"].kernel(x, weight, **more)
    plain, state = OPS["causal_conv1d"].plain(x, weight, **more)
    # A tap that is rounded away changes every product of it.
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(y.double(), plain.double(), rtol=4 * eps, atol=16 * eps)
    near(final, state, dtype)


@pytest.mark.parametrize(("dtype", "state_dtype"), PAIRS)
def test_a_step_takes_a_state_of_any_dtype(dtype, state_dtype):
    g = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.randn(*shape, generator=g).to(dtype)

    given = {
        "x": rand(2, 3, 8), "dt": rand(2, 3).abs(), "A": -torch.rand(3, generator=g),
        "B": rand(2, 1, 16), "C": rand(2, 1, 16), "z": rand(2, 3, 8),
    }  # fmt: skip
    state = torch.randn(2, 3, 8, 16, generator=g).to(state_dtype)
    twin = state.clone()
    y = OPS["selective_state_update"].kernel(state, **given)
    plain = OPS["selective_state_update"].plain(twin, **given)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(y.double(), plain.double(), rtol=4 * eps, atol=16 * eps)
    near(state, twin, state_dtype)


@pytest.mark.parametrize(("dtype", "state_dtype"), PAIRS)
@pytest.mark.parametrize("op", ["ssd_scan", "selective_scan"])
def test_a_scan_takes_and_gives_a_state_of_any_dtype(op, dtype, state_dtype):
    g = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.randn(*shape, generator=g).to(dtype)

    if op == "ssd_scan":
        given = {"x": rand(1, 40, 2, 16), "dt": rand(1, 40, 2).abs(), "B": rand(1, 40, 1, 16)}
        given |= {"C": rand(1, 40, 1, 16), "A": -torch.rand(2, generator=g)}
        start = torch.randn(1, 2, 16, 16, generator=g).to(state_dtype)
    else:
        given = {"u": rand(1, 9, 5), "dt": rand(1, 9, 5).abs(), "B": rand(1, 9, 4)}
        given |= {"C": rand(1, 9, 4), "A": -torch.rand(5, 4, generator=g)}
        start = torch.randn(1, 5, 4, generator=g).to(state_dtype)
    y, h = OPS[op].kernel(**given, initial_state=start, return_final_state=state_dtype)
    plain, state = OPS[op].plain(**given, initial_state=start, return_final_state=state_dtype)
    assert y.dtype == dtype
    assert h.dtype == state.dtype == state_dtype
    for got, want, kind in ((y, plain, dtype), (h, state, state_dtype)):
        bound = 2 * max(torch.finfo(kind).eps, torch.finfo(dtype).eps) + 1e-6
        assert (got.double() - want.double()).norm() <= bound * want.double().norm()
