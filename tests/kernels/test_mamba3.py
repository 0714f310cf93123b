"""Mamba-3 in Triton (interpreter here) against the walk token by token in fp64."""

from __future__ import annotations

import mamba3_inputs as inputs
import pytest
import torch
from agreement import check
from ssmprof_kernels import launch, mamba3_scan, mamba3_step, reference
from ssmprof_kernels.mamba3 import launches, plan

SMALL = {"Q": 16, "BP": 16, "num_warps": 1, "num_stages": 1, "sum_warps": 1, "sum_stages": 1}
FORMS = [(1, 1, False, True), (1, 2, True, True), (3, 2, True, True), (2, 1, False, False)]


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    # Chunks of 16 rows, and three segments: a few dozen tokens reach every branch.
    for name in ("DEFAULT", "RANKS", "FP32", "FP16"):
        small = {**getattr(plan, name), **SMALL, "S": 3}
        monkeypatch.setattr(plan, name, small)
    launch.forget()
    yield
    launch.forget()


def compare(length, rank, groups, gated, summed, dtype, *, stateful=False):
    tokens = inputs.tokens(length, rank, groups, dtype)
    weights = inputs.weights(rank, summed=summed)
    z = tokens[2].flip(1) if gated else None
    first = inputs.state(rank) if stateful else None
    given = {"weights": weights, "z": z, "initial_state": first}
    want, last = reference.mamba3_scan_sequential(*tokens, **given)
    plain, plain_last = reference.mamba3_scan(*tokens, **given, return_final_state=True)
    got, final = mamba3_scan(*tokens, **given, return_final_state=True)
    ulps = {torch.float32: 32.0, torch.float16: 4.0}[dtype]
    check("y", got, want, plain, precision=dtype, matrix_ulps=ulps)
    check("state", final, last, plain_last, precision=dtype, matrix_ulps=ulps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("rank", "groups", "gated", "summed"), FORMS)
def test_ranks_groups_and_gates_agree(rank, groups, gated, summed, dtype):
    compare(53, rank, groups, gated, summed, dtype, stateful=True)


@pytest.mark.parametrize("length", [1, 15, 16, 17, 70])
def test_every_length_agrees_from_nothing(length):
    compare(length, 1, 1, False, True, torch.float32)


def test_many_chunks_are_summed_by_a_launch_of_their_own(monkeypatch):
    monkeypatch.setattr(launches, "_FOLD", 2)
    compare(70, 1, 1, False, True, torch.float32)


def test_two_calls_joined_by_the_state_equal_one():
    tokens, weights = inputs.tokens(50, 1, 1, torch.float32), inputs.weights(1)
    whole, last = mamba3_scan(*tokens, weights=weights, return_final_state=True)
    for cut in (1, 16, 33):
        head, state = mamba3_scan(
            *[t[:, :cut] for t in tokens], weights=weights, return_final_state=True
        )
        tail, end = mamba3_scan(
            *[t[:, cut:] for t in tokens], weights=weights, initial_state=state,
            return_final_state=True,
        )  # fmt: skip
        torch.testing.assert_close(torch.cat([head, tail], 1), whole, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(end, last, rtol=1e-4, atol=1e-4)


def test_any_strides_agree():
    tokens, weights = inputs.tokens(20, 2, 2, torch.float32), inputs.weights(2)
    want = mamba3_scan(*tokens, weights=weights)
    apart = [torch.stack([t, t + 1], -1)[..., 0] for t in tokens]
    assert torch.equal(mamba3_scan(*apart, weights=weights), want)


def test_a_long_prompt_keeps_its_angles():
    # Angles near half a turn per token: a running sum that loses digits would show.
    tokens, weights = inputs.tokens(300, 1, 1, torch.float32, batch=1), inputs.weights(1)
    tokens[4] = tokens[4].abs() + 2
    want, _ = reference.mamba3_scan_sequential(*tokens, weights=weights)
    got = mamba3_scan(*tokens, weights=weights)
    check("y", got, want, reference.mamba3_scan(*tokens, weights=weights), matrix_ulps=64.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("rank", "groups", "gated", "summed"), FORMS)
def test_steps_agree(rank, groups, gated, summed, dtype):
    tokens, weights = inputs.tokens(None, rank, groups, dtype), inputs.weights(rank, summed=summed)
    z = tokens[2].flip(0) if gated else None
    state = inputs.state(rank)
    plain = state.clone()
    want, new = reference.mamba3_step_sequential(state, *tokens, weights=weights, z=z)
    got = mamba3_step(state, *tokens, weights=weights, z=z)
    other = reference.mamba3_step(plain, *tokens, weights=weights, z=z)
    check("y", got, want, other, precision=dtype)
    check("state", state, new, plain)


def test_a_prompt_and_then_steps_equal_one_prompt():
    tokens, weights = inputs.tokens(30, 3, 1, torch.float32), inputs.weights(3)
    whole = mamba3_scan(*tokens, weights=weights)
    _, state = mamba3_scan(*[t[:, :25] for t in tokens], weights=weights, return_final_state=True)
    for at in range(25, 30):
        y = mamba3_step(state, *[t[:, at] for t in tokens], weights=weights)
        torch.testing.assert_close(y, whole[:, at], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("at", "shape", "name"),
    [(1, (2, 5, 1, 1, 9), "k"), (3, (2, 5, 3), "a"), (6, (2, 5, 6), "angles"), (2, (2, 5, 4), "v")],
)
def test_a_wrong_argument_is_named(at, shape, name):
    tokens = inputs.tokens(5, 1, 1, torch.float32)
    tokens[at] = torch.zeros(shape)
    with pytest.raises(ValueError, match=f"{name} must have shape"):
        mamba3_scan(*tokens, weights=inputs.weights(1))
