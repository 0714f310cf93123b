"""First launch of Kimi delta attention, whose decay is one per key feature (arXiv:2510.26692).

As `prepare`, but decays do not leave a product of a query and a key as one factor: with the running
sum a (C, K) a score is sum over features of q_i k_j 2^(a_i - a_j). Pairs of tokens across the
middle of a block of 2, 4, ... C tokens meet there: 2^(a_i - a_middle) 2^(a_middle - a_j), both
exponents sums of what lies between, so that none is positive and none is a difference of long sums.
They are formed by matrices of ones and zeros; with PREFIX they are differences of running sums,
which reach 10,240 in fp32: a few 2**-10 off in the exponent at worst, less than 16 bits show.
What a token has for the state goes to memory, in place of factors:

    asks = scale n_q q 2^a,   knows = n_k k 2^a,   keeps = n_k k 2^(a_C - a)

With PRECISE (`plan.doubled`) T and keeps are stored as two numbers, high and low, and weighted
queries and keys meet in tf32: rounded to bf16 they would cost T its digits.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

import triton
import triton.language as tl

from ssmprof_kernels.gated_delta.parts import (
    UNSPECIALISED,
    copy_values,
    dot,
    exp2,
    gate_rate,
    halves,
    inverse,
    inverse_length,
    locate,
    log_decay,
    step_size,
)


@triton.jit
def _halved(g, WIDE: tl.constexpr):
    """Two bf16 numbers whose sum is g to 16 bits; g itself and nothing where matrices are WIDE."""
    if WIDE:
        high = g
        low = g
    else:
        high, low = halves(g, tl.bfloat16)
    return high, low


@triton.jit
def _sums(chosen, high, low, WIDE: tl.constexpr):
    """For each row of `chosen` (C, C) the sum of the rows of g that it names."""
    if WIDE:
        sums = dot(tl.where(chosen, 1.0, 0.0), high, None, "tf32x3")
    else:
        ones = tl.where(chosen, 1.0, 0.0).to(tl.bfloat16)
        sums = dot(ones, low, None, "tf32")
        sums = dot(ones, high, sums, "tf32")
    return sums


@triton.jit
def _meet(
    keys, scores, q, k, high, low, so_far, level, dtype: tl.constexpr, C: tl.constexpr,
    WIDE: tl.constexpr, PREFIX: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Scores of the pairs across the middles of blocks of 2 << level tokens, added."""
    i = tl.arange(0, C)[:, None]
    j = tl.arange(0, C)[None, :]
    # Rows of second halves ask, those of first halves are asked: one weight serves both.
    half_i = i >> level
    half_j = j >> level
    if PREFIX:
        # The last row before the middle, of whose block this row is.
        before = (((half_i >> 1) << 1) + 1 << level) - 1
        middle = tl.gather(so_far, tl.broadcast_to(before, so_far.shape), 0)
        weight = exp2(-tl.abs(so_far - middle))
    else:
        second = (half_i & 1) == 1
        chosen = (half_i == half_j) & ((j <= i) == second)
        weight = exp2(_sums(chosen, high, low, WIDE))
    columns = (k * weight).to(dtype)
    rows = (q * weight).to(dtype)
    pairs = (half_i >> 1 == half_j >> 1) & (half_i > half_j)
    met = dot(columns, tl.trans(columns), None, PRECISION)
    keys += tl.where(pairs, met, 0.0)
    met = dot(rows, tl.trans(columns), None, PRECISION)
    scores += tl.where(pairs, met, 0.0)
    return keys, scores


@triton.jit(do_not_specialize=UNSPECIALISED)
def ssmprof_scan_kda_prepare(
    q_ptr, k_ptr, v_ptr, g_ptr, beta_ptr, a_log_ptr, bias_ptr, cu_ptr, solve_ptr, solve_low_ptr,
    score_ptr, asks_ptr, knows_ptr, keeps_ptr, keeps_low_ptr, kept_ptr, v_copy_ptr, L, H, PER_KEY,
    CHUNKS, count, steps, scale, q_sb, q_sl, q_sh, q_sk, k_sb, k_sl, k_sh, k_sk, v_sb, v_sl, v_sh,
    v_sv, g_sb, g_sl, g_sh, g_sk, beta_sb, beta_sl, beta_sh, K: tl.constexpr, V: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, VP: tl.constexpr, PART: tl.constexpr, LEVELS: tl.constexpr,
    GATE: tl.constexpr, BIAS: tl.constexpr, SIGMOID: tl.constexpr, NEGATIVE: tl.constexpr,
    NORM: tl.constexpr, COPY_V: tl.constexpr, VARLEN: tl.constexpr, WIDE: tl.constexpr,
    PREFIX: tl.constexpr, PRECISION: tl.constexpr, SOLVE: tl.constexpr, PRECISE: tl.constexpr,
):  # fmt: skip
    """One chunk of one head, PART of its BK features at a time; C is 2 ** LEVELS."""
    pid = tl.program_id(0)
    head = pid % H
    slot = pid // H
    seq, start, length, first = locate(slot, cu_ptr, count, steps, L, C, CHUNKS, VARLEN)
    begin = (slot - first) * C
    if begin >= length:
        return
    entry = (seq * 0 if VARLEN else seq).to(tl.int64)
    i = tl.arange(0, C)
    j = i[None, :]
    valid = i < length - begin
    token = (start + begin).to(tl.int64)
    key_head = (head // PER_KEY).to(tl.int64)
    far = head.to(tl.int64)
    k_rows = k_ptr + entry * k_sb + key_head * k_sh + token * k_sl + i[:, None] * k_sl
    q_rows = q_ptr + entry * q_sb + key_head * q_sh + token * q_sl + i[:, None] * q_sl
    g_rows = g_ptr + entry * g_sb + far * g_sh + token * g_sl + i[:, None] * g_sl
    beta_at = beta_ptr + entry * beta_sb + far * beta_sh + token * beta_sl + i * beta_sl
    beta = step_size(tl.load(beta_at, mask=valid, other=0.0), valid, SIGMOID, NEGATIVE)
    rate = gate_rate(a_log_ptr, head, GATE)
    place = slot.to(tl.int64) * H + head
    if COPY_V:
        v_at = v_ptr + entry * v_sb + far * v_sh + token * v_sl
        copy_values(v_at, v_copy_ptr + place * (C * VP), valid, v_sl, v_sv, C, V, VP)
    per_k = tl.zeros((C,), tl.float32) + 1.0
    per_q = per_k
    if NORM:
        wide = tl.arange(0, BK)[None, :]
        inside = valid[:, None] & (wide < K)
        per_k = inverse_length(tl.load(k_rows + wide * k_sk, mask=inside, other=0.0), NORM)
        per_q = inverse_length(tl.load(q_rows + wide * q_sk, mask=inside, other=0.0), NORM)
    per_q = per_q * scale
    keys = tl.zeros((C, C), tl.float32)
    scores = tl.zeros((C, C), tl.float32)
    dtype: tl.constexpr = tl.float32 if PRECISE else q_ptr.dtype.element_ty
    for part in range(0, BK, PART):
        n = part + tl.arange(0, PART)
        here = n < K
        mask = valid[:, None] & here[None, :]
        k = tl.load(k_rows + n[None, :] * k_sk, mask=mask, other=0.0).to(tl.float32)
        q = tl.load(q_rows + n[None, :] * q_sk, mask=mask, other=0.0).to(tl.float32)
        k = k * per_k[:, None]
        q = q * per_q[:, None]
        bias = tl.zeros((PART,), tl.float32)
        if BIAS:
            bias = tl.load(bias_ptr + head * K + n, mask=here, other=0.0).to(tl.float32)
        raw = tl.load(g_rows + n[None, :] * g_sk, mask=mask, other=0.0)
        g = log_decay(raw, rate, bias[None, :], mask, GATE)
        high, low = _halved(g, WIDE)
        scores += tl.where(i[:, None] == j, tl.sum(q * k, 1)[:, None], 0.0)
        sums = _sums(j <= i[:, None], high, low, WIDE)
        for level in range(LEVELS):
            keys, scores = _meet(
                keys, scores, q, k, high, low, sums, level, dtype, C, WIDE, PREFIX, PRECISION
            )
        so_far = exp2(sums)
        tile = place * (C * BK) + i[:, None] * BK + n[None, :]
        tl.store(asks_ptr + tile, (q * so_far).to(asks_ptr.dtype.element_ty))
        tl.store(knows_ptr + tile, (k * so_far).to(knows_ptr.dtype.element_ty))
        if PREFIX:
            last = tl.sum(tl.where(i[:, None] == C - 1, sums, 0.0), 0)
            keeps = k * exp2(last[None, :] - sums)
        else:
            keeps = k * exp2(_sums(j > i[:, None], high, low, WIDE))
        if PRECISE:
            keeps, keeps_low = halves(keeps, keeps_ptr.dtype.element_ty)
            tl.store(keeps_low_ptr + tile, keeps_low)
        tl.store(keeps_ptr + tile, keeps.to(keeps_ptr.dtype.element_ty))
        kept = tl.sum(tl.where(i[:, None] == C - 1, so_far, 0.0), 0)
        tl.store(kept_ptr + place * BK + n, kept)
    square = place * (C * C) + i[:, None] * C + j
    tl.store(score_ptr + square, scores.to(score_ptr.dtype.element_ty))
    solved = inverse(keys * beta[:, None], C, SOLVE) * beta[None, :]
    if PRECISE:
        solved, solved_low = halves(solved, solve_ptr.dtype.element_ty)
        tl.store(solve_low_ptr + square, solved_low)
    tl.store(solve_ptr + square, solved.to(solve_ptr.dtype.element_ty))
