"""The Triton kernels of the short causal convolution, and the pieces its update shares.

Promises: one program per tile of tokens and channels; with U > 1 a thread takes U tokens in a row
and reads each input once for all of them. Shapes and formula: `op`.
"""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportAssignmentType=false

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from ssmprof_kernels.device.math import silu_by_rsqrt


class Tokens(NamedTuple):
    """Strides of (B,L,D)."""

    b: int
    l: int
    d: int


class Taps(NamedTuple):
    """Strides of a filter (D,W)."""

    d: int
    w: int


class State(NamedTuple):
    """Strides of a state (n,D,W-1)."""

    b: int
    d: int
    w: int


class Ids(NamedTuple):
    """Strides of sequence ids (B,L)."""

    b: int
    l: int


class Form(NamedTuple):
    """Taps of the filter, and what is given or wanted. SEARCH: steps of the search for a token's
    sequence where sequences are packed."""

    W: int
    SILU: bool
    BIAS: bool
    INIT: bool
    FINAL: bool
    IDS: bool = False
    PACKED: bool = False
    SEARCH: int = 0


class Tile(NamedTuple):
    """Tokens and channels of a program, and consecutive tokens a thread takes at once."""

    L: int
    D: int
    U: int


@triton.jit
def activate(acc, SILU: tl.constexpr):
    """silu(acc) in fp32, or acc itself."""
    if SILU:
        acc = silu_by_rsqrt(acc)
    return acc


@triton.jit
def load_weights(w_ptr, d, mask, steps, W: tl.constexpr):
    """The W columns of a (D,W) filter for channels `d`, as fp32; `steps` are its `Taps`."""
    taps = ()
    for j in tl.static_range(W):
        taps = taps + (tl.load(w_ptr + d * steps.d + j * steps.w, mask, 0.0).to(tl.float32),)
    return taps


@triton.jit
def _sequence_of(cu_ptr, t, n_sequences, SEARCH: tl.constexpr):
    """Index n with cu[n] <= t < cu[n+1], per token; empty sequences are stepped over."""
    low = tl.zeros_like(t).to(tl.int32)
    high = low + n_sequences
    for _ in tl.static_range(SEARCH):
        middle = (low + high) // 2
        right = tl.load(cu_ptr + middle) <= t
        low = tl.where(right, middle, low)
        high = tl.where(right, high, middle)
    return low


@triton.jit
def _end_of_last(ids_ptr, first, end, stride, BLOCK: tl.constexpr):
    """First token behind the last one of first .. end whose id is no padding; `first` if none."""
    at = end
    found = first
    while (at > first) & (found == first):
        at -= BLOCK
        t = at + tl.arange(0, BLOCK)
        ids = tl.load(ids_ptr + t.to(tl.int64) * stride, (t >= first) & (t < end), -1)
        found = tl.maximum(first, tl.max(tl.where(ids >= 0, t + 1, first), 0))
    return found


@triton.jit
def final_state(
    x_ptr, init_ptr, ids_ptr, cu_ptr, final_ptr, pid, length, dim, x_steps, init_steps, ids_steps,
    FORM: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The last W-1 inputs of one sequence and tile of channels."""
    W: tl.constexpr = FORM.W
    n_d = tl.cdiv(dim, BLOCK_D)
    n = (pid // n_d).to(tl.int64)
    d = (pid % n_d) * BLOCK_D + tl.arange(0, BLOCK_D)
    in_d = d < dim
    if FORM.PACKED:
        first = tl.minimum(tl.load(cu_ptr + n), length)
        end = tl.minimum(tl.load(cu_ptr + n + 1), length)
        row = n * 0
    else:
        first = 0
        end = length
        row = n
    d64 = d.to(tl.int64)
    if FORM.IDS:
        end = _end_of_last(ids_ptr + row * ids_steps.b, first, end, ids_steps.l, 256)
    keep = end > first
    for behind in tl.static_range(W - 1):
        t = end - 1 - behind
        inside = t >= first
        value = tl.load(
            x_ptr + row * x_steps.b + t.to(tl.int64) * x_steps.l + d64 * x_steps.d,
            in_d & inside, 0.0,
        )  # fmt: skip
        if FORM.INIT:
            older = tl.load(
                init_ptr + n * init_steps.b + d64 * init_steps.d
                + (t - first + W - 1) * init_steps.w,
                in_d & (t < first), 0.0,
            )  # fmt: skip
            value = tl.where(inside, value, older.to(value.dtype))
        if FORM.IDS:
            last = ids_ptr + row * ids_steps.b + (end - 1) * ids_steps.l
            this = ids_ptr + row * ids_steps.b + tl.maximum(t, first) * ids_steps.l
            some = end > first
            keep = keep & (tl.load(this, some, 0) == tl.load(last, some, 0))
            value = tl.where(keep | (end == first), value, 0.0)
        tl.store(final_ptr + (n * dim + d64) * (W - 1) + (W - 2 - behind), value, in_d)


@triton.jit
def ssmprof_conv_tokens(
    x_ptr, w_ptr, bias_ptr, init_ptr, ids_ptr, cu_ptr, y_ptr, final_ptr,
    length, dim, n_main, n_sequences, x_steps, w_steps, init_steps, ids_steps, y_steps,
    FORM: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Any strides. The first `n_main` programs write y, those behind them final states."""
    W: tl.constexpr = FORM.W
    U: tl.constexpr = TILE.U
    pid = tl.program_id(0)
    if FORM.FINAL:
        if pid >= n_main:
            final_state(
                x_ptr, init_ptr, ids_ptr, cu_ptr, final_ptr, pid - n_main, length, dim, x_steps,
                init_steps, ids_steps, FORM, TILE.D,
            )  # fmt: skip
            return
    # Channels run fastest over the grid: neighbours in time of launch are neighbours in memory.
    n_d = tl.cdiv(dim, TILE.D)
    n_l = tl.cdiv(length, TILE.L)
    d = (pid % n_d) * TILE.D + tl.arange(0, TILE.D)
    rest = pid // n_d
    row = (rest // n_l).to(tl.int64)
    ROWS: tl.constexpr = TILE.L // U
    t = (rest % n_l) * TILE.L + tl.arange(0, ROWS) * U
    in_d = d < dim
    d64 = d.to(tl.int64)
    t64 = t.to(tl.int64)
    x_tile = x_ptr + row * x_steps.b + t64[:, None] * x_steps.l + d64[None, :] * x_steps.d
    y_tile = y_ptr + row * y_steps.b + t64[:, None] * y_steps.l + d64[None, :] * y_steps.d

    first = tl.zeros_like(t)
    n = row
    if FORM.PACKED:
        n = _sequence_of(cu_ptr, tl.minimum(t, length - 1), n_sequences, FORM.SEARCH)
        first = tl.load(cu_ptr + n)
        n = n.to(tl.int64)[:, None]
    same = t < length
    # Whether a token has a y; one outside of all sequences and padding have 0.
    counts = same
    if FORM.PACKED:
        counts = (t >= first) & (t < tl.load(cu_ptr + n_sequences))
    if FORM.IDS:
        mine = tl.load(ids_ptr + row * ids_steps.b + t64 * ids_steps.l, same, 0)
        counts = counts & (mine >= 0)

    # Rows of the tile: inputs -(W-1) .. U-1 relative to each thread's first token.
    values = ()
    for k in tl.static_range(U + W - 1):
        at = t - (W - 1 - k)
        if U == 1 and FORM.IDS and k < W - 1:
            # An id that differs anywhere on the way to this tap cuts it off; the walk goes from
            # the far tap to the near one, so each tap checks every token between.
            for s in tl.static_range(1, W - k):
                other = tl.load(
                    ids_ptr + row * ids_steps.b + tl.maximum(t64 - s, first) * ids_steps.l,
                    t < length, 0,
                )  # fmt: skip
                if s == 1:
                    same = other == mine
                else:
                    same = same & (other == mine)
        alive = (at >= first) & (at < length)
        if U == 1 and FORM.IDS and k < W - 1:
            alive = alive & same
        value = tl.load(x_tile - (W - 1 - k) * x_steps.l, alive[:, None] & in_d[None, :], 0.0)
        if FORM.INIT and k < W - 1:
            early = (at < first) & (t < length)
            if U == 1 and FORM.IDS:
                early = early & same
            older = tl.load(
                init_ptr + n * init_steps.b + d64[None, :] * init_steps.d
                + (at - first + W - 1)[:, None] * init_steps.w,
                early[:, None] & in_d[None, :], 0.0,
            )  # fmt: skip
            value = tl.where(early[:, None], older.to(value.dtype), value)
        values = values + (value.to(tl.float32),)

    taps = load_weights(w_ptr, d64, in_d, w_steps, W)
    if FORM.BIAS:
        bias = tl.load(bias_ptr + d, in_d, 0.0).to(tl.float32)
    for u in tl.static_range(U):
        acc = values[u] * taps[0][None, :]
        if FORM.BIAS:
            acc += bias[None, :]
        for j in tl.static_range(1, W):
            acc += values[u + j] * taps[j][None, :]
        acc = activate(acc, FORM.SILU)
        if FORM.PACKED or FORM.IDS:
            acc = tl.where(counts[:, None], acc, 0.0)
        mask = (t + u < length)[:, None] & in_d[None, :]
        tl.store(y_tile + u * y_steps.l, acc.to(y_ptr.dtype.element_ty), mask)
