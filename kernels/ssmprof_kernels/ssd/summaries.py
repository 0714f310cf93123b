"""Middle launches of the Mamba-2 scan: end states of segments, first apart, then combined.

Promises: no program waits for another one of its launch.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ssmprof_kernels.device.math import finite_rate
from ssmprof_kernels.ssd.parts import (
    LOG2E,
    UNSPECIALISED,
    _await_previous,
    _breaks,
    _delta,
    _dot,
    _end_at,
    _exp2,
    _largest,
    _let_next_start,
    _locate,
    _log_decay,
    _source,
    _tile,
    _unit,
)
from ssmprof_kernels.ssd.prepare import _pair_up


@triton.jit(do_not_specialize=UNSPECIALISED)
def _summaries(
    x_ref, dt_ptr, a_ptr, b_ref, chunk_b_ref, chunk_c_ref, pairs_ptr, bias_ptr, cu_ptr, seq_ptr,
    decays_ptr, sources_ptr, state_ptr, decay_ptr, L, H, PER_GROUP, P, N, K, S, count, steps,
    tasks, dt_min, dt_max, x_sb, x_sl, x_sh, x_sp, dt_sb, dt_sl, dt_sh, b_sb, b_sl, b_sg, b_sn,
    seq_sb, seq_sl, Q: tl.constexpr, R: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr,
    EVEN_P: tl.constexpr, EVEN_N: tl.constexpr, SOFTPLUS: tl.constexpr, CLAMP: tl.constexpr,
    APART: tl.constexpr, BIAS: tl.constexpr, VARLEN: tl.constexpr, SEQ_IDX: tl.constexpr,
    PREPARED: tl.constexpr, TMA: tl.constexpr, PAIRED: tl.constexpr, HALF: tl.constexpr,
    PRECISION: tl.constexpr, INTERPRET: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """End state of each segment from a zero start, and its decay; the exponents unless PREPARED,
    and the pairs of `_prepare` if PAIRED. HALF as in `_walk`."""
    T = K * Q
    _let_next_start(PDL)
    _await_previous(PDL and PREPARED)
    pid = tl.program_id(0)
    if PAIRED:
        if pid < tasks:
            _pair_up(chunk_b_ref, chunk_c_ref, pairs_ptr, pid, cu_ptr, count, steps, L, H,
                     PER_GROUP, N, K, S, Q, VARLEN)  # fmt: skip
            return
        pid -= tasks
    blocks = tl.cdiv(P, BP)
    block = pid % blocks
    head = (pid // blocks) % H
    slot = pid // (blocks * H)
    seq, start, length, first = _locate(slot, cu_ptr, count, steps, L, T, S, VARLEN)
    begin = (slot - first) * T
    # The walk writes the end state of the last segment, if anybody wants it.
    last = begin + T >= length
    if PREPARED:
        if last:
            return
    batch = seq * 0 if VARLEN else seq
    entry = batch.to(tl.int64)
    ps = tl.arange(0, BP)
    ns = tl.arange(0, BN)
    # One step takes R chunks, one per row, so that the exponents of a chunk stay its own.
    inner = tl.arange(0, R)[:, None] * Q + tl.arange(0, Q)[None, :]
    at = (slot * H + head).to(tl.int64)
    if not PREPARED:
        a2 = finite_rate(tl.load(a_ptr + head).to(tl.float32) * LOG2E)
        bias = 0.0
        if BIAS:
            bias = tl.load(bias_ptr + head).to(tl.float32)
        if last:
            left = length - begin
            dt_base = dt_ptr + entry * dt_sb + (start + begin).to(tl.int64) * dt_sl + head * dt_sh
            out = at * T + inner
            for _ in range(tl.cdiv(left, R * Q)):
                raw = tl.load(dt_base + inner * dt_sl, mask=inner < left, other=0.0)
                delta = _delta(raw, bias, inner < left, dt_min, dt_max, SOFTPLUS, CLAMP)
                a = tl.cumsum(_log_decay(delta, a2), 1)
                if block == 0:
                    tl.store(decays_ptr + out, a)
                    tl.store(sources_ptr + out, _source(a, delta, APART))
                dt_base += R * Q * dt_sl
                out += R * Q
                left -= R * Q
            return
    token = (start + begin + T - R * Q).to(tl.int64)
    x_base = x_ref
    b_base = b_ref
    if not TMA:
        x_base += entry * x_sb + token * x_sl + head.to(tl.int64) * x_sh + block * BP * x_sp
        b_base += entry * b_sb + token * b_sl + (head // PER_GROUP) * b_sg
    dt_base = dt_ptr + entry * dt_sb + token * dt_sl + head * dt_sh
    # Walking backwards keeps the sum of all later exponents at hand, so the accumulator is never
    # rescaled and the products of a segment are one long chain on the matrix units.
    acc = tl.zeros((BP, BN), tl.float32)
    after = 0.0
    if HALF:
        # It grows with the largest weight so far, beside which smaller ones count for less.
        unit, per_unit = _unit(after)
    alive = 1
    whole = inner >= 0
    p_mask = (block * BP + ps)[None, :] < P
    n_mask = ns[None, :] < N
    source_at = at * T + T - R * Q + inner
    chunk_at = at * T + T - R * Q + tl.arange(0, R) * Q + Q - 1
    if not PREPARED:
        raw = tl.load(dt_base + inner * dt_sl)
    x_row = (batch * L + start + begin + T - R * Q).to(tl.int32)
    for c in range(K // R - 1, -1, -1):
        if PREPARED:
            source = tl.load(sources_ptr + source_at)
            totals = tl.load(decays_ptr + chunk_at)
            if APART:
                a = tl.load(decays_ptr + source_at)
        else:
            delta = _delta(raw, bias, whole, dt_min, dt_max, SOFTPLUS, CLAMP)
            if c > 0:
                dt_base -= R * Q * dt_sl
            raw = tl.load(dt_base + inner * dt_sl)
            log_decay = _log_decay(delta, a2)
            totals = tl.sum(log_decay, 1)
            a = tl.cumsum(log_decay, 1)
            source = _source(a, delta, APART)
            if block == 0:
                tl.store(decays_ptr + source_at, a)
                tl.store(sources_ptr + source_at, source)
        total = tl.sum(totals, 0)
        # From a chunk's start to the end of the segment.
        rest = (after + total - (tl.cumsum(totals, 0) - totals))[:, None]
        if APART:
            w = source * _exp2(rest - a, INTERPRET)
        else:
            w = _exp2(rest - source, INTERPRET)
        source_at -= R * Q
        chunk_at -= R * Q
        if SEQ_IDX:
            tl.static_assert(PREPARED and R == 1)
            change, _ = _breaks(seq_ptr + entry * seq_sb, token + inner, seq_sl, start, whole)
            token -= Q
            changes = tl.sum(tl.sum(change, 1), 0)
            w = tl.where((tl.cumsum(change, 1) == changes) & (alive > 0), w, 0.0)
            alive = tl.where(changes > 0, 0, alive)
        after += total
        xv = _tile(x_ref, x_base, x_row, head * P + block * BP, x_sl, x_sp, p_mask, R * Q, BP, TMA,
                   not EVEN_P)  # fmt: skip
        bv = _tile(b_ref, b_base, x_row, (head // PER_GROUP) * N, b_sl, b_sn, n_mask, R * Q, BN,
                   TMA, not EVEN_N)  # fmt: skip
        x_row -= R * Q
        if not TMA:
            x_base -= R * Q * x_sl
            b_base -= R * Q * b_sl
        w = tl.reshape(w, (R * Q,))
        xw = tl.trans(xv).to(tl.float32)
        if HALF:
            fresh, per_fresh = _unit(_largest(w))
            if fresh > unit:
                acc = acc * (unit * per_fresh)
                unit = fresh
                per_unit = per_fresh
            xw = xw * (w * per_unit)[None, :]
        else:
            xw = xw * w[None, :]
        if SEQ_IDX:
            # A token of an earlier sequence must vanish even if it is not finite.
            xw = tl.where(w[None, :] != 0.0, xw, 0.0)
            bv = tl.where(w[:, None] != 0.0, bv, 0.0)
        acc = _dot(xw.to(bv.dtype), bv, acc, PRECISION, INTERPRET)
    if HALF:
        acc = acc * unit
    cells = (block * BP + ps)[:, None] * N + ns[None, :]
    tl.store(state_ptr + at * P * N + cells, acc, mask=tl.trans(p_mask) & n_mask)
    if block == 0:
        tl.store(decay_ptr + at, tl.where(alive > 0, after, -float("inf")))


@triton.jit(do_not_specialize=UNSPECIALISED)
def _combine(
    state_ptr, decay_ptr, h0_ptr, cu_ptr, L, H, SIZE, K, S, Q: tl.constexpr, BLOCK: tl.constexpr,
    H0: tl.constexpr, VARLEN: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """In place: end state from a zero start -> end state from the sequence's start."""
    T = K * Q
    _let_next_start(PDL)
    _await_previous(PDL)
    pid = tl.program_id(0)
    blocks = tl.cdiv(SIZE, BLOCK)
    block = pid % blocks
    head = (pid // blocks) % H
    seq = pid // (blocks * H)
    if VARLEN:
        start = _end_at(cu_ptr, seq, L)
        segments = tl.cdiv(_end_at(cu_ptr, seq + 1, L) - start, T)
        first = start // T + seq
    else:
        segments = tl.cdiv(L, T)
        first = seq * S
    cell = block * BLOCK + tl.arange(0, BLOCK)
    inside = cell < SIZE
    state = tl.zeros((BLOCK,), tl.float32)
    if H0:
        at = (seq * H + head).to(tl.int64) * SIZE
        state = tl.load(h0_ptr + at + cell, mask=inside, other=0.0).to(tl.float32)
    at = (first * H + head).to(tl.int64)
    ahead = tl.load(state_ptr + at * SIZE + cell, mask=inside & (segments > 1), other=0.0)
    for s in range(segments - 1):
        here = ahead
        decay = tl.load(decay_ptr + at)
        nxt = at + H
        ahead = tl.load(state_ptr + nxt * SIZE + cell, mask=inside & (s + 2 < segments), other=0.0)
        state = tl.where(decay == -float("inf"), 0.0, state * tl.exp2(decay)) + here
        tl.store(state_ptr + at * SIZE + cell, state, mask=inside)
        at = nxt
