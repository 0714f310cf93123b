"""First launches of the Mamba-3 scan: exponents of all tokens, and the angles of their frames.

A row is one rank of one token. The rule adds to a state the token itself, weighted, and the one
before, weighted otherwise. Counted from the token that is read, what it counts for in all later
ones is `both`, its own weight and that of the next one's look back; for itself it is `own`.
"""

# The language of kernels is read by Triton, not by Python.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from ssmprof_kernels.device.math import softplus
from ssmprof_kernels.mamba3.parts import fraction, half_tanh, rate, sigmoid

#: Sizes whose value must not make a kernel compile again.
FREE = ["L", "H", "PER_GROUP", "chunks", "K", "S"]
#: Base-2 exponent of a decay that is 0 in fp32.
FLOOR = tl.constexpr(-160.0)


@triton.jit(do_not_specialize=FREE)
def ssmprof_scan_mamba3_rates(
    a_ptr, dt_ptr, trap_ptr, angle_ptr, bias_ptr, decays_ptr, sources_ptr, own_ptr, sums_ptr, L, H,
    chunks, K, a_sb, a_sl, a_sh, dt_sb, dt_sl, dt_sh, trap_sb, trap_sl, trap_sh, angle_sb, angle_sl,
    angle_ss, ANGLES: tl.constexpr, TOKENS: tl.constexpr, RANKS: tl.constexpr, BT: tl.constexpr,
    BS: tl.constexpr, HEADS: tl.constexpr, APART: tl.constexpr,
):  # fmt: skip
    """One chunk of `TOKENS` tokens, `HEADS` heads: running exponents, what each row contributes
    with, the share of it that counts for its own token, and the turns of the whole chunk."""
    pid = tl.program_id(0)
    blocks = tl.cdiv(H, HEADS)
    heads = (pid % blocks) * HEADS + tl.arange(0, HEADS)
    chunk = (pid // blocks) % chunks
    seq = (pid // (blocks * chunks)).to(tl.int64)
    at = tl.arange(0, BT)
    token = (chunk * TOKENS + at).to(tl.int64)
    mine = heads < H
    real = (at < TOKENS) & (token < L)
    valid = real[:, None] & mine[None, :]
    behind = ((at < TOKENS) & (token + 1 < L))[:, None] & mine[None, :]
    bias = tl.load(bias_ptr + heads, mask=mine, other=0.0).to(tl.float32)[None, :]
    dt_at = dt_ptr + seq * dt_sb + token[:, None] * dt_sl + heads[None, :] * dt_sh
    trap_at = trap_ptr + seq * trap_sb + token[:, None] * trap_sl + heads[None, :] * trap_sh
    a_at = a_ptr + seq * a_sb + token[:, None] * a_sl + heads[None, :] * a_sh
    dt = tl.load(dt_at, mask=valid, other=0.0).to(tl.float32)
    dt_next = tl.load(dt_at + dt_sl, mask=behind, other=0.0).to(tl.float32)
    trap = tl.load(trap_at, mask=valid, other=0.0).to(tl.float32)
    trap_next = tl.load(trap_at + trap_sl, mask=behind, other=0.0).to(tl.float32)
    a = tl.load(a_at, mask=valid, other=0.0).to(tl.float32)
    step = tl.where(valid, softplus(dt + bias), 0.0)
    step_next = tl.where(behind, softplus(dt_next + bias), 0.0)
    own = step * sigmoid(trap)
    both = own + step_next * sigmoid(-trap_next)
    decay = rate(a) * step
    decay = tl.cumsum(tl.where(decay < FLOOR, FLOOR, decay), 0)
    source = both if APART else decay - tl.log2(both)
    share = own / tl.where(both > 0.0, both, 1.0)
    slot = seq * (chunks // K) + chunk // K
    row = ((slot * H + heads) * K + chunk % K)[None, :] * (TOKENS * RANKS) + (at * RANKS)[:, None]
    kept = (at < TOKENS)[:, None] & mine[None, :]
    for r in tl.static_range(RANKS):
        tl.store(decays_ptr + row + r, decay, mask=kept)
        tl.store(sources_ptr + row + r, source, mask=kept)
        tl.store(own_ptr + row + r, share, mask=kept)
    s = tl.arange(0, BS)
    turns = tl.load(
        angle_ptr + seq * angle_sb + token[:, None] * angle_sl + s[None, :] * angle_ss,
        mask=real[:, None] & (s < ANGLES)[None, :], other=0.0,
    )  # fmt: skip
    turns = half_tanh(turns.to(tl.float32))
    total = tl.dot(tl.trans(step), turns, input_precision="tf32x3")
    cell = ((seq * (chunks + 1) + chunk) * H + heads)[:, None] * BS + s[None, :]
    tl.store(sums_ptr + cell, total, mask=mine[:, None])


@triton.jit(do_not_specialize=FREE)
def ssmprof_scan_mamba3_prefix(sums_ptr, H, chunks, BS: tl.constexpr, BC: tl.constexpr):
    """In place, of one head: turns of each chunk -> turns before it; behind the last all."""
    pid = tl.program_id(0)
    head = pid % H
    seq = (pid // H).to(tl.int64)
    s = tl.arange(0, BS)
    at = sums_ptr + (seq * (chunks + 1) * H + head) * BS + s
    before = tl.zeros((BS,), tl.float32)
    step = (H * BS).to(tl.int64)
    c = tl.arange(0, BC)
    for first in range(0, chunks, BC):
        cell = at[None, :] + (first + c).to(tl.int64)[:, None] * step
        alive = (first + c < chunks)[:, None]
        turns = tl.load(cell, mask=alive, other=0.0)
        summed = tl.cumsum(turns, 0)
        tl.store(cell, fraction(before[None, :] + summed - turns), mask=alive)
        before = fraction(before + tl.sum(turns, 0))
    tl.store(at + chunks.to(tl.int64) * step, before)


@triton.jit
def before(sums_ptr, seq, chunk, head, H, chunks, s, known, BS: tl.constexpr, FOLD: tl.constexpr):
    """Turns of the pairs `s`, where `known`, before a chunk; FOLD: up to so many chunks whose turns
    have not been summed yet."""
    at = sums_ptr + (seq * (chunks + 1) * H + head) * BS + s
    if FOLD > 0:
        c = tl.arange(0, FOLD)
        cell = at[None, :] + (c * H * BS)[:, None]
        turns = tl.sum(tl.load(cell, mask=(c < chunk)[:, None] & known[None, :], other=0.0), 0)
    else:
        turns = tl.load(at + (chunk * H * BS).to(tl.int64), mask=known, other=0.0)
    return turns


@triton.jit(do_not_specialize=FREE)
def ssmprof_scan_mamba3_angles(
    dt_ptr, angle_ptr, bias_ptr, sums_ptr, turns_ptr, L, H, chunks, dt_sb, dt_sl, dt_sh, angle_sb,
    angle_sl, angle_ss, ANGLES: tl.constexpr, TOKENS: tl.constexpr, BS: tl.constexpr,
    HEADS: tl.constexpr, FOLD: tl.constexpr,
):  # fmt: skip
    """Turns (B, L, H, S) from before the first token to behind each, of one chunk and some heads:
    fp32, or 16 bits of a turn, which is exact to 1e-4 and drops whole turns by itself."""
    pid = tl.program_id(0)
    blocks = tl.cdiv(H, HEADS)
    chunk = (pid // blocks) % chunks
    seq = (pid // (blocks * chunks)).to(tl.int64)
    if chunk * TOKENS >= L:
        return
    token = (chunk * TOKENS + tl.arange(0, TOKENS)).to(tl.int64)
    real = token < L
    s = tl.arange(0, BS)
    inside = real[:, None] & (s < ANGLES)[None, :]
    at = angle_ptr + seq * angle_sb + token[:, None] * angle_sl + s[None, :] * angle_ss
    rate = half_tanh(tl.load(at, mask=inside, other=0.0).to(tl.float32))
    for i in tl.static_range(HEADS):
        head = (pid % blocks) * HEADS + i
        if head < H:
            far = head.to(tl.int64)
            bias = tl.load(bias_ptr + head).to(tl.float32)
            dt = tl.load(dt_ptr + seq * dt_sb + token * dt_sl + far * dt_sh, mask=real, other=0.0)
            step = tl.where(real, softplus(dt.to(tl.float32) + bias), 0.0)
            turns = tl.cumsum(step[:, None] * rate, 0)
            start = before(sums_ptr, seq, chunk, head, H, chunks, s, s < BS, BS, FOLD)
            turns = fraction(turns + start[None, :])
            if turns_ptr.dtype.element_ty == tl.int16:
                turns = tl.floor(turns * 65536.0 + 0.5).to(tl.int32).to(tl.int16)
            out = turns_ptr + ((seq * L + token) * H + far)[:, None] * BS + s[None, :]
            tl.store(out, turns, mask=real[:, None])
