"""Device code of several tokens per sequence: the state of a tile stays in registers between them.

Promises: the arithmetic of `kernel`, token after token, the state in fp32 until the last one; a
slot below 0 or `pad_index` is neither read nor written. Meaning of the arguments: `drafts`.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from ssmprof_kernels.device.math import LOG2E, exp2, finite_rate, silu, softplus
from ssmprof_kernels.device.overlap import let_next_start


class Slots(NamedTuple):
    """Where states are: slots that are read and written, bounds of the sequences, how many drafts
    of each were accepted."""

    old: Any
    new: Any
    cu: Any
    accepted: Any


class Table(NamedTuple):
    """Strides of a table of slots (n,T)."""

    n: int
    t: int


class Order(NamedTuple):
    """Which of `Slots` are given. EACH: the state is kept after every token, not only the last."""

    OLD: bool
    NEW: bool
    PACKED: bool
    EACH: bool


@triton.jit
def _slot(table_ptr, steps, n, t, pad_index):
    """A slot, and whether it is one."""
    index = tl.load(table_ptr + n * steps.n + t * steps.t)
    return index.to(tl.int64), (index >= 0) & (index != pad_index)


@triton.jit
def ssmprof_scan_state_drafts(
    state_ptr, x_ptr, dt_ptr, A_ptr, B_ptr, C_ptr, D_ptr, z_ptr, bias_ptr, y_ptr, slots, pad_index,
    rows, old_steps, new_steps, INNER: tl.constexpr, SHAPE: tl.constexpr, FORM: tl.constexpr,
    ORDER: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    let_next_start(EARLY)
    BLOCK_P: tl.constexpr = SHAPE.BLOCK_P
    BLOCK_N: tl.constexpr = SHAPE.BLOCK_N
    TILES: tl.constexpr = (SHAPE.P + BLOCK_P - 1) // BLOCK_P
    pid = tl.program_id(0)
    head = ((pid // TILES) % SHAPE.H).to(tl.int64)
    sequence = (pid // (TILES * SHAPE.H)).to(tl.int64)
    group = head // SHAPE.PER_GROUP
    p = (pid % TILES) * BLOCK_P + tl.arange(0, BLOCK_P)
    n = tl.arange(0, BLOCK_N)
    m_p = p < SHAPE.P
    m_n = n < SHAPE.N
    m = m_p[:, None] & m_n[None, :]
    first = sequence
    end = sequence + 1
    if ORDER.PACKED:
        first = tl.load(slots.cu + sequence).to(tl.int64)
        end = tl.load(slots.cu + sequence + 1).to(tl.int64)
    tiles = state_ptr + head * INNER.state[0] + p[:, None].to(tl.int64) * INNER.state[1]
    tiles += n[None, :] * INNER.state[2]
    # Where the last draft that was accepted has left its state.
    at = sequence * 0
    if ORDER.EACH:
        at = tl.maximum(tl.load(slots.accepted + sequence).to(tl.int64) - 1, 0)
    old = sequence
    live = first < end
    if ORDER.OLD:
        old, there = _slot(slots.old, old_steps, sequence, at, pad_index)
        live = live & there
    h = tl.load(tiles + old * rows.state, m & live, 0.0).to(tl.float32)
    A = A_ptr + head * INNER.A[0] + p[:, None] * INNER.A[1] + n[None, :] * INNER.A[2]
    A = finite_rate(tl.load(A, m, 0.0).to(tl.float32))
    if FORM.D:
        D = tl.load(D_ptr + head * INNER.D[0] + p * INNER.D[1], m_p, 0.0).to(tl.float32)
    if FORM.BIAS:
        bias = tl.load(bias_ptr + head * INNER.bias[0] + p * INNER.bias[1], m_p, 0.0)
        bias = bias.to(tl.float32)
    for row in range(first, end):
        x = tl.load(x_ptr + row * rows.x + head * INNER.x[0] + p * INNER.x[1], m_p, 0.0)
        dt = tl.load(dt_ptr + row * rows.dt + head * INNER.dt[0] + p * INNER.dt[1], m_p, 0.0)
        B = tl.load(B_ptr + row * rows.B + group * INNER.B[0] + n * INNER.B[1], m_n, 0.0)
        C = tl.load(C_ptr + row * rows.C + group * INNER.C[0] + n * INNER.C[1], m_n, 0.0)
        x = x.to(tl.float32)
        dt = dt.to(tl.float32)
        if FORM.BIAS:
            dt += bias
        if FORM.SOFTPLUS:
            dt = softplus(dt)
        decay = exp2((dt * LOG2E)[:, None] * A)
        h = h * decay + (dt * x)[:, None] * B.to(tl.float32)[None, :]
        if ORDER.EACH:
            new, kept = _slot(slots.new, new_steps, sequence, row - first, pad_index)
            h_new = h.to(state_ptr.dtype.element_ty)
            tl.store(tiles + new * rows.state, h_new, m & live & kept)
        y = tl.sum(h * C.to(tl.float32)[None, :], 1)
        if FORM.D:
            y += D * x
        if FORM.Z:
            z = tl.load(z_ptr + row * rows.z + head * INNER.z[0] + p * INNER.z[1], m_p, 0.0)
            y *= silu(z.to(tl.float32))
        y = tl.where(live, y, 0.0).to(y_ptr.dtype.element_ty)
        tl.store(y_ptr + row * rows.y + head * INNER.y[0] + p * INNER.y[1], y, m_p)
    if not ORDER.EACH:
        new = old
        kept = live
        if ORDER.NEW:
            new, kept = _slot(slots.new, new_steps, sequence, sequence * 0, pad_index)
            kept = kept & live
        tl.store(tiles + new * rows.state, h.to(state_ptr.dtype.element_ty), m & kept)
