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

import triton
import triton.language as tl

from ssmprof_kernels.device.math import finite_rate, silu, softplus
from ssmprof_kernels.device.overlap import await_previous, let_next_start, prefetch_span


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
def _exp2(x, ASM: tl.constexpr):
    # A decay below 2**-126 is as good as 0; keeping it would take three more instructions.
    if ASM:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.exp2(x)


@triton.jit
def _state_update_kernel(
    state_ptr, x_ptr, dt_ptr, A_ptr, B_ptr, C_ptr, D_ptr, z_ptr, bias_ptr, index_ptr, y_ptr,
    pad_index, s_ss, s_xb, s_tb, s_bb, s_cb, s_zb, s_yb,
    s_sh: tl.constexpr, s_sp: tl.constexpr, s_sn: tl.constexpr,
    s_xh: tl.constexpr, s_xp: tl.constexpr, s_th: tl.constexpr, s_tp: tl.constexpr,
    s_ah: tl.constexpr, s_ap: tl.constexpr, s_an: tl.constexpr,
    s_bg: tl.constexpr, s_bn: tl.constexpr, s_cg: tl.constexpr, s_cn: tl.constexpr,
    s_dh: tl.constexpr, s_dp: tl.constexpr, s_zh: tl.constexpr, s_zp: tl.constexpr,
    s_ih: tl.constexpr, s_ip: tl.constexpr, s_yh: tl.constexpr, s_yp: tl.constexpr,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, PER_GROUP: tl.constexpr,
    HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    HAS_INDEX: tl.constexpr, ZERO_PADS: tl.constexpr, TIED: tl.constexpr, ASM: tl.constexpr,
    EARLY: tl.constexpr, OVERLAP: tl.constexpr, AHEAD: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    let_next_start(EARLY)
    # Sizes are constants, so that the divisions below are multiplications; so are the strides
    # inside a row. Those between rows may change with the length of what a row is cut out of.
    TILES: tl.constexpr = (P + BLOCK_P - 1) // BLOCK_P
    RAGGED_P: tl.constexpr = P % BLOCK_P != 0
    RAGGED_N: tl.constexpr = N != BLOCK_N
    RAGGED: tl.constexpr = RAGGED_P or RAGGED_N
    pid = tl.program_id(0)
    tile = pid % TILES
    head = ((pid // TILES) % H).to(tl.int64)
    row = (pid // (TILES * H)).to(tl.int64)
    group = head // PER_GROUP
    p = tile * BLOCK_P + tl.arange(0, BLOCK_P)
    n = tl.arange(0, BLOCK_N)
    m_p = p < P
    m_n = n < N
    m = m_p[:, None] & m_n[None, :]
    state_ptr += head * s_sh
    if AHEAD:
        prefetch_span(
            state_ptr + row * s_ss + (tile * BLOCK_P).to(tl.int64) * N,
            BLOCK_P * N * state_ptr.dtype.element_ty.primitive_bitwidth // 8,
        )
    await_previous(OVERLAP)
    # All loads come before the first use: at small batches the step is one memory latency.
    slot = row
    live = True
    if HAS_INDEX:
        index = tl.load(index_ptr + row)
        live = (index >= 0) & (index != pad_index)
        slot = index.to(tl.int64)
    ptrs = state_ptr + slot * s_ss + p[:, None].to(tl.int64) * s_sp + n[None, :] * s_sn
    state = _get(ptrs, m & live, RAGGED or HAS_INDEX)
    # Where A, dt and the bias are tied over a head (Mamba-2) one scalar decay serves its tile.
    A_ptr += head * s_ah
    if TIED:
        A = tl.load(A_ptr)
    else:
        A = _get(A_ptr + p[:, None] * s_ap + n[None, :] * s_an, m, RAGGED)
    x = _get(x_ptr + row * s_xb + head * s_xh + p * s_xp, m_p, RAGGED_P)
    dt_ptr += row * s_tb + head * s_th
    if TIED:
        dt = tl.load(dt_ptr)
    else:
        dt = _get(dt_ptr + p * s_tp, m_p, RAGGED_P)
    B = _get(B_ptr + row * s_bb + group * s_bg + n * s_bn, m_n, RAGGED_N)
    C = _get(C_ptr + row * s_cb + group * s_cg + n * s_cn, m_n, RAGGED_N)
    if HAS_Z:
        z = _get(z_ptr + row * s_zb + head * s_zh + p * s_zp, m_p, RAGGED_P)
    if HAS_D:
        D = _get(D_ptr + head * s_dh + p * s_dp, m_p, RAGGED_P).to(tl.float32)
    if HAS_BIAS:
        bias_ptr += head * s_ih
        if TIED:
            bias = tl.load(bias_ptr).to(tl.float32)
        else:
            bias = _get(bias_ptr + p * s_ip, m_p, RAGGED_P).to(tl.float32)
    A = finite_rate(A.to(tl.float32))
    dt = dt.to(tl.float32)
    x = x.to(tl.float32)
    if HAS_BIAS:
        dt += bias
    if SOFTPLUS:
        dt = softplus(dt, ASM)
    dx = dt * x
    exponent = dt * 1.4426950408889634
    if TIED:
        decay = _exp2(exponent * A, ASM)
    else:
        decay = _exp2(exponent[:, None] * A, ASM)
    new = state.to(tl.float32) * decay + dx[:, None] * B.to(tl.float32)[None, :]
    _put(ptrs, new, m & live, RAGGED or HAS_INDEX)
    y = tl.sum(new * C.to(tl.float32)[None, :], 1)
    if HAS_D:
        y += D * x
    if HAS_Z:
        y *= silu(z.to(tl.float32), ASM)
    y_ptrs = y_ptr + row * s_yb + head * s_yh + p * s_yp
    if HAS_INDEX and ZERO_PADS:
        _put(y_ptrs, tl.where(live, y, 0.0), m_p, RAGGED_P)
    else:
        _put(y_ptrs, y, m_p & live, RAGGED_P or HAS_INDEX)
