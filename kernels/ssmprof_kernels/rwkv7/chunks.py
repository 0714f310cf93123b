"""First launches of RWKV-7's scan: what each chunk does to any state, all chunks at once.

Promises: know no state, so that all their programs are independent. A chunk of C tokens maps the
state S before it to `D S - M S + Q` after it, and its outputs are `N + R S`: the second launch
writes D (K), M (K, K), Q (K, V), N (C, V) and R (C, K). With g the decay so far of each token:

- u = T (A v + kk g S), T = (I + B)^-1, A and B the causal products of kk with k and with the rows
  that are added (`-u` is what a token writes under `added`; arXiv:2503.14456, equations 17 to 19);
  the first writes T (C, C);
- R = r g - (r added) T (kk g), N = (r k) v - (r added) T A v, and M and Q likewise with the keys.

The products take both sides relative to half of the chunk's decay, which no exponent of a chunk of
64 tokens of the model leaves. A chunk that decays more, or that holds a number that is not finite,
is walked token by token instead, exactly, as every chunk of fp32 is.
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

UNSPECIALISED = ["L", "H", "S", "count", "steps"]


@triton.jit
def _inverse(lower, C: tl.constexpr, HALVINGS: tl.constexpr, PRECISION: tl.constexpr):
    """(I + lower)^-1 of a strictly lower triangle, by halves: blocks of 2, 4, ... of it. Powers of
    `lower` would do, too, but cancel where keys repeat."""
    row = tl.arange(0, C)[:, None]
    column = tl.arange(0, C)[None, :]
    apart = row ^ column
    # Blocks of two; then the corner below each pair of blocks, whose indices differ first in bit i.
    found = tl.where(row == column, 1.0, tl.where(apart == 1, -lower, 0.0))
    for i in tl.static_range(1, HALVINGS):
        corner = tl.where((apart >> i) == 1, lower, 0.0)
        left = tl.dot(found, corner, input_precision=PRECISION)
        found -= tl.dot(left, found, input_precision=PRECISION)
    return found


@triton.jit
def _rows(kk, a, PAIR: tl.constexpr):
    """The key that is removed and the row that is added, from (kk, a) or fla's (a, b)."""
    if PAIR:
        return kk, kk * a
    else:
        return -kk, a


@triton.jit
def _so_far(base, rows, columns, steps, mask):
    """Base-2 exponents of the decay from before the chunk to each token, its own included."""
    w = some(base, rows, columns, steps, mask)
    if w.dtype == tl.float32:
        return tl.cumsum(w, 0) * LOG2E
    else:
        # Products with 1 are exact, and so are sums in fp32 of what 16 bits hold.
        ones = tl.where(rows[:, None] >= rows[None, :], 1.0, 0.0).to(w.dtype)
        return dot(ones, w, None, "tf32") * LOG2E


@triton.jit
def _pair(
    kk_ptr, a_ptr, so_far, w, rows, ks, kk_steps, a_steps, mask, dtype: tl.constexpr,
    PAIR: tl.constexpr,
):  # fmt: skip
    """The key that each token removes and the row it adds, relative to where `so_far` is 0."""
    kk = some(kk_ptr, rows, ks, kk_steps, mask).to(tl.float32)
    a = some(a_ptr, rows, ks, a_steps, mask).to(tl.float32)
    removed, added = _rows(kk, a, PAIR)
    return (removed * exp2(so_far - w)).to(dtype), (added * exp2(-so_far)).to(dtype)


@triton.jit
def _is_ordinary(so_far, total):
    """Whether a chunk's decays stay in reach of a float; a maximum passes over NaN, a sum not."""
    near = tl.max(tl.abs(so_far)) <= MOST_DECAY
    return near & (tl.sum(tl.abs(total), 0) < float("inf"))


@triton.jit
def _token(base, t, columns, steps, mask):
    return tl.load(base + t * steps.l + columns * steps.k, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _by_tokens(
    r_ptr, w_ptr, k_ptr, v_ptr, kk_ptr, a_ptr, rows_ptr, found, vs, scale, valid, r_steps, w_steps,
    k_steps, v_steps, kk_steps, a_steps, K: tl.constexpr, V: tl.constexpr, C: tl.constexpr,
    WIDTH: tl.constexpr, PAIR: tl.constexpr, VALUES: tl.constexpr,
):  # fmt: skip
    """The chunk token by token, from the columns `vs` of a matrix, `found`, on: what they become,
    and each token's outputs. Without VALUES no token adds any: the map of a state."""
    ks = tl.arange(0, found.shape[0])
    for t in range(C):
        mask = (ks < K) & (t < valid)
        r = _token(r_ptr, t, ks, r_steps, mask) * scale
        g = tl.exp2(_token(w_ptr, t, ks, w_steps, mask) * LOG2E)
        kk = _token(kk_ptr, t, ks, kk_steps, mask)
        a = _token(a_ptr, t, ks, a_steps, mask)
        removed, added = _rows(kk, a, PAIR)
        asked = tl.sum(removed[:, None] * found, 0)
        found = found * g[:, None] - added[:, None] * asked[None, :]
        if VALUES:
            k = _token(k_ptr, t, ks, k_steps, mask)
            v = _token(v_ptr, t, vs, v_steps, (vs < V) & (t < valid))
            found += k[:, None] * v[None, :]
        row = tl.sum(r[:, None] * found, 0)
        tl.store(rows_ptr + t * WIDTH + vs, row.to(rows_ptr.dtype.element_ty))
    return found


@triton.jit(do_not_specialize=UNSPECIALISED)
def ssmprof_scan_rwkv7_solve(
    w_ptr, kk_ptr, a_ptr, cu_ptr, solve_ptr, L, H, S, count, steps, w_steps,
    kk_steps, a_steps, K: tl.constexpr, C: tl.constexpr,
    BK: tl.constexpr, PAIR: tl.constexpr, VARLEN: tl.constexpr, WIDE: tl.constexpr,
    HALVINGS: tl.constexpr, INVERSE: tl.constexpr,
):  # fmt: skip
    """T of one chunk and head. WIDE forms the causal products in tf32: fp16 has no room for factors
    of 2**40."""
    pid = tl.program_id(0)
    head = pid % H
    slot = pid // H
    seq, start, length, first = locate(slot, cu_ptr, count, steps, L, C, S, VARLEN)
    begin = (slot - first) * C
    if begin >= length:
        return
    entry = (seq * 0 if VARLEN else seq).to(tl.int64)
    token = (start + begin).to(tl.int64)
    lane = head.to(tl.int64)
    w_ptr += entry * w_steps.b + token * w_steps.l + lane * w_steps.h
    kk_ptr += entry * kk_steps.b + token * kk_steps.l + lane * kk_steps.h
    a_ptr += entry * a_steps.b + token * a_steps.l + lane * a_steps.h
    rows = tl.arange(0, C)
    ks = tl.arange(0, BK)
    mine = (rows < length - begin)[:, None] & (ks < K)[None, :]
    w = some(w_ptr, rows, ks, w_steps, mine).to(tl.float32) * LOG2E
    total = tl.sum(w, 0)
    so_far = _so_far(w_ptr, rows, ks, w_steps, mine)
    if _is_ordinary(so_far, total):
        dtype: tl.constexpr = tl.float32 if WIDE else kk_ptr.dtype.element_ty
        so_far -= total[None, :] * 0.5
        kk_in, b_out = _pair(
            kk_ptr, a_ptr, so_far, w, rows, ks, kk_steps, a_steps, mine, dtype, PAIR
        )
        system = dot(kk_in, tl.trans(b_out), None, "tf32")
        system = tl.where(rows[:, None] > rows[None, :], system, 0.0)
        solve = _inverse(system, C, HALVINGS, INVERSE)
        at = (slot * H + head).to(tl.int64) * (C * C) + rows[:, None] * C + rows[None, :]
        tl.store(solve_ptr + at, solve.to(solve_ptr.dtype.element_ty))


@triton.jit(do_not_specialize=UNSPECIALISED)
def ssmprof_scan_rwkv7_map(
    r_ptr, w_ptr, k_ptr, v_ptr, kk_ptr, a_ptr, cu_ptr, solve_ptr,
    decay_ptr, moved_ptr, added_ptr, read_ptr, out_ptr, scale, L, H, S, count, steps,
    r_steps, w_steps, k_steps,
    v_steps, kk_steps, a_steps,
    K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    PAIR: tl.constexpr, VARLEN: tl.constexpr, EXACT: tl.constexpr, WIDE: tl.constexpr,
    SLAB: tl.constexpr,
):  # fmt: skip
    """Of one chunk and head either what it does to a state, D, M and R, or what it adds, Q and N:
    two programs. EXACT walks every chunk token by token."""
    pid = tl.program_id(0)
    values = pid % 2 == 1
    head = (pid // 2) % H
    slot = pid // (2 * H)
    seq, start, length, first = locate(slot, cu_ptr, count, steps, L, C, S, VARLEN)
    begin = (slot - first) * C
    if begin >= length:
        return
    valid = tl.minimum(length - begin, C)
    entry = (seq * 0 if VARLEN else seq).to(tl.int64)
    token = (start + begin).to(tl.int64)
    lane = head.to(tl.int64)
    r_ptr += entry * r_steps.b + token * r_steps.l + lane * r_steps.h
    w_ptr += entry * w_steps.b + token * w_steps.l + lane * w_steps.h
    k_ptr += entry * k_steps.b + token * k_steps.l + lane * k_steps.h
    v_ptr += entry * v_steps.b + token * v_steps.l + lane * v_steps.h
    kk_ptr += entry * kk_steps.b + token * kk_steps.l + lane * kk_steps.h
    a_ptr += entry * a_steps.b + token * a_steps.l + lane * a_steps.h
    place = (slot * H + head).to(tl.int64)
    moved_ptr += place * (BK * BK)
    added_ptr += place * (BK * BV)
    read_ptr += place * (C * BK)
    out_ptr += place * (C * BV)
    rows = tl.arange(0, C)
    ks = tl.arange(0, BK)
    vs = tl.arange(0, BV)
    inside = (rows < valid)[:, None]
    mine = inside & (ks < K)[None, :]
    w = some(w_ptr, rows, ks, w_steps, mine).to(tl.float32) * LOG2E
    total = tl.sum(w, 0)
    ordinary = False
    done = False
    if not EXACT:
        so_far = _so_far(w_ptr, rows, ks, w_steps, mine)
        ordinary = _is_ordinary(so_far, total)
    if ordinary:
        if not EXACT:
            dtype: tl.constexpr = v_ptr.dtype.element_ty
            narrow: tl.constexpr = tl.float32 if WIDE else dtype
            # From here on relative to half of the chunk's decay, of which `rest` is the other half.
            half = total * 0.5
            rest = exp2(half)
            so_far -= half[None, :]
            kk_in, b_out = _pair(
                kk_ptr, a_ptr, so_far, w, rows, ks, kk_steps, a_steps, mine, narrow, PAIR,
            )  # fmt: skip
            r_in = some(r_ptr, rows, ks, r_steps, mine).to(tl.float32) * scale
            r_in *= exp2(so_far)
            causal = rows[:, None] >= rows[None, :]
            seen = dot(r_in.to(narrow), tl.trans(b_out), None, "tf32")
            seen = tl.where(causal, -seen, 0.0).to(dtype)
            solve_ptr += place * (C * C)
            solve = tl.load(solve_ptr + rows[:, None] * C + rows[None, :])
            if values:
                k = some(k_ptr, rows, ks, k_steps, mine).to(tl.float32)
                k_out = (k * exp2(-so_far)).to(narrow)
                v = some(v_ptr, rows, vs, v_steps, inside & (vs < V)[None, :])
                pairs = dot(r_in.to(narrow), tl.trans(k_out), None, "tf32")
                out = dot(tl.where(causal, pairs, 0.0).to(dtype), v, None, "tf32")
                pairs = dot(kk_in, tl.trans(k_out), None, "tf32")
                pairs = tl.where(rows[:, None] > rows[None, :], pairs, 0.0).to(dtype)
                given = dot(pairs, v, None, "tf32").to(dtype)
                given = dot(solve, given, None, "tf32").to(dtype)
                out = dot(seen, given, out, "tf32")
                kept = dot(tl.trans(k_out), v.to(narrow), None, "tf32")
                kept -= dot(tl.trans(b_out), given.to(narrow), None, "tf32")
                kept *= rest[:, None]
                at = rows[:, None] * BV + vs[None, :]
                tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty))
                at = ks[:, None] * BV + vs[None, :]
                tl.store(added_ptr + at, kept.to(added_ptr.dtype.element_ty))
                strange = tl.sum(tl.abs(out * 0.0))
                strange += tl.sum(tl.abs(kept * 0.0))
            else:
                asked = dot(solve.to(narrow), kk_in, None, "tf32").to(narrow)
                read = dot(seen.to(narrow), asked, r_in, "tf32") * rest[None, :]
                moved = dot(tl.trans(b_out), asked, None, "tf32")
                moved *= rest[:, None] * rest[None, :]
                at = rows[:, None] * BK + ks[None, :]
                tl.store(read_ptr + at, read.to(read_ptr.dtype.element_ty))
                at = ks[:, None] * BK + ks[None, :]
                tl.store(moved_ptr + at, moved.to(moved_ptr.dtype.element_ty))
                tl.store(decay_ptr + place * BK + ks, exp2(total))
                strange = tl.sum(tl.abs(read * 0.0))
                strange += tl.sum(tl.abs(moved * 0.0))
            # 0 times what is no number is none: then the tokens before it must not see it.
            done = strange == 0.0
    if not done:
        if values:
            for column in range(0, BV, SLAB):
                ms = column + tl.arange(0, SLAB)
                kept = _by_tokens(
                    r_ptr, w_ptr, k_ptr, v_ptr, kk_ptr, a_ptr, out_ptr, tl.zeros([BK, SLAB],
                    tl.float32), ms, scale, valid, r_steps, w_steps, k_steps, v_steps,
                    kk_steps, a_steps, K, V, C, BV, PAIR, True,
                )  # fmt: skip
                at = added_ptr + ks[:, None] * BV + ms[None, :]
                tl.store(at, kept.to(added_ptr.dtype.element_ty))
        else:
            decay = tl.exp2(total)
            tl.store(decay_ptr + place * BK + ks, decay)
            for column in range(0, BK, SLAB):
                ms = column + tl.arange(0, SLAB)
                identity = tl.where(ks[:, None] == ms[None, :], 1.0, 0.0)
                moved = _by_tokens(
                    r_ptr, w_ptr, k_ptr, v_ptr, kk_ptr, a_ptr, read_ptr, identity, ms, scale,
                    valid, r_steps, w_steps, k_steps, v_steps, kk_steps, a_steps, K, V, C, BK,
                    PAIR, False,
                )  # fmt: skip
                moved = identity * decay[:, None] - moved
                at = moved_ptr + ks[:, None] * BK + ms[None, :]
                tl.store(at, moved.to(moved_ptr.dtype.element_ty))
