"""First launch of linear attention's scan: what tokens of a chunk read of one another.

Promises: knows no state, so that all its programs are independent. Writes the causal products
`scale q_i k_j` times the decay from j to i (C, C); with gates of each key feature also queries
times their decay since the chunk began, keys times theirs to its end, and the chunk's own
(arXiv:2312.06635, section 4.3). Products are taken relative to half of the chunk's decay where that
is in reach of a float, else by halves of halves, so that no exponent is positive. fp32 sums what
lies between two tokens: a difference of long running sums lacks the digits of a short one.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportOperatorIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from ssmprof_kernels.device.math import LOG2E, exp2
from ssmprof_kernels.device.matrix import dot
from ssmprof_kernels.device.segments import locate, some

#: Base-2 exponent that a chunk's decay may reach: its halves are far from the ends of a float.
MOST_DECAY = tl.constexpr(80.0)
#: Base-2 exponent of a decay that is 0 in fp32. No token counts for less: the running sum of a
#: chunk then keeps its digits.
FLOOR = tl.constexpr(-160.0)
UNSPECIALISED = ["L", "H", "S", "count", "steps"]


@triton.jit
def log_decay(decay_ptr, head):
    """Base-2 exponent of a head's constant decay."""
    g = tl.load(decay_ptr + head).to(tl.float32) * LOG2E
    return tl.where(g < FLOOR, FLOOR, g)


@triton.jit
def log_gate(a, GIVEN: tl.constexpr):
    """Base-2 exponents of gates: given as natural logarithms, or those of sigmoid(a)^(1/16)."""
    if GIVEN:
        g = a * LOG2E
    else:
        # log2 sigmoid(a) = min(a, 0) log2(e) - log2(1 + 2^(-|a| log2(e))).
        e = tl.exp2(-tl.abs(a) * LOG2E)
        # log2(1 + e) loses the digits of a small e; four terms of the series keep them.
        small = e * (1.0 - e * (0.5 - e * (0.3333333333 - e * 0.25))) * LOG2E
        log = tl.where(e < 0.03125, small, tl.log2(1.0 + e))
        g = (tl.minimum(a, 0.0, propagate_nan=tl.PropagateNan.ALL) * LOG2E - log) * 0.0625
    return tl.where(g < FLOOR, FLOOR, g)


@triton.jit
def _sums(chosen, g):
    """For each row of `chosen` (C, C) the sum of the rows of g that it names."""
    return dot(tl.where(chosen, 1.0, 0.0), g, None, "tf32x3")


@triton.jit
def _by_halves(q, k, g, so_far, found, C: tl.constexpr, LEVELS: tl.constexpr, EXACT: tl.constexpr,
               PRECISION: tl.constexpr):  # fmt: skip
    """`found` plus the causal products: pairs across the middle of 2, 4, ... tokens meet there."""
    row = tl.arange(0, C)[:, None]
    column = tl.arange(0, C)[None, :]
    found += tl.where(row == column, tl.sum(q * k, 1)[:, None], 0.0)
    for level in range(LEVELS):
        low = row >> level << level
        second = (row >> level) & 1
        if EXACT:
            # From the middle to a token of the second half, or from one of the first to the middle.
            chosen = (row >> level == column >> level) & ((column <= row) == (second == 1))
            weight = exp2(_sums(chosen, g))
            left = tl.where(second == 1, q * weight, 0.0)
            right = tl.where(second == 0, k * weight, 0.0)
        else:
            # The last token of the first half of each pair of halves.
            middle = tl.where(second == 1, low, low + (1 << level)) - 1
            at = tl.gather(so_far, tl.broadcast_to(middle, so_far.shape), 0)
            left = tl.where(second == 1, q * exp2(tl.where(second == 1, so_far - at, 0.0)), 0.0)
            right = tl.where(second == 0, k * exp2(tl.where(second == 0, at - so_far, 0.0)), 0.0)
        pairs = dot(left, tl.trans(right), None, PRECISION)
        found += tl.where(((row ^ column) >> level == 1) & (row > column), pairs, 0.0)
    return found


@triton.jit(do_not_specialize=UNSPECIALISED)
def ssmprof_scan_linear_pairs(
    q_ptr, k_ptr, gate_ptr, decay_ptr, cu_ptr, pair_ptr, asking_ptr, key_ptr, total_ptr, scale,
    L, H, S, count, steps, q_steps, k_steps, g_steps,
    PER: tl.constexpr, K: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, WIDTH: tl.constexpr,
    LEVELS: tl.constexpr, GATES: tl.constexpr, GIVEN: tl.constexpr, VARLEN: tl.constexpr,
    EXACT: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One chunk and head. WIDTH is the padded width of a key, walked in blocks of BK. EXACT, for
    fp32, always goes by halves, with sums of what lies between; WIDE forms products in tf32: fp16
    has no room for factors of 2**40."""
    pid = tl.program_id(0)
    head = pid % H
    slot = pid // H
    seq, start, length, first = locate(slot, cu_ptr, count, steps, L, C, S, VARLEN)
    begin = (slot - first) * C
    if begin >= length:
        return
    inside = (tl.arange(0, C) < length - begin)[:, None]
    entry = (seq * 0 if VARLEN else seq).to(tl.int64)
    token = (start + begin).to(tl.int64)
    lane = head.to(tl.int64)
    shared = (head // PER).to(tl.int64)
    q_ptr += entry * q_steps.b + token * q_steps.l + lane * q_steps.h
    k_ptr += entry * k_steps.b + token * k_steps.l + shared * k_steps.h
    place = (slot * H + head).to(tl.int64)
    rows = tl.arange(0, C)
    gap = rows[:, None] - rows[None, :]
    pairs = tl.zeros([C, C], tl.float32)
    if GATES:
        gate_ptr += entry * g_steps.b + token * g_steps.l + shared * g_steps.h
        asking_ptr += place * (C * WIDTH)
        holder = (slot * (H // PER) + head // PER).to(tl.int64)
        key_ptr += holder * (C * WIDTH)
        total_ptr += holder * WIDTH
    for block in range(0, WIDTH, BK):
        ks = block + tl.arange(0, BK)
        mask = inside & (ks < K)[None, :]
        q = some(q_ptr, rows, ks, q_steps, mask)
        k = some(k_ptr, rows, ks, k_steps, mask)
        if GATES:
            a = some(gate_ptr, rows, ks, g_steps, mask).to(tl.float32)
            g = tl.where(mask, log_gate(a, GIVEN), 0.0)
            so_far = tl.cumsum(g, 0)
            total = tl.sum(g, 0)
            narrow: tl.constexpr = tl.float32 if WIDE else q.dtype
            q = q.to(tl.float32) * scale
            k = k.to(tl.float32)
            ordinary = False
            if not EXACT:
                # A maximum passes over NaN, a sum does not.
                ordinary = tl.max(tl.abs(so_far)) <= MOST_DECAY
                ordinary = ordinary & (tl.sum(tl.abs(total), 0) < float("inf"))
            if ordinary:
                middle = so_far - total[None, :] * 0.5
                left = (q * exp2(middle)).to(narrow)
                right = (k * exp2(-middle)).to(narrow)
                pairs = dot(left, tl.trans(right), pairs, PRECISION)
            else:
                # Above the diagonal a product may have left the range of a float before.
                pairs = tl.where(gap >= 0, pairs, 0.0)
                pairs = _by_halves(q, k, g, so_far, pairs, C, LEVELS, EXACT, PRECISION)
            at = rows[:, None] * WIDTH + ks[None, :]
            asking = q * exp2(so_far)
            tl.store(asking_ptr + at, asking.to(asking_ptr.dtype.element_ty))
            if head % PER == 0:
                if EXACT:
                    rest = _sums(rows[:, None] < rows[None, :], g)
                else:
                    rest = total[None, :] - so_far
                key = k * exp2(rest)
                tl.store(key_ptr + at, key.to(key_ptr.dtype.element_ty))
                tl.store(total_ptr + ks, total)
        else:
            pairs = dot(q, tl.trans(k), pairs, PRECISION)
    if not GATES:
        g = log_decay(decay_ptr, head)
        pairs *= scale * exp2(g * tl.maximum(gap, 0).to(tl.float32))
    pairs = tl.where(gap >= 0, pairs, 0.0)
    at = pair_ptr + place * (C * C) + rows[:, None] * C + rows[None, :]
    tl.store(at, pairs.to(pair_ptr.dtype.element_ty))
