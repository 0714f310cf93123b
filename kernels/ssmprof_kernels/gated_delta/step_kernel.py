"""Device code of one token of a delta rule: a tile of one head's state, in place.

Promises: each state element is read and written once, all loads are issued before the first use,
and both sums over the keys, what the state says of the key and of the query, are taken at once:
`S q = (D S_old)^T q + (k q) w`. With `OVERLAP` it waits for the kernel before (see `overlap`).
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

import triton
import triton.language as tl

from ssmprof_kernels.device.overlap import await_previous, let_next_start
from ssmprof_kernels.gated_delta.parts import NORM_EPS, gate_rate, log_decay, step_size


@triton.jit(do_not_specialize=["scale"])
def ssmprof_scan_delta_step(
    state_ptr, q_ptr, k_ptr, v_ptr, g_ptr, beta_ptr, a_log_ptr, bias_ptr, y_ptr, scale, s_sb,
    q_sb, k_sb, v_sb, g_sb, beta_sb, y_sb,
    s_sh: tl.constexpr, s_sk: tl.constexpr, s_sv: tl.constexpr, q_sh: tl.constexpr,
    q_sk: tl.constexpr, k_sh: tl.constexpr, k_sk: tl.constexpr, v_sh: tl.constexpr,
    v_sv: tl.constexpr, g_sh: tl.constexpr, g_sk: tl.constexpr, beta_sh: tl.constexpr,
    y_sh: tl.constexpr, y_sv: tl.constexpr, H: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    PER_KEY: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, CHANNELS: tl.constexpr,
    DECAY: tl.constexpr, GATE: tl.constexpr, BIAS: tl.constexpr, SIGMOID: tl.constexpr,
    NEGATIVE: tl.constexpr, NORM: tl.constexpr, EARLY: tl.constexpr, OVERLAP: tl.constexpr,
   
):  # fmt: skip
    """BV columns of the state (K, V) of one head of one row."""
    let_next_start(EARLY)
    BLOCKS: tl.constexpr = (V + BV - 1) // BV
    pid = tl.program_id(0)
    block = pid % BLOCKS
    head = ((pid // BLOCKS) % H).to(tl.int64)
    row = (pid // (BLOCKS * H)).to(tl.int64)
    near = head // PER_KEY
    n = tl.arange(0, BK)
    v = block * BV + tl.arange(0, BV)
    in_n = n < K
    in_v = v < V
    at = state_ptr + row * s_sb + head * s_sh + n[:, None] * s_sk + v[None, :] * s_sv
    await_previous(OVERLAP)
    cells = in_n[:, None] & in_v[None, :]
    state = tl.load(at, mask=cells, other=0.0)
    k = tl.load(k_ptr + row * k_sb + near * k_sh + n * k_sk, mask=in_n, other=0.0)
    q = tl.load(q_ptr + row * q_sb + near * q_sh + n * q_sk, mask=in_n, other=0.0)
    values = tl.load(v_ptr + row * v_sb + head * v_sh + v * v_sv, mask=in_v, other=0.0)
    beta = tl.load(beta_ptr + row * beta_sb + head * beta_sh)
    if DECAY:
        bias = 0.0
        if CHANNELS:
            raw = tl.load(g_ptr + row * g_sb + head * g_sh + n * g_sk, mask=in_n, other=0.0)
            if BIAS:
                bias = tl.load(bias_ptr + head * K + n, mask=in_n, other=0.0).to(tl.float32)
        else:
            raw = tl.load(g_ptr + row * g_sb + head * g_sh)
            if BIAS:
                bias = tl.load(bias_ptr + head).to(tl.float32)
        rate = gate_rate(a_log_ptr, head, GATE)
        decay = tl.exp2(log_decay(raw, rate, bias, True, GATE))
    k = k.to(tl.float32)
    q = q.to(tl.float32)
    if NORM:
        k *= tl.rsqrt(tl.sum(k * k, 0) + NORM_EPS)
        q *= tl.rsqrt(tl.sum(q * q, 0) + NORM_EPS)
    q *= scale
    old = state.to(tl.float32)
    if DECAY:
        if CHANNELS:
            old *= decay[:, None]
        else:
            old *= decay
    known = tl.sum(old * k[:, None], 0)
    out = tl.sum(old * q[:, None], 0)
    written = (values.to(tl.float32) - known) * step_size(beta, True, SIGMOID, NEGATIVE)
    new = old + k[:, None] * written[None, :]
    tl.store(at, new.to(state_ptr.dtype.element_ty), mask=cells)
    out += tl.sum(k * q, 0) * written
    y_at = y_ptr + row * y_sb + head * y_sh + v * y_sv
    tl.store(y_at, out.to(y_ptr.dtype.element_ty), mask=in_v)
