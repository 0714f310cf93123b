"""Device code of the ring update: a tile of one head's state, written once in W tokens.

Promises: a state element is read once per token; the writing rebuilds it token by token with the
arithmetic of the plain update, so that an fp32 state has its bits; no program reads what another
one of the launch writes. Formula and shapes: `ring_update.op`.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

import triton
import triton.language as tl

from ssmprof_kernels.device.math import LOG2E, exp2, finite_rate, silu, softplus
from ssmprof_kernels.device.overlap import await_previous, let_next_start


@triton.jit
def _decayed(state, delta, A, x, B, TIED: tl.constexpr):
    """One token, in the words of the plain update: which product is rounded is said, not left to
    the compiler, so that the bits are the same."""
    dx = delta * x
    exponent = delta * LOG2E
    if TIED:
        decay = exp2(exponent * A)
    else:
        decay = exp2(exponent[:, None] * A)
    return tl.fma(state, decay, dx[:, None] * B[None, :])


@triton.jit
def _caught_up(state, A, x_ring, d_ring, b_ring, at, filled, p, n, m_p, m_n, H: tl.constexpr,
               P: tl.constexpr, N: tl.constexpr, GROUPS: tl.constexpr, W: tl.constexpr,
               TIED: tl.constexpr):  # fmt: skip
    """The pending tokens, oldest first; a step of 0 leaves the state as it is. Not unrolled, which
    would spill: what is loaded here lies in L1 already."""
    for i in range(W - 1):
        place = (at + 1 + i) % W
        counts = W - 1 - i <= filled
        if TIED:
            old = tl.load(d_ring + place * H, mask=counts, other=0.0)
        else:
            old = tl.load(d_ring + place * (H * P) + p, mask=m_p & counts, other=0.0)
        x = tl.load(x_ring + place * (H * P) + p, mask=m_p & counts, other=0.0)
        B = tl.load(b_ring + place * (GROUPS * N) + n, mask=m_n & counts, other=0.0)
        state = _decayed(state, old, A, x.to(tl.float32), B.to(tl.float32), TIED)
    return state


@triton.jit
def ssmprof_scan_ring_update(
    state_ptr, x_ptr, dt_ptr, A_ptr, B_ptr, C_ptr, D_ptr, z_ptr, bias_ptr, index_ptr, rx_ptr,
    rd_ptr, rb_ptr, mark_ptr, y_ptr, pad_index, s_ss, s_xb, s_tb, s_bb, s_cb, s_zb, s_yb,
    s_sh: tl.constexpr, s_sp: tl.constexpr, s_sn: tl.constexpr,
    s_xh: tl.constexpr, s_xp: tl.constexpr, s_th: tl.constexpr, s_tp: tl.constexpr,
    s_ah: tl.constexpr, s_ap: tl.constexpr, s_an: tl.constexpr,
    s_bg: tl.constexpr, s_bn: tl.constexpr, s_cg: tl.constexpr, s_cn: tl.constexpr,
    s_dh: tl.constexpr, s_dp: tl.constexpr, s_zh: tl.constexpr, s_zp: tl.constexpr,
    s_ih: tl.constexpr, s_ip: tl.constexpr, s_yh: tl.constexpr, s_yp: tl.constexpr,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, PER_GROUP: tl.constexpr,
    W: tl.constexpr, BW: tl.constexpr, MARKS: tl.constexpr, ROWS: tl.constexpr,
    HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    HAS_INDEX: tl.constexpr, TIED: tl.constexpr, SETTLE: tl.constexpr,
    EARLY: tl.constexpr, OVERLAP: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """SETTLE: no token comes; pending ones are applied, and y is not written."""
    let_next_start(EARLY)
    TILES: tl.constexpr = (P + BLOCK_P - 1) // BLOCK_P
    pid = tl.program_id(0)
    tile = pid % TILES
    head = ((pid // TILES) % H).to(tl.int64)
    row = (pid // (TILES * H)).to(tl.int64)
    group = head // PER_GROUP
    GROUPS: tl.constexpr = H // PER_GROUP
    p = tile * BLOCK_P + tl.arange(0, BLOCK_P)
    n = tl.arange(0, BLOCK_N)
    m_p = p < P
    m_n = n < N
    await_previous(OVERLAP)
    slot = row
    live = True
    if HAS_INDEX:
        index = tl.load(index_ptr + row)
        live = (index >= 0) & (index != pad_index)
        slot = tl.where(live, index, 0).to(tl.int64)
    # All loads come before the first use, and none waits for the marks: what is not pending is
    # dropped afterwards.
    marks = mark_ptr + ((slot * H + head) * MARKS + tile * (BLOCK_P // ROWS)) * 2
    at = tl.load(marks)
    filled = tl.load(marks + 1)
    m = m_p[:, None] & m_n[None, :] & live
    cells = state_ptr + slot * s_ss + head * s_sh + p[:, None].to(tl.int64) * s_sp
    cells += n[None, :] * s_sn
    state = tl.load(cells, mask=m, other=0.0).to(tl.float32)
    A_ptr += head * s_ah
    if TIED:
        A = tl.load(A_ptr)
    else:
        A = tl.load(A_ptr + p[:, None] * s_ap + n[None, :] * s_an, mask=m_p[:, None] & m_n[None, :],
                    other=0.0)  # fmt: skip
    A = finite_rate(A.to(tl.float32))
    w = tl.arange(0, BW)
    x_ring = rx_ptr + slot * (W * H * P) + head * P
    d_ring = rd_ptr + slot * (W * H) * (1 if TIED else P) + head * (1 if TIED else P)
    b_ring = rb_ptr + slot * (W * GROUPS * N) + group * N
    if not SETTLE:
        x = tl.load(x_ptr + row * s_xb + head * s_xh + p * s_xp, mask=m_p, other=0.0)
        dt_ptr += row * s_tb + head * s_th
        if TIED:
            dt = tl.load(dt_ptr)
        else:
            dt = tl.load(dt_ptr + p * s_tp, mask=m_p, other=0.0)
        B = tl.load(B_ptr + row * s_bb + group * s_bg + n * s_bn, mask=m_n, other=0.0)
        C = tl.load(C_ptr + row * s_cb + group * s_cg + n * s_cn, mask=m_n, other=0.0)
        z = x
        if HAS_Z:
            z = tl.load(z_ptr + row * s_zb + head * s_zh + p * s_zp, mask=m_p, other=0.0)
        D = 0.0
        if HAS_D:
            D = tl.load(D_ptr + head * s_dh + p * s_dp, mask=m_p, other=0.0).to(tl.float32)
        delta = dt.to(tl.float32)
        if HAS_BIAS:
            bias_ptr += head * s_ih
            if TIED:
                delta += tl.load(bias_ptr).to(tl.float32)
            else:
                delta += tl.load(bias_ptr + p * s_ip, mask=m_p, other=0.0).to(tl.float32)
        if SOFTPLUS:
            delta = softplus(delta)
        # The token takes its place; nobody counts what was there any more.
        tl.store(x_ring + at * (H * P) + p, x.to(rx_ptr.dtype.element_ty), mask=m_p & live)
        if TIED:
            tl.store(d_ring + at * H, delta, mask=live & (tile == 0))
        else:
            tl.store(d_ring + at * (H * P) + p, delta, mask=m_p & live)
        tl.store(b_ring + at * (GROUPS * N) + n, B.to(rb_ptr.dtype.element_ty),
                 mask=m_n & live & (tile == 0) & (head % PER_GROUP == 0))  # fmt: skip
        xf = x.to(tl.float32)
        Bf = B.to(tl.float32)
        Cf = C.to(tl.float32)
    writes = filled + 1 >= W
    if SETTLE:
        writes = filled > 0
    if TIED:
        if not SETTLE:
            deltas = tl.load(d_ring + w * H, mask=w < W, other=0.0)
            age = (at - w - 1 + W) % W
            pending = (w < W) & (age < filled)
            xs = tl.load(x_ring + w[:, None] * (H * P) + p[None, :],
                         mask=(w < W)[:, None] & m_p[None, :], other=0.0)  # fmt: skip
            bs = tl.load(b_ring + w[:, None] * (GROUPS * N) + n[None, :],
                         mask=(w < W)[:, None] & m_n[None, :], other=0.0)  # fmt: skip
            deltas = tl.where(pending, deltas, 0.0)
            younger = age[None, :] < age[:, None]
            since = tl.sum(tl.where(younger, deltas[None, :], 0.0), 1) + delta
            share = exp2(since * LOG2E * A) * deltas
            share *= tl.sum(bs.to(tl.float32) * Cf[None, :], 1)
            share = tl.where(pending, share, 0.0)
            xs = tl.where(pending[:, None], xs.to(tl.float32), 0.0)
            y = tl.sum(state * Cf[None, :], 1)
            y *= exp2((tl.sum(deltas, 0) + delta) * LOG2E * A)
            y += tl.sum(xs * share[:, None], 0) + delta * tl.sum(Bf * Cf, 0) * xf
        if writes:
            state = _caught_up(state, A, x_ring, d_ring, b_ring, at, filled, p, n, m_p, m_n, H, P,
                               N, GROUPS, W, TIED)  # fmt: skip
            if not SETTLE:
                state = _decayed(state, delta, A, xf, Bf, TIED)
            tl.store(cells, state.to(state_ptr.dtype.element_ty), mask=m)
    else:
        state = _caught_up(state, A, x_ring, d_ring, b_ring, at, filled, p, n, m_p, m_n, H, P, N,
                           GROUPS, W, TIED)  # fmt: skip
        if not SETTLE:
            state = _decayed(state, delta, A, xf, Bf, TIED)
            y = tl.sum(state * Cf[None, :], 1)
        if writes:
            tl.store(cells, state.to(state_ptr.dtype.element_ty), mask=m)
    mine = tl.arange(0, BLOCK_P // ROWS)
    inside = live & (tile * (BLOCK_P // ROWS) + mine < MARKS)
    if not SETTLE:
        tl.store(marks + mine * 2, tl.zeros_like(mine) + (at + 1) % W, mask=inside)
    left = tl.where(writes, 0, filled + 1)
    if SETTLE:
        left = filled * 0
    tl.store(marks + mine * 2 + 1, tl.zeros_like(mine) + left, mask=inside)
    if not SETTLE:
        if HAS_D:
            y += D * xf
        if HAS_Z:
            y *= silu(z.to(tl.float32))
        y = tl.where(live, y, 0.0)
        y_at = y_ptr + row * s_yb + head * s_yh + p * s_yp
        tl.store(y_at, y.to(y_ptr.dtype.element_ty), mask=m_p)
