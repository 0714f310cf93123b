"""Middle launches of the Mamba-2 scan: end states of segments, first apart, then combined.

Promises: no program waits for another one of its launch.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from ssmprof_kernels.device.math import LOG2E, exp2, finite_rate
from ssmprof_kernels.device.matrix import dot, largest, unit_of
from ssmprof_kernels.device.overlap import await_previous, let_next_start
from ssmprof_kernels.device.segments import UNSPECIALISED, end_at, tile
from ssmprof_kernels.ssd.parts import (
    breaks,
    delta_of,
    log_decay_of,
    place_of,
    source_of,
    sum_behind,
)
from ssmprof_kernels.ssd.prepare import pair_up


class Forming(NamedTuple):
    """What the exponents of one head are formed with: its rate, its bias, bounds of step sizes."""

    a2: Any
    bias: Any
    dt_min: Any
    dt_max: Any


class Exponents(NamedTuple):
    """Of R chunks, one per row: what tokens contribute with, decays of whole chunks, the running
    sums, the logs. What a form has no use for is the first once more."""

    source: Any
    totals: Any
    a: Any
    log_decay: Any


@triton.jit
def _forming(a_ptr, bias_ptr, head, dt_min, dt_max, BIAS: tl.constexpr):
    a2 = finite_rate(tl.load(a_ptr + head).to(tl.float32) * LOG2E)
    bias = 0.0
    if BIAS:
        bias = tl.load(bias_ptr + head).to(tl.float32)
    return Forming(a2, bias, dt_min, dt_max)


@triton.jit
def _store(made, at, log_decay, a, EXACT: tl.constexpr):
    if EXACT:
        tl.store(made.logs + at, log_decay)
    tl.store(made.decays + at, a)


@triton.jit
def _form_last(made, dt_base, at, inner, left, step, forming, block, STEP: tl.constexpr,
               DELTA: tl.constexpr):  # fmt: skip
    """The exponents of the `left` tokens of a last segment, whose end state is the walk's."""
    for _ in range(tl.cdiv(left, STEP)):
        raw = tl.load(dt_base + inner * step, mask=inner < left, other=0.0)
        delta = delta_of(raw, forming.bias, inner < left, forming.dt_min, forming.dt_max, DELTA)
        log_decay = log_decay_of(delta, forming.a2)
        a = tl.cumsum(log_decay, 1)
        if block == 0:
            _store(made, at, log_decay, a, DELTA.EXACT)
            tl.store(made.sources + at, source_of(a, delta, DELTA.APART))
        dt_base += STEP * step
        at += STEP
        left -= STEP


@triton.jit
def _read(made, at, chunk_at, DELTA: tl.constexpr):
    """The `Exponents` that `prepare` has formed."""
    source = tl.load(made.sources + at)
    totals = tl.load(made.decays + chunk_at)
    a = source
    log_decay = source
    if DELTA.EXACT:
        log_decay = tl.load(made.logs + at)
    elif DELTA.APART:
        a = tl.load(made.decays + at)
    return Exponents(source, totals, a, log_decay)


@triton.jit
def _form(made, at, delta, a2, block, DELTA: tl.constexpr):
    """The `Exponents` of step sizes `delta`; the programs of the first block store them."""
    log_decay = log_decay_of(delta, a2)
    totals = tl.sum(log_decay, 1)
    a = tl.cumsum(log_decay, 1)
    source = source_of(a, delta, DELTA.APART)
    if block == 0:
        _store(made, at, log_decay, a, DELTA.EXACT)
        tl.store(made.sources + at, source)
    return Exponents(source, totals, a, log_decay)


@triton.jit
def _weights(chunks, after, total, R: tl.constexpr, DELTA: tl.constexpr):
    """What each token of R chunks counts for at the segment's end; `after`: the exponents of all
    chunks behind them, `total`: their own."""
    source = chunks.source
    totals = chunks.totals
    if DELTA.EXACT:
        # From a chunk's end to that of the segment, and from a token to its chunk's end.
        later = tl.arange(0, R)[:, None] > tl.arange(0, R)[None, :]
        rest = after + tl.sum(tl.where(later, totals[:, None], 0.0), 0)
        w = source * exp2(rest[:, None] + sum_behind(chunks.log_decay, 1))
    else:
        # From a chunk's start to the end of the segment.
        rest = (after + total - (tl.cumsum(totals, 0) - totals))[:, None]
        if DELTA.APART:
            w = source * exp2(rest - chunks.a)
        else:
            w = exp2(rest - source)
    return w


@triton.jit
def _without_earlier(w, alive, seq_ptr, token, stride, start, whole):
    """Weights of a chunk without those before the last break; `alive`: none lies behind it."""
    change, _ = breaks(seq_ptr, token, stride, start, whole)
    changes = tl.sum(tl.sum(change, 1), 0)
    w = tl.where((tl.cumsum(change, 1) == changes) & (alive > 0), w, 0.0)
    return w, tl.where(changes > 0, 0, alive)


@triton.jit
def _in_unit(acc, xw, w, unit, per_unit):
    """x by its weights in the unit of `acc`, which becomes the larger one that they may need."""
    fresh, per_fresh = unit_of(largest(w))
    if fresh > unit:
        acc = acc * (unit * per_fresh)
        unit = fresh
        per_unit = per_fresh
    return acc, xw * (w * per_unit)[None, :], unit, per_unit


@triton.jit(do_not_specialize=UNSPECIALISED)
def ssmprof_scan_ssd_summaries(
    x_ref, b_ref, chunk_b_ref, chunk_c_ref, pairs_ptr, dt_ptr, a_ptr, bias_ptr, cu_ptr, seq_ptr,
    made, L, H, PER_GROUP, P, N, K, S, count, steps, tasks, dt_min, dt_max, x_steps, dt_steps,
    b_steps, seq_steps, R: tl.constexpr, PREPARED: tl.constexpr, PAIRED: tl.constexpr,
    TILE: tl.constexpr, DELTA: tl.constexpr, CUT: tl.constexpr,
):  # fmt: skip
    """End state of each segment from a zero start, and its decay; the exponents unless PREPARED,
    and the pairs of `prepare` if PAIRED. One step takes R chunks."""
    Q: tl.constexpr = TILE.Q
    BP: tl.constexpr = TILE.BP
    BN: tl.constexpr = TILE.BN
    TMA: tl.constexpr = TILE.TMA
    PRECISION: tl.constexpr = TILE.PRECISION
    VARLEN: tl.constexpr = CUT.VARLEN
    T = K * Q
    let_next_start(CUT.PDL)
    await_previous(CUT.PDL and PREPARED)
    pid = tl.program_id(0)
    if PAIRED:
        if pid < tasks:
            pair_up(chunk_b_ref, chunk_c_ref, pairs_ptr, pid, cu_ptr, count, steps, L, H,
                    PER_GROUP, N, K, S, Q, VARLEN)  # fmt: skip
            return
        pid -= tasks
    place = place_of(pid, cu_ptr, count, steps, L, H, P, T, S, BP, VARLEN)
    block = place.block
    head = place.head
    start = place.start
    begin = place.begin
    length = place.length
    # The walk writes the end state of the last segment, if anybody wants it.
    last = begin + T >= length
    if PREPARED:
        if last:
            return
    entry = place.batch.to(tl.int64)
    ps = tl.arange(0, BP)
    ns = tl.arange(0, BN)
    # One step takes R chunks, one per row, so that the exponents of a chunk stay its own.
    inner = tl.arange(0, R)[:, None] * Q + tl.arange(0, Q)[None, :]
    at = (place.slot * H + head).to(tl.int64)
    if not PREPARED:
        forming = _forming(a_ptr, bias_ptr, head, dt_min, dt_max, DELTA.BIAS)
        if last:
            dt_base = (
                dt_ptr
                + entry * dt_steps.b
                + (start + begin).to(tl.int64) * dt_steps.l
                + head * dt_steps.h
            )
            _form_last(made, dt_base, at * T + inner, inner, length - begin, dt_steps.l, forming,
                       block, R * Q, DELTA)  # fmt: skip
            return
    token = (start + begin + T - R * Q).to(tl.int64)
    x_base = x_ref
    b_base = b_ref
    if not TMA:
        x_base += (
            entry * x_steps.b
            + token * x_steps.l
            + head.to(tl.int64) * x_steps.h
            + block * BP * x_steps.p
        )
        b_base += entry * b_steps.b + token * b_steps.l + (head // PER_GROUP) * b_steps.g
    dt_base = dt_ptr + entry * dt_steps.b + token * dt_steps.l + head * dt_steps.h
    # Walking backwards keeps the sum of all later exponents at hand, so the accumulator is never
    # rescaled and the products of a segment are one long chain on the matrix units.
    acc = tl.zeros((BP, BN), tl.float32)
    after = 0.0
    if TILE.HALF:
        # It grows with the largest weight so far, beside which smaller ones count for less.
        unit, per_unit = unit_of(after)
    alive = 1
    whole = inner >= 0
    p_mask = (block * BP + ps)[None, :] < P
    n_mask = ns[None, :] < N
    source_at = at * T + T - R * Q + inner
    chunk_at = at * T + T - R * Q + tl.arange(0, R) * Q + Q - 1
    if not PREPARED:
        raw = tl.load(dt_base + inner * dt_steps.l)
    x_row = (place.batch * L + start + begin + T - R * Q).to(tl.int32)
    for c in range(K // R - 1, -1, -1):
        if PREPARED:
            chunks = _read(made, source_at, chunk_at, DELTA)
        else:
            delta = delta_of(raw, forming.bias, whole, dt_min, dt_max, DELTA)
            if c > 0:
                dt_base -= R * Q * dt_steps.l
            raw = tl.load(dt_base + inner * dt_steps.l)
            chunks = _form(made, source_at, delta, forming.a2, block, DELTA)
        total = tl.sum(chunks.totals, 0)
        w = _weights(chunks, after, total, R, DELTA)
        source_at -= R * Q
        chunk_at -= R * Q
        if CUT.SEQ_IDX:
            tl.static_assert(PREPARED and R == 1)
            w, alive = _without_earlier(
                w, alive, seq_ptr + entry * seq_steps.b, token + inner, seq_steps.l, start, whole
            )
            token -= Q
        after += total
        xv = tile(
            x_ref, x_base, x_row, head * P + block * BP, x_steps.l, x_steps.p, p_mask, R * Q, BP,
            TMA, not TILE.EVEN_P,
        )  # fmt: skip
        bv = tile(
            b_ref, b_base, x_row, (head // PER_GROUP) * N, b_steps.l, b_steps.n, n_mask, R * Q, BN,
            TMA, not TILE.EVEN_N,
        )  # fmt: skip
        x_row -= R * Q
        if not TMA:
            x_base -= R * Q * x_steps.l
            b_base -= R * Q * b_steps.l
        w = tl.reshape(w, (R * Q,))
        xw = tl.trans(xv).to(tl.float32)
        if TILE.HALF:
            acc, xw, unit, per_unit = _in_unit(acc, xw, w, unit, per_unit)
        else:
            xw = xw * w[None, :]
        if CUT.SEQ_IDX:
            # A token of an earlier sequence must vanish even if it is not finite.
            xw = tl.where(w[None, :] != 0.0, xw, 0.0)
            bv = tl.where(w[:, None] != 0.0, bv, 0.0)
        acc = dot(xw.to(bv.dtype), bv, acc, PRECISION)
    if TILE.HALF:
        acc = acc * unit
    cells = (block * BP + ps)[:, None] * N + ns[None, :]
    tl.store(made.ends + at * P * N + cells, acc, mask=tl.trans(p_mask) & n_mask)
    if block == 0:
        tl.store(made.totals + at, tl.where(alive > 0, after, -float("inf")))


@triton.jit(do_not_specialize=UNSPECIALISED)
def ssmprof_scan_ssd_combine(
    made, h0_ptr, cu_ptr, L, H, SIZE, K, S, Q: tl.constexpr, BLOCK: tl.constexpr,
    H0: tl.constexpr, CUT: tl.constexpr,
):  # fmt: skip
    """In place: end state from a zero start -> end state from the sequence's start."""
    T = K * Q
    let_next_start(CUT.PDL)
    await_previous(CUT.PDL)
    pid = tl.program_id(0)
    blocks = tl.cdiv(SIZE, BLOCK)
    block = pid % blocks
    head = (pid // blocks) % H
    seq = pid // (blocks * H)
    if CUT.VARLEN:
        start = end_at(cu_ptr, seq, L)
        segments = tl.cdiv(end_at(cu_ptr, seq + 1, L) - start, T)
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
    ahead = tl.load(made.ends + at * SIZE + cell, mask=inside & (segments > 1), other=0.0)
    for s in range(segments - 1):
        here = ahead
        decay = tl.load(made.totals + at)
        nxt = at + H
        ahead = tl.load(made.ends + nxt * SIZE + cell, mask=inside & (s + 2 < segments), other=0.0)
        state = tl.where(decay == -float("inf"), 0.0, state * tl.exp2(decay)) + here
        tl.store(made.ends + at * SIZE + cell, state, mask=inside)
        at = nxt
