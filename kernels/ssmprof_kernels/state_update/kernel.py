"""Device code of the decode step of Mamba-1 and Mamba-2: a tile of one head's state, in place.

Promises: each state element is read and written once, all loads are issued before the first use,
a row whose index is below 0 or `pad_index` changes nothing. With `OVERLAP` it waits for the kernel
before, and brings its tile of the state into L2 until then (see `device.overlap`). Formula and
shapes: `op`.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from ssmprof_kernels.device.math import LOG2E, exp2, finite_rate, silu, softplus
from ssmprof_kernels.device.overlap import await_previous, let_next_start, prefetch_span


class Rows(NamedTuple):
    """Strides between rows (slots of the state); they may change with what a row is cut out of."""

    state: int
    x: int
    dt: int
    B: int
    C: int
    z: int
    y: int


class Inner(NamedTuple):
    """Strides inside a row, by the letters of the axes; constants, as the sizes are, so that
    divisions are multiplications. 0 where the tensor is not given."""

    state: tuple[int, int, int]
    x: tuple[int, int]
    dt: tuple[int, int]
    A: tuple[int, int, int]
    B: tuple[int, int]
    C: tuple[int, int]
    D: tuple[int, int]
    z: tuple[int, int]
    bias: tuple[int, int]
    y: tuple[int, int]


class Shape(NamedTuple):
    """Heads, rows of a head, states, heads that share one B and C; the tile of a program."""

    H: int
    P: int
    N: int
    PER_GROUP: int
    BLOCK_P: int
    BLOCK_N: int


class Form(NamedTuple):
    """What is given, and how the step size and its decay are formed. TIED: one decay per head
    (Mamba-2); ZERO_PADS: rows that are skipped get a y of 0."""

    D: bool
    Z: bool
    BIAS: bool
    INDEX: bool
    SOFTPLUS: bool
    TIED: bool
    ZERO_PADS: bool


class Start(NamedTuple):
    """Whether the next kernel may start early, this one started early, and it brings its state
    nearer until the one before has ended."""

    EARLY: bool
    OVERLAP: bool
    AHEAD: bool


@triton.jit
def _get(ptrs, mask, MASKED: tl.constexpr):
    """Load, 0 where masked."""
    if MASKED:
        value = tl.load(ptrs, mask=mask, other=0.0)
    else:
        value = tl.load(ptrs)
    return value


@triton.jit
def _put(ptrs, value, mask, MASKED: tl.constexpr):
    value = value.to(ptrs.dtype.element_ty)
    if MASKED:
        tl.store(ptrs, value, mask=mask)
    else:
        tl.store(ptrs, value)


@triton.jit
def _per_head(ptr, p, mask, step, TIED: tl.constexpr, MASKED: tl.constexpr):
    """A number of each row of a head, or the one that all of them share."""
    if TIED:
        value = tl.load(ptr)
    else:
        value = _get(ptr + p * step, mask, MASKED)
    return value


@triton.jit
def ssmprof_scan_state_update(
    state_ptr, x_ptr, dt_ptr, A_ptr, B_ptr, C_ptr, D_ptr, z_ptr, bias_ptr, index_ptr, y_ptr,
    pad_index, rows, INNER: tl.constexpr, SHAPE: tl.constexpr, FORM: tl.constexpr,
    START: tl.constexpr,
):  # fmt: skip
    let_next_start(START.EARLY)
    P: tl.constexpr = SHAPE.P
    N: tl.constexpr = SHAPE.N
    BLOCK_P: tl.constexpr = SHAPE.BLOCK_P
    TIED: tl.constexpr = FORM.TIED
    TILES: tl.constexpr = (P + BLOCK_P - 1) // BLOCK_P
    RAGGED_P: tl.constexpr = P % BLOCK_P != 0
    RAGGED_N: tl.constexpr = N != SHAPE.BLOCK_N
    RAGGED: tl.constexpr = RAGGED_P or RAGGED_N
    MASKED: tl.constexpr = RAGGED or FORM.INDEX
    pid = tl.program_id(0)
    tile = pid % TILES
    head = ((pid // TILES) % SHAPE.H).to(tl.int64)
    row = (pid // (TILES * SHAPE.H)).to(tl.int64)
    group = head // SHAPE.PER_GROUP
    p = tile * BLOCK_P + tl.arange(0, BLOCK_P)
    n = tl.arange(0, SHAPE.BLOCK_N)
    m_p = p < P
    m_n = n < N
    m = m_p[:, None] & m_n[None, :]
    state_ptr += head * INNER.state[0]
    if START.AHEAD:
        prefetch_span(
            state_ptr + row * rows.state + (tile * BLOCK_P).to(tl.int64) * N,
            BLOCK_P * N * state_ptr.dtype.element_ty.primitive_bitwidth // 8,
        )
    await_previous(START.OVERLAP)
    # All loads come before the first use: at small batches the step is one memory latency.
    slot = row
    live = True
    if FORM.INDEX:
        index = tl.load(index_ptr + row)
        live = (index >= 0) & (index != pad_index)
        slot = index.to(tl.int64)
    ptrs = state_ptr + slot * rows.state + p[:, None].to(tl.int64) * INNER.state[1]
    ptrs += n[None, :] * INNER.state[2]
    state = _get(ptrs, m & live, MASKED)
    # Where A, dt and the bias are tied over a head (Mamba-2) one scalar decay serves its tile.
    A_ptr += head * INNER.A[0]
    if TIED:
        A = tl.load(A_ptr)
    else:
        A = _get(A_ptr + p[:, None] * INNER.A[1] + n[None, :] * INNER.A[2], m, RAGGED)
    x = _get(x_ptr + row * rows.x + head * INNER.x[0] + p * INNER.x[1], m_p, RAGGED_P)
    dt_ptr += row * rows.dt + head * INNER.dt[0]
    dt = _per_head(dt_ptr, p, m_p, INNER.dt[1], TIED, RAGGED_P)
    B = _get(B_ptr + row * rows.B + group * INNER.B[0] + n * INNER.B[1], m_n, RAGGED_N)
    C = _get(C_ptr + row * rows.C + group * INNER.C[0] + n * INNER.C[1], m_n, RAGGED_N)
    if FORM.Z:
        z = _get(z_ptr + row * rows.z + head * INNER.z[0] + p * INNER.z[1], m_p, RAGGED_P)
    if FORM.D:
        D = _get(D_ptr + head * INNER.D[0] + p * INNER.D[1], m_p, RAGGED_P).to(tl.float32)
    if FORM.BIAS:
        bias_ptr += head * INNER.bias[0]
        bias = _per_head(bias_ptr, p, m_p, INNER.bias[1], TIED, RAGGED_P).to(tl.float32)
    A = finite_rate(A.to(tl.float32))
    dt = dt.to(tl.float32)
    x = x.to(tl.float32)
    if FORM.BIAS:
        dt += bias
    if FORM.SOFTPLUS:
        dt = softplus(dt)
    dx = dt * x
    exponent = dt * LOG2E
    if TIED:
        decay = exp2(exponent * A)
    else:
        decay = exp2(exponent[:, None] * A)
    # Which product is rounded is said, so that `ring_update` can have the same bits.
    new = tl.fma(state.to(tl.float32), decay, dx[:, None] * B.to(tl.float32)[None, :])
    _put(ptrs, new, m & live, MASKED)
    y = tl.sum(new * C.to(tl.float32)[None, :], 1)
    if FORM.D:
        y += D * x
    if FORM.Z:
        y *= silu(z.to(tl.float32))
    y_ptrs = y_ptr + row * rows.y + head * INNER.y[0] + p * INNER.y[1]
    if FORM.INDEX and FORM.ZERO_PADS:
        _put(y_ptrs, tl.where(live, y, 0.0), m_p, RAGGED_P)
    else:
        _put(y_ptrs, y, m_p & live, RAGGED_P or FORM.INDEX)
