"""First launch of the delta rules with a decay per head, or none: what needs no state.

For every chunk of every head (arXiv:2406.06484, section 3.2; arXiv:2412.06464, section 3.3) the
triangle T that turns what the state does not know of the values into what is written, W = T R; the
scores P that tokens have for each other; and three factors per token, one after the other. With a
the running sum of base-2 log decays and n_q, n_k what makes a query and a key of length one:

    T = (I + M)^-1 diag(beta),   M[i, j] = beta_i n_k[i] n_k[j] (k_i k_j) 2^(a_i - a_j),  j < i
    P[i, j] = scale n_q[i] n_k[j] (q_i k_j) 2^(a_i - a_j),  j <= i
    asks = scale n_q 2^a,   knows = n_k 2^a,   keeps = n_k 2^(a_C - a)

With PRECISE (`plan.doubled`) T is stored as two numbers, high and low.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

import triton
import triton.language as tl

from ssmprof_kernels.gated_delta.parts import (
    NORM_EPS,
    UNSPECIALISED,
    copy_values,
    dot,
    exp2,
    gate_rate,
    halves,
    inverse,
    locate,
    log_decay,
    step_size,
)


@triton.jit
def _features(
    k_at, q_at, k_copy_ptr, q_copy_ptr, copy, valid, leads, part, k_sl, k_sk, q_sl, q_sk,
    K: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, PART: tl.constexpr, COPY: tl.constexpr,
):  # fmt: skip
    """PART features of the keys and queries of a chunk; copies them where asked to."""
    i = tl.arange(0, C)
    n = part + tl.arange(0, PART)
    mask = valid[:, None] & (n[None, :] < K)
    k = tl.load(k_at + i[:, None] * k_sl + n[None, :] * k_sk, mask=mask, other=0.0)
    q = tl.load(q_at + i[:, None] * q_sl + n[None, :] * q_sk, mask=mask, other=0.0)
    if COPY:
        # Without what lies behind the sequence, so that whole tiles can be taken.
        if leads:
            at = copy + i[:, None] * BK + n[None, :]
            tl.store(k_copy_ptr + at, k)
            tl.store(q_copy_ptr + at, q)
    return k, q


@triton.jit
def _squared(x):
    x = x.to(tl.float32)
    return tl.sum(x * x, 1)


@triton.jit(do_not_specialize=UNSPECIALISED)
def ssmprof_scan_delta_prepare(
    q_ptr, k_ptr, v_ptr, g_ptr, beta_ptr, a_log_ptr, bias_ptr, cu_ptr, solve_ptr, solve_low_ptr,
    score_ptr, factors_ptr, kept_ptr, q_copy_ptr, k_copy_ptr, v_copy_ptr, L, H, PER_KEY,
    CHUNKS, count, steps, scale, q_sb, q_sl, q_sh, q_sk, k_sb, k_sl, k_sh, k_sk, v_sb, v_sl, v_sh,
    v_sv, g_sb, g_sl, g_sh, beta_sb, beta_sl, beta_sh, K: tl.constexpr, V: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, VP: tl.constexpr, PART: tl.constexpr, DECAY: tl.constexpr,
    GATE: tl.constexpr, BIAS: tl.constexpr, SIGMOID: tl.constexpr, NEGATIVE: tl.constexpr,
    NORM: tl.constexpr, COPY: tl.constexpr, COPY_V: tl.constexpr, VARLEN: tl.constexpr,
    PRECISION: tl.constexpr, SOLVE: tl.constexpr, PRECISE: tl.constexpr,
):  # fmt: skip
    """One chunk of one head, PART of its BK features at a time; CHUNKS are those of a sequence,
    where all have the same length."""
    pid = tl.program_id(0)
    head = pid % H
    slot = pid // H
    seq, start, length, first = locate(slot, cu_ptr, count, steps, L, C, CHUNKS, VARLEN)
    begin = (slot - first) * C
    if begin >= length:
        return
    entry = (seq * 0 if VARLEN else seq).to(tl.int64)
    token = (start + begin).to(tl.int64)
    i = tl.arange(0, C)
    valid = i < length - begin
    key_head = (head // PER_KEY).to(tl.int64)
    far = head.to(tl.int64)
    k_at = k_ptr + entry * k_sb + key_head * k_sh + token * k_sl
    q_at = q_ptr + entry * q_sb + key_head * q_sh + token * q_sl
    copy = (slot.to(tl.int64) * (H // PER_KEY) + key_head) * (C * BK)
    leads = head % PER_KEY == 0
    if PART == BK:
        k, q = _features(k_at, q_at, k_copy_ptr, q_copy_ptr, copy, valid, leads, 0, k_sl, k_sk,
                         q_sl, q_sk, K, C, BK, PART, COPY)  # fmt: skip
        k_squares = _squared(k)
        q_squares = _squared(q)
    else:
        keys = tl.zeros((C, C), tl.float32)
        scores = tl.zeros((C, C), tl.float32)
        k_squares = tl.zeros((C,), tl.float32)
        q_squares = tl.zeros((C,), tl.float32)
        for part in range(0, BK, PART):
            some, asked = _features(k_at, q_at, k_copy_ptr, q_copy_ptr, copy, valid, leads, part,
                                    k_sl, k_sk, q_sl, q_sk, K, C, BK, PART, COPY)  # fmt: skip
            keys = dot(some, tl.trans(some), keys, PRECISION)
            scores = dot(asked, tl.trans(some), scores, PRECISION)
            k_squares += _squared(some)
            q_squares += _squared(asked)
    if NORM:
        per_k = tl.rsqrt(k_squares + NORM_EPS)
        per_q = tl.rsqrt(q_squares + NORM_EPS) * scale
    else:
        per_k = tl.zeros((C,), tl.float32) + 1.0
        per_q = per_k * scale
    if COPY_V:
        v_at = v_ptr + entry * v_sb + far * v_sh + token * v_sl
        v_copy_ptr += (slot.to(tl.int64) * H + head) * (C * VP)
        copy_values(v_at, v_copy_ptr, valid, v_sl, v_sv, C, V, VP)
    beta_at = beta_ptr + entry * beta_sb + far * beta_sh + token * beta_sl + i * beta_sl
    beta = step_size(tl.load(beta_at, mask=valid, other=0.0), valid, SIGMOID, NEGATIVE)
    later = i[:, None] > i[None, :]
    a = per_k * 0.0
    if DECAY:
        bias = 0.0
        if BIAS:
            bias = tl.load(bias_ptr + head).to(tl.float32)
        g_at = g_ptr + entry * g_sb + far * g_sh + token * g_sl + i * g_sl
        raw = tl.load(g_at, mask=valid, other=0.0)
        g = log_decay(raw, gate_rate(a_log_ptr, head, GATE), bias, valid, GATE)
        a = tl.cumsum(g, 0)
    total = tl.sum(tl.where(i == C - 1, a, 0.0), 0)
    factors = factors_ptr + (slot.to(tl.int64) * H + head) * (3 * C) + i
    so_far = exp2(a)
    tl.store(factors, per_q * so_far)
    tl.store(factors + C, per_k * so_far)
    tl.store(factors + 2 * C, per_k * exp2(total - a))
    tl.store(kept_ptr + slot.to(tl.int64) * H + head, exp2(total))
    between = exp2(tl.where(later, a[:, None] - a[None, :], 0.0))
    # Whole products are formed where they are used: fewer registers.
    if PART == BK:
        keys = dot(k, tl.trans(k), None, PRECISION)
    keys = keys * between * per_k[None, :]
    system = tl.where(later, keys * (beta * per_k)[:, None], 0.0)
    tile = (slot.to(tl.int64) * H + head) * (C * C) + i[:, None] * C + i[None, :]
    if PART == BK:
        scores = dot(q, tl.trans(k), None, PRECISION)
    scores = scores * between
    scores = scores * per_q[:, None] * per_k[None, :]
    scores = tl.where(later | (i[:, None] == i[None, :]), scores, 0.0)
    tl.store(score_ptr + tile, scores.to(score_ptr.dtype.element_ty))
    solved = inverse(system, C, SOLVE) * beta[None, :]
    if PRECISE:
        solved, solved_low = halves(solved, solve_ptr.dtype.element_ty)
        tl.store(solve_low_ptr + tile, solved_low)
    tl.store(solve_ptr + tile, solved.to(solve_ptr.dtype.element_ty))
