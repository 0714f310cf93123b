"""The walk of the delta rules over the chunks of a segment, its state in registers.

With S (K, V) the state before a chunk, per chunk (arXiv:2406.06484, section 3.2):

    W = T V - T (knows S),   O = asks S + P W,   S = kept S + keeps^T W

All of it is formed transposed: every left operand is then what a product before has left in
registers. T, P and the others are what `prepare` or `prepare_channels` wrote. A state is linear in
the state that its segment starts from, S_end = A S_start + E: with SUMMARY the walk finds E from an
empty start, and A from unit columns that no values are written to. `combine` leads the end of each
segment through the next.

With PRECISE (`plan.doubled`) T, V - knows S, W and the keeps of decays of their own are two numbers
each, high and low; products of two lows are left out.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

import triton
import triton.language as tl

from ssmprof_kernels.gated_delta.parts import UNSPECIALISED, dot, halves, locate


@triton.jit
def _blank(y_ptr, low, high, head, v, H, V, C: tl.constexpr, BV: tl.constexpr):
    """y is 0 for the tokens low .. high of one head and block of values."""
    for token in range(low, high, C):
        row = token + tl.arange(0, C)[None, :]
        at = y_ptr + (row.to(tl.int64) * H + head) * V + v[:, None]
        zeros = tl.zeros((BV, C), y_ptr.dtype.element_ty)
        tl.store(at, zeros, mask=(row < high) & (v[:, None] < V))


@triton.jit
def _rows(ref, ptr, row, place, C: tl.constexpr, W: tl.constexpr, TMA: tl.constexpr):
    """What was prepared for a chunk, (C, W), as matrix operand."""
    if TMA:
        tile = ref.load([row, 0])
    else:
        at = ptr + place * (C * W) + tl.arange(0, C)[:, None] * W + tl.arange(0, W)[None, :]
        tile = tl.load(at)
    return tile


@triton.jit
def _tokens(
    ref, base, row, column, stride_row, stride_column, mask, C: tl.constexpr, W: tl.constexpr,
    TMA: tl.constexpr,
):  # fmt: skip
    """What was given for the tokens of a chunk, (C, W)."""
    if TMA:
        tile = ref.load([row, column])
    else:
        at = base + tl.arange(0, C)[:, None] * stride_row
        tile = tl.load(at + tl.arange(0, W)[None, :] * stride_column, mask=mask, other=0.0)
    return tile


@triton.jit
def _start(
    h0_ptr, ends_ptr, seq, segment, slot, head, H, v, n, h0_sb, h0_sh, h0_sk, h0_sv,
    V: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    H0: tl.constexpr, SUMMARY: tl.constexpr, SEGMENTS: tl.constexpr,
):  # fmt: skip
    """S^T (BV, BK) before a segment; with SUMMARY before the first, else zeros or unit columns."""
    s = tl.zeros((BV, BK), tl.float32)
    mask = (v[:, None] < V) & (n[None, :] < K)
    if H0:
        if segment == 0:
            at = h0_ptr + seq.to(tl.int64) * h0_sb + head.to(tl.int64) * h0_sh
            at += n[None, :] * h0_sk + v[:, None].to(tl.int64) * h0_sv
            s = tl.load(at, mask=mask, other=0.0).to(tl.float32)
    if SUMMARY:
        s += tl.where(v[:, None] - (ROWS - BK) == n[None, :], 1.0, 0.0)
    elif SEGMENTS:
        if segment > 0:
            at = ends_ptr + ((slot - 1).to(tl.int64) * H + head) * (ROWS * BK)
            s = tl.load(at + v[:, None] * BK + n[None, :])
    return s


@triton.jit(do_not_specialize=UNSPECIALISED)
def ssmprof_scan_delta_walk(
    asks_ref, knows_ref, keeps_ref, keeps_low_ref, v_ref, solve_ref, solve_low_ref, score_ref,
    q_ptr, k_ptr, v_ptr, asks_ptr, knows_ptr, keeps_ptr, keeps_low_ptr, factors_ptr, kept_ptr,
    solve_ptr, solve_low_ptr, score_ptr, h0_ptr, cu_ptr, ends_ptr, y_ptr, final_ptr, L, H, PER_KEY,
    T, S, CHUNKS, count, steps, q_sb, q_sl, q_sh, q_sk, k_sb, k_sl, k_sh, k_sk, v_sb, v_sl, v_sh,
    v_sv, h0_sb, h0_sh, h0_sk, h0_sv, K: tl.constexpr, V: tl.constexpr, C: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, CHANNELS: tl.constexpr, DECAY: tl.constexpr,
    TMA: tl.constexpr, COPIED: tl.constexpr, COPIED_V: tl.constexpr, SUMMARY: tl.constexpr,
    SEGMENTS: tl.constexpr, H0: tl.constexpr, FINAL: tl.constexpr, VARLEN: tl.constexpr,
    PRECISION: tl.constexpr, PRECISE: tl.constexpr,
):  # fmt: skip
    """One segment of one head and block of values, or with SUMMARY of columns that find A. Queries
    and keys come as they were given unless CHANNELS, with TMA by descriptors: of copies of whole
    chunks if COPIED, as are values if COPIED_V."""
    VP: tl.constexpr = (V + BV - 1) // BV * BV
    ROWS: tl.constexpr = VP + BK
    BLOCKS: tl.constexpr = ROWS // BV if SUMMARY else VP // BV
    dtype: tl.constexpr = v_ptr.dtype.element_ty
    pid = tl.program_id(0)
    block = pid % BLOCKS
    head = (pid // BLOCKS) % H
    slot = pid // (BLOCKS * H)
    seq, start, length, first = locate(slot, cu_ptr, count, steps, L, T, S, VARLEN)
    segment = slot - first
    begin = segment * T
    v = block * BV + tl.arange(0, BV)
    if VARLEN and not SUMMARY:
        # The slots of the last sequence also own the tokens behind it.
        if seq == count - 1:
            low = start + tl.maximum(begin, length)
            _blank(y_ptr, low, tl.minimum(start + begin + T, L), head, v, H, V, C, BV)
    # Slots past the end exist in ragged batches; an empty sequence still owns its first one.
    if (begin >= length) & (segment > 0):
        return
    if SUMMARY:
        # Nothing follows the last segment; the first one has a start that is known.
        if (begin + T >= length) | ((segment == 0) & (block * BV >= VP)):
            return
    n = tl.arange(0, BK)
    i = tl.arange(0, C)
    s = _start(h0_ptr, ends_ptr, seq, segment, slot, head, H, v, n, h0_sb, h0_sh, h0_sk, h0_sv,
               V, K, ROWS, BK, BV, H0, SUMMARY, SEGMENTS)  # fmt: skip
    far = head.to(tl.int64)
    near = head // PER_KEY
    batch = seq * 0 if VARLEN else seq
    entry = batch.to(tl.int64)
    token = (start + begin).to(tl.int64)
    v_base = v_ptr + entry * v_sb + token * v_sl + far * v_sh + block * BV * v_sv
    y_base = y_ptr + ((entry * L + token) * H + far) * V
    k_base = k_ptr
    q_base = q_ptr
    if not CHANNELS:
        k_base += entry * k_sb + token * k_sl + near.to(tl.int64) * k_sh
        q_base += entry * q_sb + token * q_sl + near.to(tl.int64) * q_sh
    # Rows of descriptors: tokens as they were given, and what was prepared for their chunks.
    given = (batch * L + start + begin).to(tl.int32)
    chunk = (start // C + seq if VARLEN else seq * CHUNKS) + begin // C
    place = chunk.to(tl.int64) * H + head
    made = (place * C).to(tl.int32)
    row = given
    row_step = C
    if COPIED:
        row = ((chunk.to(tl.int64) * (H // PER_KEY) + near) * C).to(tl.int32)
        row_step = H // PER_KEY * C
    q_column = 0 if COPIED else near * q_sh
    k_column = 0 if COPIED else near * k_sh
    v_column = block * BV + (0 if COPIED_V else head * v_sh)
    if SUMMARY:
        # Columns that find A have no values: behind the last column of a descriptor there is 0.
        v_column = tl.where(block * BV < VP, v_column, VP if COPIED_V else H * V)
    left = tl.minimum(length - begin, T)
    last = begin + T >= length
    if FINAL:
        final_ptr += (seq.to(tl.int64) * H + far) * (K * V)
    for c in range(0, left, C):
        here = i < left - c
        mask = here[:, None] & (n[None, :] < K)
        if CHANNELS:
            kept = tl.load(kept_ptr + place * BK + n)[None, :]
            knows = _rows(knows_ref, knows_ptr, made, place, C, BK, TMA)
            keeps = _rows(keeps_ref, keeps_ptr, made, place, C, BK, TMA)
        else:
            factors = factors_ptr + place * (3 * C) + i
            known_by = tl.load(factors + C)[None, :]
            kept_by = tl.load(factors + 2 * C)[None, :]
            kept = tl.load(kept_ptr + place)
            knows = _tokens(knows_ref, k_base, row, k_column, k_sl, k_sk, mask, C, BK, TMA)
            keeps = knows
        solve = _rows(solve_ref, solve_ptr, made, place, C, C, TMA)
        state = s.to(dtype)
        known = dot(state, tl.trans(knows), None, PRECISION)
        if not CHANNELS:
            known *= known_by
        in_v = here[:, None] & (v[None, :] < V)
        v_row = made if COPIED_V else given
        values = _tokens(v_ref, v_base, v_row, v_column, v_sl, v_sv, in_v, C, BV, TMA)
        if PRECISE:
            solve_low = _rows(solve_low_ref, solve_low_ptr, made, place, C, C, TMA)
            high, low = halves(tl.trans(values).to(tl.float32) - known, dtype)
            written = dot(low, tl.trans(solve), None, PRECISION)
            written = dot(high, tl.trans(solve_low), written, PRECISION)
            written = dot(high, tl.trans(solve), written, PRECISION)
        else:
            written = dot(tl.trans(values), tl.trans(solve), None, PRECISION)
            written = dot((-known).to(dtype), tl.trans(solve), written, PRECISION)
        if not SUMMARY:
            score = _rows(score_ref, score_ptr, made, place, C, C, TMA)
            if CHANNELS:
                asks = _rows(asks_ref, asks_ptr, made, place, C, BK, TMA)
            else:
                asked_by = tl.load(factors)[None, :]
                asks = _tokens(asks_ref, q_base, row, q_column, q_sl, q_sk, mask, C, BK, TMA)
            out = dot(state, tl.trans(asks), None, PRECISION)
            if not CHANNELS:
                out *= asked_by
            if PRECISE:
                high, low = halves(written, dtype)
                out = dot(low, tl.trans(score), out, PRECISION)
                out = dot(high, tl.trans(score), out, PRECISION)
            else:
                out = dot(written.to(dtype), tl.trans(score), out, PRECISION)
            at = y_base + i[None, :].to(tl.int64) * (H * V) + v[:, None]
            tl.store(at, out.to(dtype), mask=here[None, :] & (v[:, None] < V))
            y_base += C * H * V
        if not CHANNELS:
            written *= kept_by
        if DECAY:
            s *= kept
        if PRECISE:
            high, low = halves(written, dtype)
            if CHANNELS:
                keeps_low = _rows(keeps_low_ref, keeps_low_ptr, made, place, C, BK, TMA)
                s = dot(high, keeps_low, s, PRECISION)
            s = dot(low, keeps, s, PRECISION)
            s = dot(high, keeps, s, PRECISION)
        else:
            s = dot(written.to(dtype), keeps, s, PRECISION)
        place += H
        v_base += C * v_sl
        k_base += C * k_sl
        q_base += C * q_sl
        given += C
        row += row_step
        made += C * H
    if SUMMARY:
        at = ends_ptr + (slot.to(tl.int64) * H + head) * (ROWS * BK)
        tl.store(at + v[:, None] * BK + n[None, :], s)
    elif FINAL:
        if last:
            at = final_ptr + n[None, :] * V + v[:, None]
            mask = (v[:, None] < V) & (n[None, :] < K)
            tl.store(at, s.to(final_ptr.dtype.element_ty), mask=mask)
