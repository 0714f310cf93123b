"""The steps of a block in `gluon_kernel`: pointers, fetch, prepare, sum over lanes, finish.

Promises: each works on one block of BLOCK_T tokens; tokens from `left` on read as 0, get a step of
size 0 and are not stored.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportAssignmentType=false, reportOperatorIssue=false, reportReturnType=false

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from ssmprof_kernels.device.gluon_tools import (
    get,
    transposing_constraints,
    transposing_sum,
    widen,
)
from ssmprof_kernels.device.math import silu, softplus


@gluon.jit
def _keep_first(x, y):
    return x


@gluon.jit
def pointers(start, group, by, t_x, t_n, n, d, GATED: gl.constexpr, BLOCK_T: gl.constexpr):
    """Where the first block of u, dt, z, B, C lies, how far the next is, and where y of the block
    two before goes: stores trail."""
    tx64 = t_x.to(gl.int64)[:, None]
    tn64 = t_n.to(gl.int64)[:, None]
    u_ptrs = start.u + tx64 * by.u.t + d[None, :] * by.u.d
    dt_ptrs = start.dt + tx64 * by.dt.t + d[None, :] * by.dt.d
    z_ptrs = u_ptrs
    if GATED:
        z_ptrs = start.z + tx64 * by.z.t + d[None, :] * by.z.d
    n64 = n.to(gl.int64)[None, :]
    B_ptrs = start.B + group * by.B.g + tn64 * by.B.t + n64 * by.B.n
    C_ptrs = start.C + group * by.C.g + tn64 * by.C.t + n64 * by.C.n
    y_ptrs = start.y + (tx64 - 2 * BLOCK_T) * by.y.t + d[None, :] * by.y.d
    steps = (
        BLOCK_T * by.u.t,
        BLOCK_T * by.dt.t,
        BLOCK_T * (by.z.t if GATED else by.u.t),
        BLOCK_T * by.B.t,
        BLOCK_T * by.C.t,
    )
    return (u_ptrs, dt_ptrs, z_ptrs, B_ptrs, C_ptrs), steps, y_ptrs


@gluon.jit
def fetch(
    ptrs, left, t_x, t_n, n, real, SHAPE: gl.constexpr, HAS_Z: gl.constexpr, HAS_C: gl.constexpr,
):  # fmt: skip
    """Raw u, dt, z (BLOCK_T, BLOCK_D) and B, C (BLOCK_T, NP) of one block; 0 past the end. Where
    there is no z or C, u or B stands in its place."""
    m_x = (t_x < left)[:, None]
    m_n = (t_n < left)[:, None]
    if not SHAPE.EVEN_D:
        m_x = m_x & real[None, :]
    if not SHAPE.EVEN_N:
        m_n = m_n & (n < SHAPE.N)[None, :]
    u = get(ptrs[0], m_x)
    dt = get(ptrs[1], m_x)
    z = get(ptrs[2], m_x) if HAS_Z else u
    B = get(ptrs[3], m_n)
    C = get(ptrs[4], m_n) if HAS_C else B
    return u, dt, z, B, C


@gluon.jit
def advance(ptrs, steps):
    return (
        ptrs[0] + steps[0],
        ptrs[1] + steps[1],
        ptrs[2] + steps[2],
        ptrs[3] + steps[3],
        ptrs[4] + steps[4],
    )


@gluon.jit
def prepare(
    raw, ptrs, bias, left, t_x, real, shared, FORM: gl.constexpr, SHAPE: gl.constexpr,
    BLOCK: gl.constexpr,
):  # fmt: skip
    """Put what the recurrence of a block reads into shared memory, step sizes, their products with
    u, B and C; returns u, z and the step sizes in fp32."""
    u = widen(raw[0], ptrs[0].dtype.element_ty)
    dt = widen(raw[1], ptrs[1].dtype.element_ty)
    if FORM.BIAS:
        dt += bias[None, :]
    if FORM.SOFTPLUS:
        dt = softplus(dt)
    m = (t_x < left)[:, None]
    if not SHAPE.EVEN_D:
        m = m & real[None, :]
    # A step of size 0 leaves the state alone: past the end nothing happens.
    delta = gl.where(m, dt, 0.0)
    shared[0].store(delta)
    shared[1].store(delta * u)
    B = gl.permute(gl.reshape(raw[3], [raw[3].shape[0], BLOCK.LANES, BLOCK.REGS]), [0, 2, 1])
    C = gl.permute(gl.reshape(raw[4], [raw[4].shape[0], BLOCK.LANES, BLOCK.REGS]), [0, 2, 1])
    if SHAPE.PACKED:
        shared[2].store(B | (C << 16))
    else:
        shared[2].store(widen(B, ptrs[3].dtype.element_ty))
        if not BLOCK.SUMMARY:
            shared[3].store(widen(C, ptrs[4].dtype.element_ty))
    return u, widen(raw[2], ptrs[2].dtype.element_ty), delta


@gluon.jit
def sum_lanes(p, s_y, LANES: gl.constexpr):
    """Sum p (BLOCK_T, BLOCK_D, LANES) over its last axis into shared memory."""
    T: gl.constexpr = p.shape[0]
    BD: gl.constexpr = p.shape[1]
    y = p
    if LANES > 1:
        y = gl.inline_asm_elementwise(
            transposing_sum(T, LANES), transposing_constraints(T),
            [p], dtype=gl.float32, is_pure=False, pack=T,
        )  # fmt: skip
    y = gl.reduce(gl.reshape(y, [LANES, T // LANES, BD, LANES]), 0, _keep_first)
    s_y.store(gl.reshape(gl.permute(y, [0, 2, 1]), [T, BD]))


@gluon.jit
def finish(
    y, u, z, skip, y_ptrs, left, t_x, real,
    FORM: gl.constexpr, EVEN_D: gl.constexpr,
):  # fmt: skip
    """Skip, gate, store."""
    if FORM.D:
        y += skip[None, :] * u
    if FORM.Z:
        y *= silu(z)
    m = (t_x < left)[:, None]
    if not EVEN_D:
        m = m & real[None, :]
    gl.store(y_ptrs, y.to(y_ptrs.dtype.element_ty), mask=m)
