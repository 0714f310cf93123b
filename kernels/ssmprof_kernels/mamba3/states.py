"""States on their way into a Mamba-3 scan and out of it.

A scan's state stands in the frame of the first token, what is given and returned in that of the
last.
"""

# The language of kernels is read by Triton, not by Python.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from ssmprof_kernels.device.math import softplus
from ssmprof_kernels.mamba3.parts import cos_sin, fraction, turned
from ssmprof_kernels.mamba3.rates import FREE, before


@triton.jit
def ssmprof_scan_mamba3_begin(
    state_ptr, dt_ptr, trap_ptr, bias_ptr, mix_ptr, h0_ptr, H, s_b, dt_sb, dt_sh, trap_sb,
    trap_sh, N: tl.constexpr, P: tl.constexpr, R: tl.constexpr, BN: tl.constexpr,
    BP: tl.constexpr, MIXED: tl.constexpr,
):  # fmt: skip
    """State before the first token: what was given, and what the first token looks back at."""
    pid = tl.program_id(0)
    blocks: tl.constexpr = (P + BP - 1) // BP
    head = ((pid // blocks) % H).to(tl.int64)
    seq = (pid // (blocks * H)).to(tl.int64)
    p = (pid % blocks) * BP + tl.arange(0, BP)
    n = tl.arange(0, BN)
    inside = (p < P)[:, None] & (n < N)[None, :]
    state = state_ptr + seq * s_b
    h = tl.load(state + (head * P + p)[:, None] * N + n[None, :], mask=inside, other=0.0)
    h = h.to(tl.float32)
    keys = state + H * (P * N) + head * (R * N)
    v = tl.load(state + H * (P * N + R * N) + head * P + p, mask=p < P, other=0.0).to(tl.float32)
    dt = tl.load(dt_ptr + seq * dt_sb + head * dt_sh).to(tl.float32)
    trap = tl.load(trap_ptr + seq * trap_sb + head * trap_sh).to(tl.float32)
    step = softplus(dt + tl.load(bias_ptr + head).to(tl.float32))
    v = v * (step / (1.0 + tl.exp2(trap * 1.4426950408889634)))
    for r in tl.static_range(R):
        k = tl.load(keys + r * N + n, mask=n < N, other=0.0).to(tl.float32)
        w = v
        if MIXED:
            mix = tl.load(mix_ptr + (head * R + r) * P + p, mask=p < P, other=0.0)
            w = v * mix.to(tl.float32)
        h += w[:, None] * k[None, :]
    tl.store(h0_ptr + ((seq * H + head) * P + p)[:, None] * N + n[None, :], h, mask=inside)


@triton.jit(do_not_specialize=FREE)
def ssmprof_scan_mamba3_end(
    h_ptr, k_ptr, v_ptr, k_bias_ptr, sums_ptr, final_ptr, L, H, PER_GROUP, chunks, k_sb, k_sl,
    k_sr, k_sg, k_sn, v_sb, v_sl, v_sh, v_sp, N: tl.constexpr, P: tl.constexpr, R: tl.constexpr,
    BN: tl.constexpr, BP: tl.constexpr, BS: tl.constexpr, FOLD: tl.constexpr,
   
):  # fmt: skip
    """The state in the frame of the last token, its keys and its value."""
    pid = tl.program_id(0)
    blocks: tl.constexpr = (P + BP - 1) // BP
    head = (pid // blocks) % H
    far = head.to(tl.int64)
    seq = (pid // (blocks * H)).to(tl.int64)
    p = (pid % blocks) * BP + tl.arange(0, BP)
    n = tl.arange(0, BN)
    inside = (p < P)[:, None] & (n < N)[None, :]
    s = tl.arange(0, BN // 2)
    turns = before(sums_ptr, seq, chunks, head, H, chunks, s, s < BS, BS, FOLD)
    cos, sin = cos_sin(fraction(turns))
    h = tl.load(h_ptr + ((seq * H + far) * P + p)[:, None] * N + n[None, :], mask=inside, other=0.0)
    h = turned(h, cos[None, :], -sin[None, :])
    final = final_ptr + seq * (H * (P * N + R * N + P)).to(tl.int64)
    at = final + (far * P + p)[:, None] * N + n[None, :]
    tl.store(at, h.to(final_ptr.dtype.element_ty), mask=inside)
    v = tl.load(v_ptr + seq * v_sb + (L - 1).to(tl.int64) * v_sl + far * v_sh + p * v_sp,
                mask=p < P, other=0.0)  # fmt: skip
    at = final + H * (P * N + R * N) + far * P + p
    tl.store(at, v.to(final_ptr.dtype.element_ty), mask=p < P)
    if pid % blocks == 0:
        k_at = k_ptr + seq * k_sb + (L - 1).to(tl.int64) * k_sl + far // PER_GROUP * k_sg
        for r in tl.static_range(R):
            k = tl.load(k_at + r * k_sr + n * k_sn, mask=n < N, other=0.0).to(tl.float32)
            k += tl.load(k_bias_ptr + (far * R + r) * N + n, mask=n < N, other=0.0).to(tl.float32)
            key_at = final + H * (P * N) + (far * R + r) * N + n
            tl.store(key_at, k.to(final_ptr.dtype.element_ty), mask=n < N)
