"""Device code of RWKV-7's decode step: some columns of one head's state, in place.

Promises: each state element is read and written once, all loads are issued before the first use;
columns depend on no other column. Formula and shapes: `step`.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportOperatorIssue=false

import triton
import triton.language as tl

from ssmprof_kernels.device.math import LOG2E, exp2


@triton.jit
def ssmprof_scan_rwkv7_step(
    state_ptr, r_ptr, w_ptr, k_ptr, v_ptr, kk_ptr, a_ptr, y_ptr, H, s_steps,
    r_steps, w_steps, k_steps, v_steps, kk_steps,
    a_steps, K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    BLOCKS: tl.constexpr = (V + BV - 1) // BV
    pid = tl.program_id(0)
    ks = tl.arange(0, BK)
    vs = (pid % BLOCKS) * BV + tl.arange(0, BV)
    h = ((pid // BLOCKS) % H).to(tl.int64)
    b = (pid // (BLOCKS * H)).to(tl.int64)
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
    kk = tl.load(kk_ptr + b * kk_steps.b + h * kk_steps.h + ks * kk_steps.k, mask=key, other=0.0)
    w = tl.load(w_ptr + b * w_steps.b + h * w_steps.h + ks * w_steps.k, mask=key, other=0.0)
    a = tl.load(a_ptr + b * a_steps.b + h * a_steps.h + ks * a_steps.k, mask=key, other=0.0)
    k = tl.load(k_ptr + b * k_steps.b + h * k_steps.h + ks * k_steps.k, mask=key, other=0.0)
    v = tl.load(v_ptr + b * v_steps.b + h * v_steps.h + vs * v_steps.k, mask=value, other=0.0)
    r = tl.load(r_ptr + b * r_steps.b + h * r_steps.h + ks * r_steps.k, mask=key, other=0.0)
    state = state.to(tl.float32)
    kk = kk.to(tl.float32)
    asked = tl.sum(kk[:, None] * state, 0)
    state *= exp2(w.to(tl.float32) * LOG2E)[:, None]
    state += k.to(tl.float32)[:, None] * v.to(tl.float32)[None, :]
    state -= (kk * a.to(tl.float32))[:, None] * asked[None, :]
    tl.store(at, state.to(state_ptr.dtype.element_ty), mask=mine)
    y = tl.sum(r.to(tl.float32)[:, None] * state, 0)
    tl.store(y_ptr + (b * H + h) * V + vs, y.to(y_ptr.dtype.element_ty), mask=value)
