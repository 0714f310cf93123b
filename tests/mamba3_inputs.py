"""Small inputs of Mamba-3, as `reference.mamba3` names them."""

from __future__ import annotations

from typing import Any

import torch
from ssmprof_kernels.reference.mamba3 import Weights

HEADS, WIDTH, STATES, ANGLES = 4, 6, 10, 3


def tokens(
    length: int | None, rank: int, groups: int, dtype: torch.dtype, batch: int = 2
) -> list[torch.Tensor]:
    """q, k, v, a, dt, trap, angles of so many tokens, of one without L if None."""
    random = torch.Generator().manual_seed(rank * 10 + groups)
    lead = (batch,) if length is None else (batch, length)
    shapes = [
        *[(rank, groups, STATES)] * 2, (HEADS, WIDTH), *[(HEADS,)] * 3, (ANGLES,)
    ]  # fmt: skip
    return [torch.randn(*lead, *shape, generator=random).to(dtype) for shape in shapes]


def weights(rank: int, *, summed: bool = True) -> Weights:
    """Biases and skip, and matrices of ranks where there are several."""
    random = torch.Generator().manual_seed(rank)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    mixed: list[Any] = [None] * 3
    if rank > 1:
        mixed = [draw(HEADS, rank, WIDTH) for _ in range(3)]
        mixed[2] = mixed[2] if summed else None
    biases = [draw(HEADS, rank, STATES) for _ in range(2)]
    return Weights(draw(HEADS), *biases, draw(HEADS), *mixed)


def state(rank: int, batch: int = 2, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A state, keys and a value."""
    size = HEADS * (WIDTH * STATES + rank * STATES + WIDTH)
    return torch.randn(batch, size, generator=torch.Generator().manual_seed(9)).to(dtype)
