"""Last launches of linear attention's scan: each segment's share of the state, then the outputs.

Promises: a program owns some columns of one head's state over one segment of a sequence and keeps
them in registers; nothing per chunk goes to memory but outputs. A sequence is cut into segments of
T chunks; the summaries are what each of them adds, from which a program of the walk sums up the
state it begins with.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportOperatorIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from ssmprof_kernels.device.math import exp2
from ssmprof_kernels.device.matrix import dot
from ssmprof_kernels.device.segments import first_slot, locate, zeros_from
from ssmprof_kernels.linear_attention.pairs import log_decay, log_gate

UNSPECIALISED = ["L", "H", "S", "M", "T", "count", "steps"]


@triton.jit
def _decayed(v, left, g, C: tl.constexpr):
    """Values of a chunk times the constant decay from each to the end of its `left` tokens."""
    rows = tl.arange(0, C)
    after = tl.maximum(tl.minimum(left, C) - 1 - rows, 0)
    return (v.to(tl.float32) * exp2(g * after.to(tl.float32))[:, None]).to(v.dtype)


@triton.jit(do_not_specialize=UNSPECIALISED)
def ssmprof_scan_linear_summaries(
    k_ptr, key_ptr, v_ptr, total_ptr, decay_ptr, cu_ptr, sum_ptr, gone_ptr, L, H, S, M, T, count,
    steps, k_steps, v_steps, PER: tl.constexpr, K: tl.constexpr,
    V: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, GATES: tl.constexpr,
    VARLEN: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """The state after one segment that begins with none, and with gates its decay. A head that
    shares keys, values and gates with others is asked for once."""
    BLOCKS: tl.constexpr = (V + BV - 1) // BV
    pid = tl.program_id(0)
    vs = (pid % BLOCKS) * BV + tl.arange(0, BV)
    heads = H // PER if GATES else H
    head = (pid // BLOCKS) % heads
    slot = pid // (BLOCKS * heads)
    shared = head if GATES else head // PER
    seq, start, length, first = locate(slot, cu_ptr, count, steps, L, T * C, M, VARLEN)
    begin = (slot - first) * (T * C)
    # The last segment of a sequence adds to no other.
    if begin + T * C >= length:
        return
    entry = (seq * 0 if VARLEN else seq).to(tl.int64)
    token = (start + begin).to(tl.int64)
    rows = tl.arange(0, C)
    ks = tl.arange(0, BK)
    v_ptr += entry * v_steps.b + token * v_steps.l + shared.to(tl.int64) * v_steps.h
    v_ptr += rows[:, None].to(tl.int64) * v_steps.l + vs[None, :] * v_steps.k
    column = (vs < V)[None, :]
    state = tl.zeros([BK, BV], tl.float32)
    if GATES:
        place = ((first_slot(seq, start, C, S, VARLEN) + begin // C) * heads + head).to(tl.int64)
        k_ptr = key_ptr + place * (C * BK) + rows[:, None] * BK + ks[None, :]
        total_ptr += place * BK + ks
        gone = tl.zeros([BK], tl.float32)
        k_step = heads.to(tl.int64) * (C * BK)
        t_step = heads.to(tl.int64) * BK
    else:
        k_ptr += entry * k_steps.b + token * k_steps.l + shared.to(tl.int64) * k_steps.h
        k_ptr += rows[:, None].to(tl.int64) * k_steps.l + ks[None, :] * k_steps.k
        k_step = k_steps.l.to(tl.int64) * C
        g = log_decay(decay_ptr, head)
        kept = exp2(g * C)
    for _ in tl.range(0, T, num_stages=STAGES):
        if GATES:
            k = tl.load(k_ptr)
            total = tl.load(total_ptr)
            total_ptr += t_step
        else:
            k = tl.load(k_ptr, mask=(ks < K)[None, :], other=0.0)
        v = tl.load(v_ptr, mask=column, other=0.0)
        if GATES:
            state *= exp2(total)[:, None]
            gone += total
        else:
            state *= kept
            v = _decayed(v, C, g, C)
        state = dot(tl.trans(k), v, state, PRECISION)
        k_ptr += k_step
        v_ptr += v_steps.l.to(tl.int64) * C
    at = (slot * heads + head).to(tl.int64)
    tl.store(sum_ptr + at * (BK * V) + ks[:, None] * V + vs[None, :], state, mask=column)
    if GATES:
        tl.store(gone_ptr + at * BK + ks, gone)


@triton.jit
def _start(
    h0_ptr, sum_ptr, gone_ptr, cells, owned, column, first, segment, seq, head, T, H, g,
    PER: tl.constexpr, K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, BK: tl.constexpr,
    BV: tl.constexpr, GATES: tl.constexpr, H0: tl.constexpr, SEGMENTS: tl.constexpr,
):  # fmt: skip
    """The state before a segment: the initial one, and what the segments before it add."""
    state = tl.zeros([BK, BV], tl.float32)
    if H0:
        given = h0_ptr + (seq * H + head).to(tl.int64) * (K * V)
        state = tl.load(given + cells, mask=owned, other=0.0).to(tl.float32)
    if SEGMENTS:
        for before in range(segment):
            if GATES:
                at = ((first + before) * (H // PER) + head // PER).to(tl.int64)
                gone = tl.load(gone_ptr + at * BK + tl.arange(0, BK))
                state *= exp2(gone)[:, None]
            else:
                at = ((first + before) * H + head).to(tl.int64)
                state *= exp2(g * (T * C).to(tl.float32))
            state += tl.load(sum_ptr + at * (BK * V) + cells, mask=column, other=0.0)
    return state


@triton.jit
def _by_tokens(
    state, q_ptr, k_ptr, v_ptr, gate_ptr, y_ptr, ks, vs, scale, g, valid, y_step, q_steps, k_steps,
    v_steps, g_steps, K: tl.constexpr, V: tl.constexpr, GATES: tl.constexpr, GIVEN: tl.constexpr,
):  # fmt: skip
    """A segment token by token: a product with 0 would hand on what is no number to the tokens of
    a chunk before it."""
    for t in range(valid):
        at = tl.cast(t, tl.int64)
        q = (
            tl.load(q_ptr + at * q_steps.l + ks * q_steps.k, mask=ks < K, other=0.0).to(tl.float32)
            * scale
        )
        k = tl.load(k_ptr + at * k_steps.l + ks * k_steps.k, mask=ks < K, other=0.0).to(tl.float32)
        v = tl.load(v_ptr + at * v_steps.l + vs * v_steps.k, mask=vs < V, other=0.0).to(tl.float32)
        if GATES:
            a = tl.load(gate_ptr + at * g_steps.l + ks * g_steps.k, mask=ks < K, other=0.0)
            state *= exp2(log_gate(a.to(tl.float32), GIVEN))[:, None]
        else:
            state *= exp2(g)
        state += k[:, None] * v[None, :]
        y = tl.sum(q[:, None] * state, 0)
        tl.store(y_ptr + at * y_step + vs, y.to(y_ptr.dtype.element_ty), mask=vs < V)
    return state


@triton.jit(do_not_specialize=UNSPECIALISED)
def ssmprof_scan_linear_walk(
    q_ptr, k_ptr, v_ptr, gate_ptr, asking_ptr, key_ptr, pair_ptr, total_ptr, decay_ptr, h0_ptr,
    cu_ptr, sum_ptr, gone_ptr, y_ptr, final_ptr, scale, L, H, S, M, T, count, steps, q_steps,
    k_steps, v_steps, g_steps, PER: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, GATES: tl.constexpr,
    GIVEN: tl.constexpr, H0: tl.constexpr,
    FINAL: tl.constexpr, VARLEN: tl.constexpr, SEGMENTS: tl.constexpr, PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """Outputs and the final state of one segment. With GATES chunks read what `pairs`
    wrote of q and k."""
    BLOCKS: tl.constexpr = (V + BV - 1) // BV
    pid = tl.program_id(0)
    vs = (pid % BLOCKS) * BV + tl.arange(0, BV)
    head = (pid // BLOCKS) % H
    slot = pid // (BLOCKS * H)
    seq, start, length, first = locate(slot, cu_ptr, count, steps, L, T * C, M, VARLEN)
    segment = slot - first
    begin = segment * (T * C)
    if VARLEN:
        # The slots of the last sequence also own the tokens behind it.
        if seq == count - 1:
            low = start + tl.maximum(begin, length)
            zeros_from(y_ptr, low, tl.minimum(start + begin + T * C, L), head, vs, H, V, C)
    # Slots past the end exist in ragged batches; an empty sequence still owns its first one.
    if (begin >= length) & (segment > 0):
        return
    shared = (head // PER).to(tl.int64)
    entry = (seq * 0 if VARLEN else seq).to(tl.int64)
    token = (start + begin).to(tl.int64)
    rows = tl.arange(0, C)
    ks = tl.arange(0, BK)
    column = (vs < V)[None, :]
    cells = ks[:, None] * V + vs[None, :]
    owned = (ks < K)[:, None] & column
    g = 0.0
    if not GATES:
        g = log_decay(decay_ptr, head)
    q_ptr += entry * q_steps.b + token * q_steps.l + head.to(tl.int64) * q_steps.h
    k_ptr += entry * k_steps.b + token * k_steps.l + shared * k_steps.h
    v_ptr += entry * v_steps.b + token * v_steps.l + shared * v_steps.h
    y_ptr += ((entry * L + token) * H + head) * V
    state = _start(h0_ptr, sum_ptr, gone_ptr, cells, owned, column, first, segment, seq, head, T,
                   H, g, PER, K, V, C, BK, BV, GATES, H0, SEGMENTS)  # fmt: skip
    chunk = first_slot(seq, start, C, S, VARLEN) + begin // C
    place = (chunk * H + head).to(tl.int64)
    pair_at = pair_ptr + place * (C * C) + rows[:, None] * C + rows[None, :]
    v_at = v_ptr + rows[:, None].to(tl.int64) * v_steps.l + vs[None, :] * v_steps.k
    y_at = y_ptr + rows[:, None].to(tl.int64) * (H * V) + vs[None, :]
    if GATES:
        holder = chunk * (H // PER) + shared
        q_at = asking_ptr + place * (C * BK) + rows[:, None] * BK + ks[None, :]
        k_at = key_ptr + holder * (C * BK) + rows[:, None] * BK + ks[None, :]
        total_ptr += holder * BK + ks
        q_step = H.to(tl.int64) * (C * BK)
        t_step = (H // PER).to(tl.int64) * BK
        k_step = t_step * C
    else:
        q_at = q_ptr + rows[:, None].to(tl.int64) * q_steps.l + ks[None, :] * q_steps.k
        k_at = k_ptr + rows[:, None].to(tl.int64) * k_steps.l + ks[None, :] * k_steps.k
        q_step = q_steps.l.to(tl.int64) * C
        k_step = k_steps.l.to(tl.int64) * C
        asking = scale * exp2(g * (rows + 1).to(tl.float32))
    valid = tl.minimum(length - begin, T * C)
    for done in tl.range(0, tl.cdiv(valid, C), num_stages=STAGES):
        left = valid - done * C
        inside = (rows < left)[:, None]
        if GATES:
            q = tl.load(q_at)
            k = tl.load(k_at)
            total = tl.load(total_ptr)
            total_ptr += t_step
        else:
            q = tl.load(q_at, mask=inside & (ks < K)[None, :], other=0.0)
            k = tl.load(k_at, mask=inside & (ks < K)[None, :], other=0.0)
        v = tl.load(v_at, mask=inside & column, other=0.0)
        pairs = tl.load(pair_at)
        y = dot(q, state.to(q.dtype), None, PRECISION)
        if not GATES:
            y *= asking[:, None]
        y = dot(pairs, v, y, PRECISION)
        tl.store(y_at, y.to(y_ptr.dtype.element_ty), mask=inside & column)
        if GATES:
            state *= exp2(total)[:, None]
        else:
            state *= exp2(g * tl.minimum(left, C).to(tl.float32))
            v = _decayed(v, left, g, C)
        state = dot(tl.trans(k), v, state, PRECISION)
        q_at += q_step
        k_at += k_step
        v_at += v_steps.l.to(tl.int64) * C
        pair_at += H.to(tl.int64) * (C * C)
        y_at += H.to(tl.int64) * (C * V)
    finite = tl.sum(tl.abs(state * 0.0)) == 0.0
    if not finite:
        if GATES:
            gate_ptr += entry * g_steps.b + token * g_steps.l + shared * g_steps.h
        state = _start(h0_ptr, sum_ptr, gone_ptr, cells, owned, column, first, segment, seq, head,
                       T, H, g, PER, K, V, C, BK, BV, GATES, H0, SEGMENTS)  # fmt: skip
        state = _by_tokens(state, q_ptr, k_ptr, v_ptr, gate_ptr, y_ptr, ks, vs, scale, g, valid,
                           H.to(tl.int64) * V, q_steps, k_steps, v_steps, g_steps, K,
                           V, GATES, GIVEN)  # fmt: skip
    if FINAL:
        if begin + T * C >= length:
            at = final_ptr + (seq * H + head).to(tl.int64) * (K * V) + cells
            tl.store(at, state.to(final_ptr.dtype.element_ty), mask=owned)
