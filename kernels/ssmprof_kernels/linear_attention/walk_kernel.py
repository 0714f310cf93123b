"""Last launches of linear attention's scan: each segment's share of the state, then the outputs.

Promises: a program owns some columns of one head's state over one segment of a sequence and keeps
them in registers; nothing per chunk goes to memory but outputs. A sequence is cut into segments of
T chunks; `summary_kernel` gives what each of them adds, from which a `walk_kernel` program sums up
the state it begins with.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportOperatorIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from ssmprof_kernels.chunked import blank, exp2, first_slot, locate, product
from ssmprof_kernels.linear_attention.pair_kernel import log_decay

UNSPECIALISED = ["L", "H", "S", "M", "T", "count", "steps"]


@triton.jit
def _decayed(v, left, g, C: tl.constexpr, ASM: tl.constexpr):
    """Values of a chunk times the constant decay from each to the end of its `left` tokens."""
    rows = tl.arange(0, C)
    after = tl.maximum(tl.minimum(left, C) - 1 - rows, 0)
    return (v.to(tl.float32) * exp2(g * after.to(tl.float32), ASM)[:, None]).to(v.dtype)


@triton.jit(do_not_specialize=UNSPECIALISED)
def summary_kernel(
    k_ptr, v_ptr, total_ptr, decay_ptr, cu_ptr, sum_ptr, gone_ptr, L, H, S, M, T, count, steps,
    k_sb, k_sl, k_sh, k_sk, v_sb, v_sl, v_sh, v_sk, PER: tl.constexpr, K: tl.constexpr,
    V: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, GATES: tl.constexpr,
    VARLEN: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr, ASM: tl.constexpr,
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
    seq, start, length, first = locate(slot, cu_ptr, count, steps, L, M, T * C, VARLEN)
    begin = (slot - first) * (T * C)
    # The last segment of a sequence adds to no other.
    if begin + T * C >= length:
        return
    entry = (seq * 0 if VARLEN else seq).to(tl.int64)
    token = (start + begin).to(tl.int64)
    rows = tl.arange(0, C)
    ks = tl.arange(0, BK)
    v_ptr += entry * v_sb + token * v_sl + shared.to(tl.int64) * v_sh
    v_ptr += rows[:, None].to(tl.int64) * v_sl + vs[None, :] * v_sk
    column = (vs < V)[None, :]
    state = tl.zeros([BK, BV], tl.float32)
    if GATES:
        place = ((first_slot(seq, start, S, C, VARLEN) + begin // C) * heads + head).to(tl.int64)
        k_ptr += place * (C * BK) + rows[:, None] * BK + ks[None, :]
        total_ptr += place * BK + ks
        gone = tl.zeros([BK], tl.float32)
        k_step = heads.to(tl.int64) * (C * BK)
        t_step = heads.to(tl.int64) * BK
    else:
        k_ptr += entry * k_sb + token * k_sl + shared.to(tl.int64) * k_sh
        k_ptr += rows[:, None].to(tl.int64) * k_sl + ks[None, :] * k_sk
        k_step = k_sl.to(tl.int64) * C
        g = log_decay(decay_ptr, head)
        kept = exp2(g * C, ASM)
    for _ in tl.range(0, T, num_stages=STAGES):
        if GATES:
            k = tl.load(k_ptr)
            total = tl.load(total_ptr)
            total_ptr += t_step
        else:
            k = tl.load(k_ptr, mask=(ks < K)[None, :], other=0.0)
        v = tl.load(v_ptr, mask=column, other=0.0)
        if GATES:
            state *= exp2(total, ASM)[:, None]
            gone += total
        else:
            state *= kept
            v = _decayed(v, C, g, C, ASM)
        state = product(tl.trans(k), v, state, PRECISION, ASM)
        k_ptr += k_step
        v_ptr += v_sl.to(tl.int64) * C
    at = (slot * heads + head).to(tl.int64)
    tl.store(sum_ptr + at * (BK * V) + ks[:, None] * V + vs[None, :], state, mask=column)
    if GATES:
        tl.store(gone_ptr + at * BK + ks, gone)


@triton.jit(do_not_specialize=UNSPECIALISED)
def walk_kernel(
    q_ptr, k_ptr, v_ptr, pair_ptr, total_ptr, decay_ptr, h0_ptr, cu_ptr, sum_ptr, gone_ptr, y_ptr,
    final_ptr, scale, L, H, S, M, T, count, steps, q_sb, q_sl, q_sh, q_sk, k_sb, k_sl, k_sh, k_sk,
    v_sb, v_sl, v_sh, v_sk, PER: tl.constexpr, K: tl.constexpr, V: tl.constexpr, C: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, GATES: tl.constexpr, H0: tl.constexpr,
    FINAL: tl.constexpr, VARLEN: tl.constexpr, SEGMENTS: tl.constexpr, PRECISION: tl.constexpr,
    STAGES: tl.constexpr, ASM: tl.constexpr,
):  # fmt: skip
    """Outputs and the final state of one segment. With GATES q and k are what `pair_kernel` wrote,
    else as they were given."""
    BLOCKS: tl.constexpr = (V + BV - 1) // BV
    pid = tl.program_id(0)
    vs = (pid % BLOCKS) * BV + tl.arange(0, BV)
    head = (pid // BLOCKS) % H
    slot = pid // (BLOCKS * H)
    seq, start, length, first = locate(slot, cu_ptr, count, steps, L, M, T * C, VARLEN)
    segment = slot - first
    begin = segment * (T * C)
    if VARLEN:
        # The slots of the last sequence also own the tokens behind it.
        if seq == count - 1:
            low = start + tl.maximum(begin, length)
            blank(y_ptr, low, tl.minimum(start + begin + T * C, L), head, vs, H, V, C)
    # Slots past the end exist in ragged batches; an empty sequence still owns its first one.
    if (begin >= length) & (segment > 0):
        return
    shared = head // PER
    entry = (seq * 0 if VARLEN else seq).to(tl.int64)
    token = (start + begin).to(tl.int64)
    rows = tl.arange(0, C)
    ks = tl.arange(0, BK)
    column = (vs < V)[None, :]
    cells = ks[:, None] * V + vs[None, :]
    owned = (ks < K)[:, None] & column
    state_at = (seq * H + head).to(tl.int64) * (K * V)
    state = tl.zeros([BK, BV], tl.float32)
    if H0:
        state = tl.load(h0_ptr + state_at + cells, mask=owned, other=0.0).to(tl.float32)
    if not GATES:
        g = log_decay(decay_ptr, head)
    if SEGMENTS:
        for before in range(segment):
            if GATES:
                at = ((first + before) * (H // PER) + shared).to(tl.int64)
                state *= exp2(tl.load(gone_ptr + at * BK + ks), ASM)[:, None]
            else:
                at = ((first + before) * H + head).to(tl.int64)
                state *= exp2(g * (T * C).to(tl.float32), ASM)
            state += tl.load(sum_ptr + at * (BK * V) + cells, mask=column, other=0.0)
    chunk = first_slot(seq, start, S, C, VARLEN) + begin // C
    place = (chunk * H + head).to(tl.int64)
    pair_ptr += place * (C * C) + rows[:, None] * C + rows[None, :]
    v_ptr += entry * v_sb + token * v_sl + shared.to(tl.int64) * v_sh
    v_ptr += rows[:, None].to(tl.int64) * v_sl + vs[None, :] * v_sk
    if GATES:
        holder = (chunk * (H // PER) + shared).to(tl.int64)
        q_ptr += place * (C * BK) + rows[:, None] * BK + ks[None, :]
        k_ptr += holder * (C * BK) + rows[:, None] * BK + ks[None, :]
        total_ptr += holder * BK + ks
        q_step = H.to(tl.int64) * (C * BK)
        t_step = (H // PER).to(tl.int64) * BK
        k_step = t_step * C
    else:
        q_ptr += entry * q_sb + token * q_sl + head.to(tl.int64) * q_sh
        q_ptr += rows[:, None].to(tl.int64) * q_sl + ks[None, :] * q_sk
        k_ptr += entry * k_sb + token * k_sl + shared.to(tl.int64) * k_sh
        k_ptr += rows[:, None].to(tl.int64) * k_sl + ks[None, :] * k_sk
        q_step = q_sl.to(tl.int64) * C
        k_step = k_sl.to(tl.int64) * C
        asking = scale * exp2(g * (rows + 1).to(tl.float32), ASM)
    y_ptr += ((entry * L + token) * H + head) * V
    y_ptr += rows[:, None].to(tl.int64) * (H * V) + vs[None, :]
    valid = tl.minimum(length - begin, T * C)
    for done in tl.range(0, tl.cdiv(valid, C), num_stages=STAGES):
        left = valid - done * C
        inside = (rows < left)[:, None]
        if GATES:
            q = tl.load(q_ptr)
            k = tl.load(k_ptr)
            total = tl.load(total_ptr)
            total_ptr += t_step
        else:
            q = tl.load(q_ptr, mask=inside & (ks < K)[None, :], other=0.0)
            k = tl.load(k_ptr, mask=inside & (ks < K)[None, :], other=0.0)
        v = tl.load(v_ptr, mask=inside & column, other=0.0)
        pairs = tl.load(pair_ptr)
        y = product(q, state.to(q.dtype), None, PRECISION, ASM)
        if not GATES:
            y *= asking[:, None]
        y = product(pairs, v, y, PRECISION, ASM)
        tl.store(y_ptr, y.to(y_ptr.dtype.element_ty), mask=inside & column)
        if GATES:
            state *= exp2(total, ASM)[:, None]
        else:
            state *= exp2(g * tl.minimum(left, C).to(tl.float32), ASM)
            v = _decayed(v, left, g, C, ASM)
        state = product(tl.trans(k), v, state, PRECISION, ASM)
        q_ptr += q_step
        k_ptr += k_step
        v_ptr += v_sl.to(tl.int64) * C
        pair_ptr += H.to(tl.int64) * (C * C)
        y_ptr += H.to(tl.int64) * (C * V)
    if FINAL:
        if begin + T * C >= length:
            at = final_ptr + state_at + cells
            tl.store(at, state.to(final_ptr.dtype.element_ty), mask=owned)
