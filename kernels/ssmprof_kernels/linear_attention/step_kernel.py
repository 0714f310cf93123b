"""Device code of linear attention's decode step: some columns of one head's state, in place.

Promises: each state element is read and written once, all loads are issued before the first use;
columns depend on no other column. Formula and shapes: `step`.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportOperatorIssue=false

import triton
import triton.language as tl

from ssmprof_kernels.device.math import exp2
from ssmprof_kernels.linear_attention.pairs import log_decay, log_gate


@triton.jit
def ssmprof_scan_linear_step(
    state_ptr, q_ptr, k_ptr, v_ptr, gate_ptr, decay_ptr, y_ptr, scale, H, s_steps,
    q_steps, k_steps, v_steps, g_steps, PER: tl.constexpr,
    K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, GATES: tl.constexpr,
    GIVEN: tl.constexpr,
):  # fmt: skip
    BLOCKS: tl.constexpr = (V + BV - 1) // BV
    pid = tl.program_id(0)
    ks = tl.arange(0, BK)
    vs = (pid % BLOCKS) * BV + tl.arange(0, BV)
    h = ((pid // BLOCKS) % H).to(tl.int64)
    b = (pid // (BLOCKS * H)).to(tl.int64)
    shared = h // PER
    key = ks < K
    value = vs < V
    at = (
        state_ptr
        + b * s_steps.b
        + h * s_steps.h
        + ks[:, None] * s_steps.k
        + vs[None, :] * s_steps.v
    )
    mine = key[:, None] & value[None, :]
    state = tl.load(at, mask=mine, other=0.0)
    k = tl.load(k_ptr + b * k_steps.b + shared * k_steps.h + ks * k_steps.k, mask=key, other=0.0)
    v = tl.load(v_ptr + b * v_steps.b + shared * v_steps.h + vs * v_steps.k, mask=value, other=0.0)
    q = tl.load(q_ptr + b * q_steps.b + h * q_steps.h + ks * q_steps.k, mask=key, other=0.0)
    if GATES:
        a = tl.load(
            gate_ptr + b * g_steps.b + shared * g_steps.h + ks * g_steps.k, mask=key, other=0.0
        )
        kept = exp2(log_gate(a.to(tl.float32), GIVEN))[:, None]
    else:
        kept = exp2(log_decay(decay_ptr, h))
    state = state.to(tl.float32) * kept + k.to(tl.float32)[:, None] * v.to(tl.float32)[None, :]
    tl.store(at, state.to(state_ptr.dtype.element_ty), mask=mine)
    y = tl.sum((q.to(tl.float32) * scale)[:, None] * state, 0)
    tl.store(y_ptr + (b * H + h) * V + vs, y.to(y_ptr.dtype.element_ty), mask=value)
