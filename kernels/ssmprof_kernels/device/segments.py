"""Sequences cut into segments of `T` tokens: which one a program works on, and tiles of its tokens.

Promises: one grid for rows of equal length and for packed sequences of lengths that only the device
knows; offsets that can pass 2**31 are 64 bits wide.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

#: Sizes whose value must not make a kernel compile again; K is a segment's length in chunks.
UNSPECIALISED = [
    *("L", "H", "PER_GROUP", "K", "S", "count", "steps", "tasks", "dt_min", "dt_max"),
]


class Tokens(NamedTuple):
    """Strides of (B, L, H, K)."""

    b: int
    l: int
    h: int
    k: int


class Token(NamedTuple):
    """Strides of one token, (B, H, K)."""

    b: int
    h: int
    k: int


class State(NamedTuple):
    """Strides of a state (B, H, K, V)."""

    b: int
    h: int
    k: int
    v: int


@triton.jit
def end_at(cu_ptr, index, L):
    """cu[index], and L where it lies behind the tokens there are."""
    return tl.minimum(tl.load(cu_ptr + index).to(tl.int32), L)


@triton.jit
def locate(sid, cu_ptr, count, steps, L, T, S, VARLEN: tl.constexpr):
    """Segment slot -> (sequence, first token, length, first slot of the sequence)."""
    if VARLEN:
        # Slots of sequence i begin at cu[i] // T + i: at least ceil(length / T) apart, and known
        # without a sum over the sequences before it.
        lo = 0
        hi = count
        for _ in range(steps):
            mid = (lo + hi) // 2
            right = (end_at(cu_ptr, mid, L) // T + mid <= sid) & (mid < count)
            lo = tl.where(right, mid, lo)
            hi = tl.where(right, hi, mid)
        start = end_at(cu_ptr, lo, L)
        length = end_at(cu_ptr, lo + 1, L) - start
        return lo, start, length, start // T + lo
    else:
        seq = sid // S
        return seq, 0, L, seq * S


@triton.jit
def tile(ref, base, row, column, stride_row, stride_col, mask, Q: tl.constexpr, W: tl.constexpr,
         TMA: tl.constexpr, MASK: tl.constexpr):  # fmt: skip
    """Q x W tile: through a descriptor at (row, column), else by pointers from `base`."""
    if TMA:
        tile = ref.load([row, column])
    else:
        at = base + tl.arange(0, Q)[:, None] * stride_row + tl.arange(0, W)[None, :] * stride_col
        if MASK:
            tile = tl.load(at, mask=mask, other=0.0)
        else:
            tile = tl.load(at)
    return tile


def slots(batch: int, length: int, tokens: int, packed: int | None) -> int:
    """Places of segments of `tokens`: those of `batch` rows of `length`, or of `packed` sequences
    that share one row and whose lengths nobody knows."""
    return batch * -(-length // tokens) if packed is None else length // tokens + packed


@triton.jit
def first_slot(seq, start, T, S, VARLEN: tl.constexpr):
    """Place of a sequence's first segment, see `locate`."""
    if VARLEN:
        return start // T + seq
    else:
        return seq * S


@triton.jit
def some(base, rows, columns, steps, mask):
    """Tile (rows, columns) from the pointer `base`, 0 where masked; steps `l` and `k`."""
    at = base + rows[:, None].to(tl.int64) * steps.l + columns[None, :] * steps.k
    return tl.load(at, mask=mask, other=0.0)


@triton.jit
def zeros_from(y_ptr, low, high, head, columns, H, V, C: tl.constexpr):
    """y (L, H, V) is 0 for the tokens low .. high of one head and some columns."""
    for token in range(low, high, C):
        row = token + tl.arange(0, C)[:, None]
        at = y_ptr + (row.to(tl.int64) * H + head) * V + columns[None, :]
        nothing = tl.zeros([C, columns.shape[0]], y_ptr.dtype.element_ty)
        tl.store(at, nothing, mask=(row < high) & (columns[None, :] < V))
