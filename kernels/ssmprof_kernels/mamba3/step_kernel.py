"""Device code of one token of Mamba-3: the state of a head, in place.

Promises: each state element is read and written once; a program owns all of its head, so that the
last token's keys are read by whoever overwrites them.
"""

# The language of kernels is read by Triton, not by Python.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from ssmprof_kernels.device.math import COMPILED, silu, softplus
from ssmprof_kernels.mamba3.parts import cos_sin, fraction, half_tanh, rate, sigmoid


@triton.jit
def _halves(ptr, at, pair, N: tl.constexpr):
    """Even and odd elements of a vector of N at `ptr`, steps of `at`, in fp32."""
    even = tl.load(ptr + 2 * pair * at, mask=2 * pair < N, other=0.0).to(tl.float32)
    odd = tl.load(ptr + (2 * pair + 1) * at, mask=2 * pair + 1 < N, other=0.0).to(tl.float32)
    return even, odd


@triton.jit
def _put(ptr, even, odd, pair, N: tl.constexpr):
    tl.store(ptr + 2 * pair, even.to(ptr.dtype.element_ty), mask=2 * pair < N)
    tl.store(ptr + 2 * pair + 1, odd.to(ptr.dtype.element_ty), mask=2 * pair + 1 < N)


@triton.jit
def _mixed(x, ptr, row, p, P: tl.constexpr, MIXED: tl.constexpr):
    """x times a row of a matrix of ranks (H R, P)."""
    if MIXED:
        x = x * tl.load(ptr + row * P + p, mask=p < P, other=0.0).to(tl.float32)
    return x


@triton.jit
def ssmprof_scan_mamba3_step(
    state_ptr, q_ptr, k_ptr, v_ptr, a_ptr, dt_ptr, trap_ptr, angle_ptr, z_ptr, bias_ptr,
    q_bias_ptr, k_bias_ptr, d_ptr, mix_v_ptr, mix_z_ptr, mix_o_ptr, out_ptr, s_b, q_sb, q_sr,
    q_sg, q_sn, k_sb, k_sr, k_sg, k_sn, v_sb, v_sh, v_sp, a_sb, a_sh, dt_sb, dt_sh, trap_sb,
    trap_sh, angle_sb, angle_ss, z_sb, z_sh, z_sp, H: tl.constexpr, PER_GROUP: tl.constexpr,
    N: tl.constexpr, P: tl.constexpr, R: tl.constexpr, ANGLES: tl.constexpr, BN: tl.constexpr,
    BP: tl.constexpr, GATE: tl.constexpr, MIXED: tl.constexpr, SUM: tl.constexpr,
   
):  # fmt: skip
    pid = tl.program_id(0)
    head = (pid % H).to(tl.int64)
    seq = (pid // H).to(tl.int64)
    pair = tl.arange(0, BN // 2)
    group = head // PER_GROUP
    state = state_ptr + seq * s_b
    keys = state + H * P * N + head * (R * N)
    values = state + H * (P * N + R * N) + head * P
    cells = state + head * (P * N)
    p = tl.arange(0, BP)
    n = tl.arange(0, BN)
    inside = (p < P)[:, None] & (n < N)[None, :]
    cell = p[:, None] * N + n[None, :]
    # All loads come before the first use: at small batches the step is one memory latency.
    h = tl.load(cells + cell, mask=inside, other=0.0)
    dt = tl.load(dt_ptr + seq * dt_sb + head * dt_sh).to(tl.float32)
    trap = tl.load(trap_ptr + seq * trap_sb + head * trap_sh).to(tl.float32)
    a = tl.load(a_ptr + seq * a_sb + head * a_sh).to(tl.float32)
    bias = tl.load(bias_ptr + head).to(tl.float32)
    turns = tl.load(angle_ptr + seq * angle_sb + pair * angle_ss, mask=pair < ANGLES, other=0.0)
    v = tl.load(v_ptr + seq * v_sb + head * v_sh + p * v_sp, mask=p < P, other=0.0).to(tl.float32)
    old = tl.load(values + p, mask=p < P, other=0.0).to(tl.float32)
    skip = tl.load(d_ptr + head).to(tl.float32)
    z = tl.zeros((BP,), tl.float32)
    if GATE:
        z = tl.load(z_ptr + seq * z_sb + head * z_sh + p * z_sp, mask=p < P, other=0.0)
        z = z.to(tl.float32)
    step = softplus(dt + bias)
    own = step * sigmoid(trap)
    past = step * sigmoid(-trap)
    decay = tl.exp2(rate(a) * step)
    cos, sin = cos_sin(fraction(step * half_tanh(turns.to(tl.float32))))
    even, odd = tl.split(tl.reshape(h.to(tl.float32), (BP, BN // 2, 2)))
    for r in tl.static_range(R):
        k_even, k_odd = _halves(keys + r * N, 1, pair, N)
        w = _mixed(old * past, mix_v_ptr, head * R + r, p, P, MIXED)[:, None]
        even += w * k_even[None, :]
        odd += w * k_odd[None, :]
    # Turned back by the new token's angle: the state is kept in the frame of the last token.
    turned = (even * cos[None, :] + odd * sin[None, :]) * decay
    odd = (odd * cos[None, :] - even * sin[None, :]) * decay
    even = turned
    if COMPILED:
        # Every thread has read the old keys before one writes new ones.
        tl.debug_barrier()
    for r in tl.static_range(R):
        k_even, k_odd = _halves(k_ptr + seq * k_sb + r * k_sr + group * k_sg, k_sn, pair, N)
        b_even, b_odd = _halves(k_bias_ptr + (head * R + r) * N, 1, pair, N)
        k_even += b_even
        k_odd += b_odd
        w = _mixed(v * own, mix_v_ptr, head * R + r, p, P, MIXED)[:, None]
        even += w * k_even[None, :]
        odd += w * k_odd[None, :]
        _put(keys + r * N, k_even, k_odd, pair, N)
    h = tl.reshape(tl.join(even, odd), (BP, BN))
    tl.store(cells + cell, h.to(state_ptr.dtype.element_ty), mask=inside)
    tl.store(values + p, v.to(state_ptr.dtype.element_ty), mask=p < P)
    total = tl.zeros((BP,), tl.float32)
    for r in tl.static_range(R):
        q_even, q_odd = _halves(q_ptr + seq * q_sb + r * q_sr + group * q_sg, q_sn, pair, N)
        b_even, b_odd = _halves(q_bias_ptr + (head * R + r) * N, 1, pair, N)
        y = tl.sum(even * (q_even + b_even)[None, :] + odd * (q_odd + b_odd)[None, :], 1)
        y += skip * _mixed(v, mix_v_ptr, head * R + r, p, P, MIXED)
        if GATE:
            y *= silu(_mixed(z, mix_z_ptr, head * R + r, p, P, MIXED))
        if SUM:
            total += _mixed(y, mix_o_ptr, head * R + r, p, P, True)
        else:
            at = out_ptr + ((seq * R + r) * H + head) * P + p
            tl.store(at, y.to(out_ptr.dtype.element_ty), mask=p < P)
    if SUM:
        at = out_ptr + (seq * H + head) * P + p
        tl.store(at, total.to(out_ptr.dtype.element_ty), mask=p < P)
