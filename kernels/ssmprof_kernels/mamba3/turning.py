"""Middle launch of the Mamba-3 scan: keys and queries turned into one frame, and their products.

Promises: every row is read once per head and written once; with several ranks the values are
written, too, one row each.
"""

# The language of kernels is read by Triton, not by Python.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from ssmprof_kernels.mamba3.parts import cos_sin, fraction, half_tanh, turned
from ssmprof_kernels.mamba3.rates import FREE, before
from ssmprof_kernels.pointwise import softplus


@triton.jit
def _rows_of(ptr, bias_ptr, seq, token, rank, group, head, valid, s_b, s_l, s_r, s_g, s_n,
             N: tl.constexpr, BN: tl.constexpr, R: tl.constexpr):  # fmt: skip
    """(Q, BN): keys or queries of some rows, with the bias of their head and rank."""
    n = tl.arange(0, BN)
    inside = valid[:, None] & (n < N)[None, :]
    at = ptr + seq * s_b + group * s_g + token[:, None] * s_l + (rank * s_r)[:, None]
    x = tl.load(at + n[None, :] * s_n, mask=inside, other=0.0).to(tl.float32)
    bias_at = bias_ptr + head * (R * N)
    if R == 1:
        bias = tl.load(bias_at + n, mask=n < N, other=0.0).to(tl.float32)[None, :]
    else:
        bias = tl.load(bias_at + (rank * N)[:, None] + n[None, :], mask=inside, other=0.0)
        bias = bias.to(tl.float32)
    return tl.where(inside, x + bias, 0.0)


@triton.jit(do_not_specialize=FREE)
def _turn(
    q_ptr, k_ptr, v_ptr, dt_ptr, angle_ptr, bias_ptr, q_bias_ptr, k_bias_ptr, mix_ptr, own_ptr,
    sums_ptr, q_out, k_out, x_out, pairs_ptr, L, H, PER_GROUP, chunks, K,
    q_sb, q_sl, q_sr, q_sg, q_sn, k_sb, k_sl, k_sr, k_sg, k_sn, v_sb, v_sl, v_sh, v_sp,
    dt_sb, dt_sl, dt_sh, angle_sb, angle_sl, angle_ss, N: tl.constexpr, P: tl.constexpr,
    R: tl.constexpr, RANKS: tl.constexpr, ANGLES: tl.constexpr, Q: tl.constexpr,
    BN: tl.constexpr, BP: tl.constexpr, BS: tl.constexpr, FOLD: tl.constexpr,
    MIXED: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """One chunk of Q rows of one head. The angles fill the first of BN / 2 pairs, BS of them."""
    pid = tl.program_id(0)
    head = pid % H
    chunk = (pid // H) % chunks
    seq = (pid // (H * chunks)).to(tl.int64)
    TOKENS: tl.constexpr = Q // RANKS
    if chunk * TOKENS >= L:
        return
    row = tl.arange(0, Q)
    rank = row % RANKS
    token = (chunk * TOKENS + row // RANKS).to(tl.int64)
    real = token < L
    valid = real & (rank < R)
    far = head.to(tl.int64)
    bias = tl.load(bias_ptr + head).to(tl.float32)
    dt = tl.load(dt_ptr + seq * dt_sb + token * dt_sl + far * dt_sh, mask=real, other=0.0)
    step = softplus(dt.to(tl.float32) + bias, not INTERPRET)
    # A token turns once, before its first row.
    step = tl.where(real & (rank == 0), step, 0.0)
    s = tl.arange(0, BN // 2)
    turns = tl.load(
        angle_ptr + seq * angle_sb + token[:, None] * angle_sl + s[None, :] * angle_ss,
        mask=real[:, None] & (s < ANGLES)[None, :], other=0.0,
    )  # fmt: skip
    turns = tl.cumsum(step[:, None] * half_tanh(turns.to(tl.float32)), 0)
    start = before(sums_ptr, seq, chunk, head, H, chunks, s, s < BS, BS, FOLD)
    cos, sin = cos_sin(fraction(turns + start[None, :]), INTERPRET)
    group = far // PER_GROUP
    n = tl.arange(0, BN)
    first = (seq * (L * RANKS) + chunk * Q + row) * H + far
    cell = first[:, None] * N + n[None, :]
    stored = real[:, None] & (n < N)[None, :]
    k = _rows_of(k_ptr, k_bias_ptr, seq, token, rank, group, far, valid, k_sb, k_sl, k_sr, k_sg,
                 k_sn, N, BN, R)  # fmt: skip
    k = turned(k, cos, sin).to(k_out.dtype.element_ty)
    tl.store(k_out + cell, k, mask=stored)
    q = _rows_of(q_ptr, q_bias_ptr, seq, token, rank, group, far, valid, q_sb, q_sl, q_sr, q_sg,
                 q_sn, N, BN, R)  # fmt: skip
    q = turned(q, cos, sin).to(q_out.dtype.element_ty)
    tl.store(q_out + cell, q, mask=stored)
    if INTERPRET:
        q = q.to(tl.float32)
        k = k.to(tl.float32)
    pairs = tl.dot(q, tl.trans(k), input_precision="tf32x3")
    slot = seq * (chunks // K) + chunk // K
    own = tl.load(own_ptr + ((slot * H + head) * K + chunk % K) * Q + row)
    same = (row // RANKS)[:, None] == (row // RANKS)[None, :]
    pairs = tl.where(same, pairs * own[None, :], pairs)
    square = ((seq * chunks + chunk) * H + head) * (Q * Q)
    at = pairs_ptr + square + row[:, None] * Q + tl.arange(0, Q)[None, :]
    tl.store(at, pairs.to(pairs_ptr.dtype.element_ty))
    if MIXED:
        for p0 in range(0, P, BP):
            p = p0 + tl.arange(0, BP)
            inside = valid[:, None] & (p < P)[None, :]
            v_at = v_ptr + seq * v_sb + token[:, None] * v_sl + far * v_sh + p[None, :] * v_sp
            v = tl.load(v_at, mask=inside, other=0.0).to(tl.float32)
            mix_at = mix_ptr + far * (R * P) + (rank * P)[:, None] + p[None, :]
            v = v * tl.load(mix_at, mask=inside, other=0.0).to(tl.float32)
            x_at = x_out + first[:, None] * P + p[None, :]
            tl.store(x_at, v.to(x_out.dtype.element_ty), mask=real[:, None] & (p < P)[None, :])


@triton.jit
def _begin(
    state_ptr, dt_ptr, trap_ptr, bias_ptr, mix_ptr, h0_ptr, H, s_b, dt_sb, dt_sh, trap_sb,
    trap_sh, N: tl.constexpr, P: tl.constexpr, R: tl.constexpr, BN: tl.constexpr,
    BP: tl.constexpr, MIXED: tl.constexpr, INTERPRET: tl.constexpr,
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
    step = softplus(dt + tl.load(bias_ptr + head).to(tl.float32), not INTERPRET)
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
def _end(
    h_ptr, k_ptr, v_ptr, k_bias_ptr, sums_ptr, final_ptr, L, H, PER_GROUP, chunks, k_sb, k_sl,
    k_sr, k_sg, k_sn, v_sb, v_sl, v_sh, v_sp, N: tl.constexpr, P: tl.constexpr, R: tl.constexpr,
    BN: tl.constexpr, BP: tl.constexpr, BS: tl.constexpr, FOLD: tl.constexpr,
    INTERPRET: tl.constexpr,
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
    cos, sin = cos_sin(fraction(turns), INTERPRET)
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


@triton.jit
def _finish(
    y_ptr, z_ptr, mix_z_ptr, mix_o_ptr, out_ptr, L, H, z_sb, z_sl, z_sh, z_sp, P: tl.constexpr,
    R: tl.constexpr, RANKS: tl.constexpr, BH: tl.constexpr, BP: tl.constexpr,
    GATE: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """Gates of the ranks, and their weighted sum: y (B, L, RANKS, H, P) of one token."""
    pid = tl.program_id(0)
    blocks = tl.cdiv(H, BH)
    heads = (pid % blocks) * BH + tl.arange(0, BH)
    token = pid // blocks
    seq = (token // L).to(tl.int64)
    t = (token % L).to(tl.int64)
    p = tl.arange(0, BP)
    inside = (heads < H)[:, None] & (p < P)[None, :]
    cell = heads[:, None] * P + p[None, :]
    z = tl.zeros((BH, BP), tl.float32)
    if GATE:
        z_at = z_ptr + seq * z_sb + t * z_sl + heads[:, None] * z_sh + p[None, :] * z_sp
        z = tl.load(z_at, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((BH, BP), tl.float32)
    for r in tl.static_range(R):
        y = tl.load(y_ptr + (token.to(tl.int64) * RANKS + r) * (H * P) + cell, mask=inside, other=0.0)
        y = y.to(tl.float32)
        mix = (heads * R + r)[:, None] * P + p[None, :]
        if GATE:
            g = z * tl.load(mix_z_ptr + mix, mask=inside, other=0.0).to(tl.float32)
            y = y * g / (1.0 + tl.exp2(g * -1.4426950408889634))
        if SUM:
            total += y * tl.load(mix_o_ptr + mix, mask=inside, other=0.0).to(tl.float32)
        else:
            at = out_ptr + (token.to(tl.int64) * R + r) * (H * P) + cell
            tl.store(at, y.to(out_ptr.dtype.element_ty), mask=inside)
    if SUM:
        at = out_ptr + token.to(tl.int64) * (H * P) + cell
        tl.store(at, total.to(out_ptr.dtype.element_ty), mask=inside)
