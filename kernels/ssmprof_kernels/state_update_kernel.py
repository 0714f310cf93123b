"""Device code of the decode step of Mamba-1 and Mamba-2: a tile of rows of one state, in place.

Promises: each state element is read and written once, all loads are issued before the first use,
a row whose index is `pad_index` changes nothing. Formula and shapes: `state_update`.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false

import triton
import triton.language as tl

from ssmprof_kernels.pointwise import silu, softplus


@triton.jit
def _state_update_kernel(
    state_ptr, x_ptr, dt_ptr, A_ptr, B_ptr, C_ptr, D_ptr, z_ptr, bias_ptr, index_ptr, y_ptr,
    pad_index,
    s_ss, s_sh, s_sp, s_sn,
    s_xb, s_xh, s_xp,
    s_tb, s_th, s_tp,
    s_ah, s_ap, s_an,
    s_bb, s_bg, s_bn,
    s_cb, s_cg, s_cn,
    s_dh, s_dp,
    s_zb, s_zh, s_zp,
    s_ih, s_ip,
    s_yb, s_yh, s_yp,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, PER_GROUP: tl.constexpr,
    HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    HAS_INDEX: tl.constexpr, ZERO_PADS: tl.constexpr, TIED: tl.constexpr, ASM: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    # Sizes are constants, so that the divisions below are multiplications.
    TILES: tl.constexpr = (P + BLOCK_P - 1) // BLOCK_P
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
    y_ptrs = y_ptr + row * s_yb + head * s_yh + p * s_yp
    slot = row
    live = True
    if HAS_INDEX:
        index = tl.load(index_ptr + row)
        slot = index.to(tl.int64)
        live = index != pad_index
        if ZERO_PADS and not live:
            tl.store(y_ptrs, tl.zeros([BLOCK_P], y_ptr.dtype.element_ty), mask=m_p)
    if live:
        state_ptrs = state_ptr + slot * s_ss + head * s_sh
        state_ptrs += p[:, None].to(tl.int64) * s_sp + n[None, :] * s_sn
        state = tl.load(state_ptrs, mask=m, other=0.0)
        B = tl.load(B_ptr + row * s_bb + group * s_bg + n * s_bn, mask=m_n, other=0.0)
        C = tl.load(C_ptr + row * s_cb + group * s_cg + n * s_cn, mask=m_n, other=0.0)
        x = tl.load(x_ptr + row * s_xb + head * s_xh + p * s_xp, mask=m_p, other=0.0)
        # All loads come before the first use: at small batches the step is one memory latency.
        if HAS_D:
            D = tl.load(D_ptr + head * s_dh + p * s_dp, mask=m_p, other=0.0).to(tl.float32)
        if HAS_Z:
            z = tl.load(z_ptr + row * s_zb + head * s_zh + p * s_zp, mask=m_p, other=0.0)
        dt_ptr += row * s_tb + head * s_th
        A_ptr += head * s_ah
        if HAS_BIAS:
            bias_ptr += head * s_ih
        # Where A, dt and the bias are tied over a head (Mamba-2) one scalar decay serves its tile.
        if TIED:
            dt = tl.load(dt_ptr).to(tl.float32)
            A = tl.load(A_ptr).to(tl.float32)
            if HAS_BIAS:
                dt += tl.load(bias_ptr).to(tl.float32)
        else:
            dt = tl.load(dt_ptr + p * s_tp, mask=m_p, other=0.0).to(tl.float32)
            A = tl.load(A_ptr + p[:, None] * s_ap + n[None, :] * s_an, mask=m, other=0.0)
            A = A.to(tl.float32)
            if HAS_BIAS:
                dt += tl.load(bias_ptr + p * s_ip, mask=m_p, other=0.0).to(tl.float32)
        if SOFTPLUS:
            dt = softplus(dt, ASM)
        x = x.to(tl.float32)
        dx = dt * x
        if TIED:
            decay = tl.exp2(dt * A * 1.4426950408889634)
        else:
            decay = tl.exp2(dt[:, None] * A * 1.4426950408889634)
        new = state.to(tl.float32) * decay + dx[:, None] * B.to(tl.float32)[None, :]
        tl.store(state_ptrs, new.to(state_ptr.dtype.element_ty), mask=m)
        y = tl.sum(new * C.to(tl.float32)[None, :], 1)
        if HAS_D:
            y += D * x
        if HAS_Z:
            y *= silu(z.to(tl.float32), ASM)
        tl.store(y_ptrs, y.to(y_ptr.dtype.element_ty), mask=m_p)
