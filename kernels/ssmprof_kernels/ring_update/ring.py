"""Inputs of the tokens that a state has not seen yet.

A ring of W places keeps step sizes, inputs and B of the last W tokens. The state a tile of rows
stands for is the one in memory and, applied to it in their order, the `filled` tokens before the
place `at`; once W of them are there the tile is rebuilt and written.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Rows of a state that one mark speaks for; rows of the widest tile a program takes.
ROWS, TILE = 8, 64


class Ring(NamedTuple):
    """Of the heads form: a group of channels (Mamba-1) is a head as wide as the group.

    `x` (slots, W, H, P), `delta` (slots, W, H) or (slots, W, H, P), fp32, `B` (slots, W, G, N), and
    `marks` (slots, H, ceil(P / 8), 2), int32: the place of the next token, and how many tokens
    before it each 8 rows of the state have not seen.
    """

    x: Tensor
    delta: Tensor
    B: Tensor
    marks: Tensor

    @property
    def tokens(self) -> int:
        """W."""
        return self.x.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of all four."""
        return sum(t.numel() * t.element_size() for t in self)


def new_ring(
    state: Tensor,
    x: Tensor,
    B: Tensor,
    *,
    tied: bool,
    tokens: int = 16,
    staggered: bool = True,
) -> Ring:
    """An empty ring for states (slots, H, P, N) or (slots, D, N), inputs and B like these.

    Args:
        state, x, B: as in `selective_state_update`; dtypes, device and sizes count, values do not.
        tied: one step size per head (Mamba-2), instead of one per row (Mamba-1).
        tokens: W.
        staggered: heads begin at different distances from their next writing, as if tokens without
            effect had been read, so that every step takes the same time; else all write together.

    Returns:
        A ring, zero but for its marks.
    """
    if tokens < 2:
        raise ValueError(f"a ring has at least 2 places, got {tokens}")
    groups = B.shape[1] if B.dim() == 3 else 1
    slots, states = state.shape[0], state.shape[-1]
    heads, width = (groups, state.shape[1] // groups) if state.dim() == 3 else state.shape[1:3]
    inner = (slots, tokens, heads)
    of_step = inner if tied else (*inner, width)
    ring = Ring(
        x.new_empty(*inner, width),
        torch.empty(of_step, dtype=torch.float32, device=state.device),
        B.new_empty(slots, tokens, groups, states),
        torch.empty(slots, heads, -(-width // ROWS), 2, dtype=torch.int32, device=state.device),
    )
    restart(ring, staggered=staggered)
    return ring


def restart(ring: Ring, *, staggered: bool = True) -> None:
    """Forget all tokens, in place: the ring of a state that has seen everything."""
    slots, heads, tiles, _ = ring.marks.shape
    for tensor in ring:
        tensor.zero_()
    if staggered:
        # Rows of one tile always write together.
        tile = torch.arange(tiles, device=ring.marks.device) * ROWS // TILE
        first = torch.arange(slots * heads, device=ring.marks.device).view(slots, heads, 1)
        # Of few heads, as Mamba-1 has, tiles take turns, else heads.
        turn = first * -(-tiles * ROWS // TILE) + tile if heads < ring.tokens else first
        ring.marks[..., 1] = turn % ring.tokens
