"""Mamba-3: chunks and steps against the recurrence of the paper."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ssmprof_kernels.reference import mamba3, mamba3_scan, mamba3_sequential, mamba3_step
from ssmprof_kernels.reference.mamba3 import Weights
from torch import Tensor

BATCH, HEADS, WIDTH, STATES = 2, 4, 6, 10
CASES = [(1, 1, False), (1, 2, True), (3, 2, False), (3, 4, True), (2, 1, None)]


def inputs(length: int, rank: int, groups: int, gated: bool | None) -> tuple[list[Tensor], Any]:
    """`gated` None: no gate, and the ranks stay apart."""
    random = torch.Generator().manual_seed(rank * 10 + groups)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    tokens = [
        *(draw(BATCH, length, rank, groups, STATES) for _ in range(2)),
        draw(BATCH, length, HEADS, WIDTH),
        *(draw(BATCH, length, HEADS) for _ in range(3)),
        draw(BATCH, length, 3),
    ]
    mixed = [draw(HEADS, rank, WIDTH) for _ in range(3)] if rank > 1 else [None] * 3
    if gated is None:
        mixed[2] = None
    weights = Weights(
        draw(HEADS), draw(HEADS, rank, STATES), draw(HEADS, rank, STATES), draw(HEADS), *mixed
    )
    return tokens, {"weights": weights, "z": draw(BATCH, length, HEADS, WIDTH) if gated else None}


@pytest.mark.parametrize(("rank", "groups", "gated"), CASES)
@pytest.mark.parametrize("length", [1, 7, 64, 150])
def test_chunks_equal_the_recurrence(length: int, rank: int, groups: int, gated: bool | None):
    tokens, options = inputs(length, rank, groups, gated)
    expected = mamba3_sequential(*tokens, **options)
    found = mamba3_scan(*tokens, **options)
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("rank", "groups", "gated"), CASES)
@pytest.mark.parametrize("read", [0, 1, 33])
def test_steps_go_on_from_the_state_of_a_prompt(
    read: int, rank: int, groups: int, gated: bool | None
):
    tokens, options = inputs(40, rank, groups, gated)
    expected = mamba3_sequential(*tokens, **options)
    z = options.pop("z")
    state = torch.zeros(BATCH, HEADS * (WIDTH * STATES + rank * STATES + WIDTH))
    if read:
        head = [t[:, :read] for t in tokens]
        gates = None if z is None else z[:, :read]
        _, state = mamba3_scan(*head, **options, z=gates, return_final_state=True)
    for token in range(read, 40):
        now = [t[:, token] for t in tokens]
        y = mamba3_step(state, *now, **options, z=None if z is None else z[:, token])
        torch.testing.assert_close(y.double(), expected[:, token], rtol=1e-3, atol=1e-4)


def test_many_segments_equal_one_after_the_other():
    """2,048 tokens of rank 1 are one segment; states and angles go over its end."""
    tokens, options = inputs(2100, 1, 1, None)
    whole, last = mamba3_scan(*tokens, **options, return_final_state=True)
    head, state = mamba3_scan(*[t[:, :1000] for t in tokens], **options, return_final_state=True)
    tail, end = mamba3_scan(
        *[t[:, 1000:] for t in tokens], **options, initial_state=state, return_final_state=True
    )
    torch.testing.assert_close(torch.cat([head, tail], 1), whole, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(end, last, rtol=1e-3, atol=1e-3)


def test_how_many_chunks_are_computed_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    tokens, options = inputs(150, 3, 2, True)
    whole = mamba3_scan(*tokens, **options)
    monkeypatch.setattr(mamba3, "CPU_CHUNKS", mamba3.CHUNKS)
    torch.testing.assert_close(mamba3_scan(*tokens, **options), whole, rtol=1e-4, atol=1e-5)
