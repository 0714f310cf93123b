"""Triton kernels of the Mamba-2 scan: segment summaries, their combination, the chunk walk.

Promises: three launches at most, none of which waits for another program; nothing per chunk goes to
memory; every exponential is a base-2 one; offsets that can pass 2**31 are 64 bits wide.

A sequence is cut into segments of `T` tokens and a segment into chunks of `Q` tokens. `_summaries`
gives each segment's end state from a zero start, with the exponent of its total decay; `_combine`
turns those into the true states at segment ends; `_walk` starts from the true state and writes y.
With one segment per sequence only `_walk` runs (arXiv:2405.21060, section 6, whose chunk states
here never leave the registers).
"""

from __future__ import annotations

import triton
import triton.language as tl

# `tl.sum` in the form that Gluon kernels can share, and that the interpreter knows by name.
from triton.language.standard import _sum_combine

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)

#: Sizes whose value must not make a kernel compile again; K is a segment's length in chunks.
UNSPECIALISED = [
    *("L", "H", "PER_GROUP", "K", "S", "count", "steps", "tasks", "dt_min", "dt_max"),
]


@triton.jit
def _exp2(v, INTERPRET: tl.constexpr):
    if INTERPRET:
        power = tl.exp2(v)
    else:
        # One instruction; `tl.exp2` adds three to keep results below 2**-126, here as good as 0.
        power = tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [v], dtype=tl.float32, is_pure=True, pack=1
        )
    return power


@triton.jit
def _let_next_start(PDL: tl.constexpr):
    """Let the next kernel's programs take their places; they wait in `_await_previous`."""
    if PDL:
        tl.inline_asm_elementwise(
            "griddepcontrol.launch_dependents; // $0", "=r", [], tl.int32, False, 1
        )


@triton.jit
def _await_previous(PDL: tl.constexpr):
    """Until the kernel before has ended and its stores can be read."""
    if PDL:
        tl.inline_asm_elementwise("griddepcontrol.wait; // $0", "=r", [], tl.int32, False, 1)


@triton.jit
def _softplus(v):
    u = tl.exp2(v * LOG2E)
    # log(1 + u) loses the digits of a small u; four terms of the series keep fp32 accuracy.
    small = u * (1.0 - u * (0.5 - u * (0.3333333333 - u * 0.25)))
    large = tl.log2(1.0 + u) * LN2
    return tl.where(v > 20.0, v, tl.where(u < 0.03125, small, large))


@triton.jit
def _delta(raw, bias, valid, dt_min, dt_max, SOFTPLUS: tl.constexpr, CLAMP: tl.constexpr):
    """Step sizes of one chunk; 0, hence neither decay nor input, past the end."""
    v = raw.to(tl.float32) + bias
    if SOFTPLUS:
        v = _softplus(v)
    if CLAMP:
        v = tl.maximum(v, dt_min, propagate_nan=tl.PropagateNan.ALL)
        v = tl.minimum(v, dt_max, propagate_nan=tl.PropagateNan.ALL)
    return tl.where(valid, v, 0.0)


@triton.jit
def _source(a, delta, APART: tl.constexpr):
    """What a token contributes with: its step size, folded into the exponent unless kept APART
    because it may be negative or because fp32 wants its digits."""
    if APART:
        source = delta
    else:
        source = a - tl.log2(delta)
    return source


@triton.jit
def _dot(a, b, acc, PRECISION: tl.constexpr, INTERPRET: tl.constexpr):
    if INTERPRET:
        # Triton's interpreter reads bf16 operands as integers; in fp32 it multiplies them right.
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def _locate(sid, cu_ptr, count, steps, L, T, S, VARLEN: tl.constexpr):
    """Segment slot -> (sequence, first token, length, first slot of the sequence)."""
    if VARLEN:
        # Slots of sequence i begin at cu[i] // T + i: at least ceil(length / T) apart, and known
        # without a sum over the sequences before it.
        lo = 0
        hi = count
        for _ in range(steps):
            mid = (lo + hi) // 2
            right = (tl.load(cu_ptr + mid).to(tl.int32) // T + mid <= sid) & (mid < count)
            lo = tl.where(right, mid, lo)
            hi = tl.where(right, hi, mid)
        start = tl.load(cu_ptr + lo).to(tl.int32)
        length = tl.load(cu_ptr + lo + 1).to(tl.int32) - start
        return lo, start, length, start // T + lo
    else:
        seq = sid // S
        return seq, 0, L, seq * S


@triton.jit
def _breaks(seq_ptr, token, stride, first, valid):
    """1 where the sequence id differs from the token before; the start continues its state."""
    here = tl.load(seq_ptr + token * stride, mask=valid, other=0)
    inner = valid & (token > first)
    before = tl.load(seq_ptr + (token - 1) * stride, mask=inner, other=0)
    return tl.where(inner & (here != before), 1, 0)


@triton.jit
def _exponents(raw, bias, a2, valid, dt_min, dt_max, SOFTPLUS: tl.constexpr, CLAMP: tl.constexpr):
    """Step sizes and running base-2 exponents of one chunk, tokens along axis 0."""
    delta = _delta(raw, bias, valid, dt_min, dt_max, SOFTPLUS, CLAMP)
    return delta, tl.cumsum(delta * a2, 0)


@triton.jit
def _pair_up(b_ref, c_ref, pairs_ptr, index, cu_ptr, count, steps, L, H, PER_GROUP, N, K, S,
             Q: tl.constexpr, VARLEN: tl.constexpr):  # fmt: skip
    """C B^T of one chunk and group, which all heads of the group share."""
    groups = H // PER_GROUP
    group = index % groups
    chunk = (index // groups) % K
    slot = index // (groups * K)
    seq, start, length, first = _locate(slot, cu_ptr, count, steps, L, K * Q, S, VARLEN)
    begin = (slot - first) * K * Q + chunk * Q
    if begin < length:
        row = ((seq * 0 if VARLEN else seq) * L + start + begin).to(tl.int32)
        pairs = tl.dot(c_ref.load([row, group * N]), tl.trans(b_ref.load([row, group * N])))
        cell = tl.arange(0, Q)[:, None] * Q + tl.arange(0, Q)[None, :]
        at = pairs_ptr + index.to(tl.int64) * (Q * Q) + cell
        tl.store(at, pairs.to(pairs_ptr.dtype.element_ty))


@triton.jit(do_not_specialize=UNSPECIALISED)
def _prepare(
    b_ref,
    c_ref,
    pairs_ptr,
    dt_ptr,
    a_ptr,
    bias_ptr,
    cu_ptr,
    decays_ptr,
    sources_ptr,
    L,
    H,
    PER_GROUP,
    N,
    K,
    S,
    count,
    steps,
    tasks,
    dt_min,
    dt_max,
    dt_sb,
    dt_sl,
    dt_sh,
    Q: tl.constexpr,
    HEADS: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    CLAMP: tl.constexpr,
    APART: tl.constexpr,
    BIAS: tl.constexpr,
    VARLEN: tl.constexpr,
    PAIRED: tl.constexpr,
    PDL: tl.constexpr,
):
    """The part of the scan that knows no state: exponents of one chunk for `HEADS` heads; and if
    PAIRED, `tasks` programs before them form C B^T of one chunk and group."""
    T = K * Q
    _let_next_start(PDL)
    pid = tl.program_id(0)
    if PAIRED:
        if pid < tasks:
            _pair_up(b_ref, c_ref, pairs_ptr, pid, cu_ptr, count, steps, L, H, PER_GROUP, N, K, S,
                     Q, VARLEN)  # fmt: skip
            return
        pid -= tasks
    blocks = tl.cdiv(H, HEADS)
    heads = (pid % blocks) * HEADS + tl.arange(0, HEADS)
    chunks = T // Q
    chunk = (pid // blocks) % chunks
    slot = pid // (blocks * chunks)
    seq, start, length, first = _locate(slot, cu_ptr, count, steps, L, T, S, VARLEN)
    begin = (slot - first) * T + chunk * Q
    if begin >= length:
        return
    entry = (seq * 0 if VARLEN else seq).to(tl.int64)
    rows = tl.arange(0, Q)
    mine = heads < H
    valid = (rows < length - begin)[:, None] & mine[None, :]
    at = dt_ptr + entry * dt_sb + (start + begin).to(tl.int64) * dt_sl
    raw = tl.load(at + rows[:, None] * dt_sl + heads[None, :] * dt_sh, mask=valid, other=0.0)
    a2 = tl.load(a_ptr + heads, mask=mine, other=0.0).to(tl.float32) * LOG2E
    bias = tl.zeros((HEADS,), tl.float32)
    if BIAS:
        bias = tl.load(bias_ptr + heads, mask=mine, other=0.0).to(tl.float32)
    delta, a = _exponents(raw, bias[None, :], a2[None, :], valid, dt_min, dt_max, SOFTPLUS, CLAMP)
    out = (slot * H + heads).to(tl.int64)[None, :] * T + (chunk * Q + rows)[:, None]
    tl.store(decays_ptr + out, a, mask=mine[None, :])
    tl.store(sources_ptr + out, _source(a, delta, APART), mask=mine[None, :])


@triton.jit
def _tile(ref, base, row, column, stride_row, stride_col, mask, Q: tl.constexpr, W: tl.constexpr,
          TMA: tl.constexpr, MASK: tl.constexpr):  # fmt: skip
    """Q x W tile: through a descriptor at (row, column), else by pointers from `base`."""
    if TMA:
        tile = ref.load([row, column])
    else:
        at = base + tl.arange(0, Q)[:, None] * stride_row + tl.arange(0, W)[None, :] * stride_col
        if MASK:
            tile = tl.load(at, mask=mask, other=0.0)
        else:
            tile = tl.load(at)
    return tile


@triton.jit(do_not_specialize=UNSPECIALISED)
def _summaries(
    x_ref,
    dt_ptr,
    a_ptr,
    b_ref,
    chunk_b_ref,
    chunk_c_ref,
    pairs_ptr,
    bias_ptr,
    cu_ptr,
    seq_ptr,
    decays_ptr,
    sources_ptr,
    state_ptr,
    decay_ptr,
    L,
    H,
    PER_GROUP,
    P,
    N,
    K,
    S,
    count,
    steps,
    tasks,
    dt_min,
    dt_max,
    x_sb,
    x_sl,
    x_sh,
    x_sp,
    dt_sb,
    dt_sl,
    dt_sh,
    b_sb,
    b_sl,
    b_sg,
    b_sn,
    seq_sb,
    seq_sl,
    Q: tl.constexpr,
    R: tl.constexpr,
    BP: tl.constexpr,
    BN: tl.constexpr,
    EVEN_P: tl.constexpr,
    EVEN_N: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    CLAMP: tl.constexpr,
    APART: tl.constexpr,
    BIAS: tl.constexpr,
    VARLEN: tl.constexpr,
    SEQ_IDX: tl.constexpr,
    PREPARED: tl.constexpr,
    TMA: tl.constexpr,
    PAIRED: tl.constexpr,
    PRECISION: tl.constexpr,
    INTERPRET: tl.constexpr,
    PDL: tl.constexpr,
):
    """End state of each segment from a zero start, and its decay; the exponents unless PREPARED,
    and the pairs of `_prepare` if PAIRED."""
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
        a2 = tl.load(a_ptr + head).to(tl.float32) * LOG2E
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
                a = tl.cumsum(delta * a2, 1)
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
            log_decay = delta * a2
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
            tl.static_assert(R == 1)
            change = _breaks(seq_ptr + entry * seq_sb, token + inner, seq_sl, start, whole)
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
        xw = tl.trans(xv).to(tl.float32) * w[None, :]
        if SEQ_IDX:
            # A token of an earlier sequence must vanish even if it is not finite.
            xw = tl.where(w[None, :] != 0.0, xw, 0.0)
            bv = tl.where(w[:, None] != 0.0, bv, 0.0)
        acc = _dot(xw.to(bv.dtype), bv, acc, PRECISION, INTERPRET)
    cells = (block * BP + ps)[:, None] * N + ns[None, :]
    tl.store(state_ptr + at * P * N + cells, acc, mask=tl.trans(p_mask) & n_mask)
    if block == 0:
        tl.store(decay_ptr + at, tl.where(alive > 0, after, -float("inf")))


@triton.jit(do_not_specialize=UNSPECIALISED)
def _combine(
    state_ptr,
    decay_ptr,
    h0_ptr,
    cu_ptr,
    L,
    H,
    SIZE,
    K,
    S,
    Q: tl.constexpr,
    BLOCK: tl.constexpr,
    H0: tl.constexpr,
    VARLEN: tl.constexpr,
    PDL: tl.constexpr,
):
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
        start = tl.load(cu_ptr + seq).to(tl.int32)
        segments = tl.cdiv(tl.load(cu_ptr + seq + 1).to(tl.int32) - start, T)
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


@triton.jit
def _state_at(ptr, at, cells, owned, MASK: tl.constexpr):
    if MASK:
        h = tl.load(ptr + at + cells, mask=owned, other=0.0)
    else:
        h = tl.load(ptr + at + cells)
    return h


@triton.jit
def _start(h, state_ptr, decay_ptr, h0_ptr, cells, owned, seq, first, segment, head, H, SIZE,
           H0: tl.constexpr, SEGMENTS: tl.constexpr, MASK: tl.constexpr):  # fmt: skip
    """State before a segment; `h` is zero and gives the layout. SEGMENTS as in `_walk`."""
    if H0 and SEGMENTS != 2:
        at = (seq * H + head).to(tl.int64) * SIZE
        h = _state_at(h0_ptr, at, cells, owned, MASK).to(tl.float32)
    if SEGMENTS == 1:
        for s in range(segment):
            at = ((first + s) * H + head).to(tl.int64)
            decay = tl.load(decay_ptr + at)
            h = tl.where(decay == -float("inf"), 0.0, h * tl.exp2(decay))
            h += _state_at(state_ptr, at * SIZE, cells, owned, MASK)
    if SEGMENTS == 2:
        if segment > 0:
            at = ((first + segment - 1) * H + head).to(tl.int64)
            h = _state_at(state_ptr, at * SIZE, cells, owned, MASK)
        elif H0:
            at = (seq * H + head).to(tl.int64) * SIZE
            h = _state_at(h0_ptr, at, cells, owned, MASK).to(tl.float32)
    return h


@triton.jit
def _is_finite(h):
    """Whether all of a state is: whatever is not finite in x, B or dt has reached it."""
    odd = tl.where(h - h == 0.0, 0, 1)
    return tl.reduce(tl.reduce(odd, 1, _sum_combine), 0, _sum_combine) == 0


@triton.jit
def _retrace(
    h,
    x_at,
    b_at,
    c_at,
    d_at,
    z_at,
    y_at,
    seq_at,
    decays,
    sources,
    p_in,
    n_in,
    tokens,
    earlier,
    x_sl,
    b_sl,
    c_sl,
    z_sl,
    seq_sl,
    y_sl,
    Q: tl.constexpr,
    SKIP: tl.constexpr,
    GATE: tl.constexpr,
    SEQ_IDX: tl.constexpr,
    APART: tl.constexpr,
):
    """A segment token by token, from its start state `h`: what a chunk's products would smear to
    earlier tokens, as 0 * NaN, here stays where the recurrence has it."""
    i = tokens * 0
    before = 0.0
    for _ in range(tokens):
        a = tl.load(decays + i)
        source = tl.load(sources + i)
        delta = source if APART else tl.exp2(a - source)
        h = h * tl.exp2(a - tl.where(i % Q == 0, 0.0, before))
        if SEQ_IDX:
            inner = (i > 0) | earlier
            here = tl.load(seq_at)
            old = tl.load(seq_at - seq_sl, mask=inner, other=0)
            h = tl.where(inner & (here != old), 0.0, h)
            seq_at += seq_sl
        x = tl.load(x_at, mask=p_in, other=0.0).to(tl.float32)
        b = tl.load(b_at, mask=n_in, other=0.0).to(tl.float32)
        c = tl.load(c_at, mask=n_in, other=0.0).to(tl.float32)
        h += (x * delta)[:, None] * b[None, :]
        y = tl.reduce(h * c[None, :], 1, _sum_combine)
        if SKIP == 1:
            y += x * tl.load(d_at).to(tl.float32)
        if SKIP == 2:
            y += x * tl.load(d_at, mask=p_in, other=0.0).to(tl.float32)
        if GATE:
            z = tl.load(z_at, mask=p_in, other=0.0).to(tl.float32)
            y = y * z / (1.0 + tl.exp2(-z * LOG2E))
            z_at += z_sl
        tl.store(y_at, y.to(y_at.dtype.element_ty), mask=p_in)
        x_at += x_sl
        b_at += b_sl
        c_at += c_sl
        y_at += y_sl
        before = a
        i += 1
    return h


@triton.jit(do_not_specialize=UNSPECIALISED)
def _walk(
    x_ref,
    b_ref,
    c_ref,
    x_ptr,
    b_ptr,
    c_ptr,
    d_ptr,
    z_ptr,
    h0_ptr,
    cu_ptr,
    seq_ptr,
    decays_ptr,
    sources_ptr,
    state_ptr,
    decay_ptr,
    y_ptr,
    final_ptr,
    L,
    H,
    PER_GROUP,
    P,
    N,
    K,
    S,
    count,
    steps,
    x_sb,
    x_sl,
    x_sh,
    x_sp,
    b_sb,
    b_sl,
    b_sg,
    b_sn,
    c_sb,
    c_sl,
    c_sg,
    c_sn,
    z_sb,
    z_sl,
    z_sh,
    z_sp,
    seq_sb,
    seq_sl,
    Q: tl.constexpr,
    BP: tl.constexpr,
    BN: tl.constexpr,
    EVEN_P: tl.constexpr,
    EVEN_N: tl.constexpr,
    APART: tl.constexpr,
    SKIP: tl.constexpr,
    GATE: tl.constexpr,
    H0: tl.constexpr,
    FINAL: tl.constexpr,
    VARLEN: tl.constexpr,
    SEQ_IDX: tl.constexpr,
    SEGMENTS: tl.constexpr,
    TMA: tl.constexpr,
    PRECISION: tl.constexpr,
    INTERPRET: tl.constexpr,
    PDL: tl.constexpr,
):
    """y and the final state of one segment. SKIP: 0 none, 1 D of shape (H), 2 (H, P). SEGMENTS:
    0 one per sequence, 1 the states before this segment are still apart, 2 `_combine` has run."""
    T = K * Q
    _await_previous(PDL)
    pid = tl.program_id(0)
    blocks = tl.cdiv(P, BP)
    block = pid % blocks
    head = (pid // blocks) % H
    slot = pid // (blocks * H)
    seq, start, length, first = _locate(slot, cu_ptr, count, steps, L, T, S, VARLEN)
    segment = slot - first
    begin = segment * T
    # Slots past the end exist in ragged batches; an empty sequence still owns its first one.
    if (begin >= length) & (segment > 0):
        return
    batch = seq * 0 if VARLEN else seq
    valid = tl.minimum(length - begin, T)
    rows = tl.arange(0, Q)
    ps = block * BP + tl.arange(0, BP)
    ns = tl.arange(0, BN)
    token = (start + begin).to(tl.int64)
    entry = batch.to(tl.int64)
    group = head // PER_GROUP
    x_base = x_ptr + entry * x_sb + token * x_sl + head.to(tl.int64) * x_sh + block * BP * x_sp
    b_base = b_ptr + entry * b_sb + token * b_sl + group * b_sg
    c_base = c_ptr + entry * c_sb + token * c_sl + group * c_sg
    y_base = y_ptr + ((entry * L + token) * H + head) * P
    if GATE:
        z_base = z_ptr + entry * z_sb + token * z_sl + head.to(tl.int64) * z_sh
    if SKIP == 1:
        skip = tl.load(d_ptr + head).to(tl.float32)
    if SKIP == 2:
        skip = tl.load(d_ptr + head * P + ps, mask=ps < P, other=0.0).to(tl.float32)[None, :]
    masked: tl.constexpr = not (EVEN_P and EVEN_N)
    cells = ps[:, None] * N + ns[None, :]
    owned = (ps[:, None] < P) & (ns[None, :] < N)
    h = _start(tl.zeros((BP, BN), tl.float32), state_ptr, decay_ptr, h0_ptr, cells, owned, seq,
               first, segment, head, H, P * N, H0, SEGMENTS, masked)  # fmt: skip
    finite = True
    decays_base = decays_ptr + (slot * H + head).to(tl.int64) * T
    sources_base = sources_ptr + (slot * H + head).to(tl.int64) * T
    left = valid
    row = (batch * L + start + begin).to(tl.int32)
    total = tl.load(decays_base + Q - 1)
    for _ in range(tl.cdiv(valid, Q)):
        inside = rows < left
        a = tl.load(decays_base + rows)
        source = tl.load(sources_base + rows)
        decays_base += Q
        sources_base += Q
        p_mask = inside[:, None]
        n_mask = inside[:, None]
        if not EVEN_P:
            p_mask = p_mask & (ps[None, :] < P)
        if not EVEN_N:
            n_mask = n_mask & (ns[None, :] < N)
        xv = _tile(x_ref, x_base, row, head * P + block * BP, x_sl, x_sp, p_mask, Q, BP, TMA, True)
        bv = _tile(b_ref, b_base, row, group * N, b_sl, b_sn, n_mask, Q, BN, TMA, True)
        cv = _tile(c_ref, c_base, row, group * N, c_sl, c_sn, n_mask, Q, BN, TMA, True)
        row += Q
        x_base += Q * x_sl
        b_base += Q * b_sl
        c_base += Q * c_sl
        if GATE:
            z_at = z_base + rows[:, None] * z_sl + ps[None, :] * z_sp
            zv = tl.load(z_at, mask=p_mask, other=0.0)
            z_base += Q * z_sl

        scores = _dot(cv, tl.trans(bv), None, PRECISION, INTERPRET)
        y = _dot(cv, tl.trans(h.to(bv.dtype)), None, PRECISION, INTERPRET)
        visible = rows[:, None] >= rows[None, :]
        if APART:
            weight = _exp2(a[:, None] - a[None, :], INTERPRET) * source[None, :]
            to_state = _exp2(total - a, INTERPRET) * source
        else:
            weight = _exp2(a[:, None] - source[None, :], INTERPRET)
            to_state = _exp2(total - source, INTERPRET)
        if SEQ_IDX:
            change = _breaks(seq_ptr + entry * seq_sb, token + rows, seq_sl, start, inside)
            token += Q
            changes = tl.sum(change, 0)
            k = tl.cumsum(change, 0)
            visible = visible & (k[:, None] == k[None, :])
            to_state = tl.where(k == changes, to_state, 0.0)
            y = tl.where((k == 0)[:, None], y, 0.0)
        y = y * _exp2(a, INTERPRET)[:, None]
        # Above the diagonal exp2 may overflow; the selection comes last, so that neither that nor
        # a token that is not finite reaches the tokens before it.
        scores = tl.where(visible, scores * weight, 0.0)
        y = _dot(scores.to(xv.dtype), xv, y, PRECISION, INTERPRET)
        xw = tl.trans(xv).to(tl.float32) * to_state[None, :]
        h = h * _exp2(total, INTERPRET)
        if SEQ_IDX:
            last = k == changes
            finite &= _is_finite(xv.to(tl.float32))
            xw = tl.where(last[None, :], xw, 0.0)
            bv = tl.where(last[:, None], bv, 0.0)
            h = tl.where(changes == 0, h, 0.0)
        h = _dot(xw.to(bv.dtype), bv, h, PRECISION, INTERPRET)
        # One chunk ahead; at the end this reads the last chunk's once more.
        total = tl.load(decays_base + tl.where(left > Q, Q - 1, -1))

        if SKIP != 0:
            y += xv.to(tl.float32) * skip
        if GATE:
            zf = zv.to(tl.float32)
            y = y * tl.fdiv(zf, 1.0 + _exp2(-zf * LOG2E, INTERPRET))
        y_at = y_base + rows[:, None] * (H * P) + ps[None, :]
        tl.store(y_at, y.to(y_ptr.dtype.element_ty), mask=p_mask)
        y_base += Q * H * P
        left -= Q
    finite = _is_finite(h) & finite
    if finite == 0:
        token = (start + begin).to(tl.int64)
        d_at = d_ptr
        z_at = z_ptr
        seq_at = seq_ptr
        if SKIP == 1:
            d_at += head
        if SKIP == 2:
            d_at += head * P + ps
        if GATE:
            z_at += entry * z_sb + token * z_sl + head.to(tl.int64) * z_sh + ps * z_sp
        if SEQ_IDX:
            seq_at += entry * seq_sb + token * seq_sl
        h = _start(tl.zeros((BP, BN), tl.float32), state_ptr, decay_ptr, h0_ptr, cells, owned, seq,
                   first, segment, head, H, P * N, H0, SEGMENTS, masked)  # fmt: skip
        h = _retrace(
            h,
            x_ptr + entry * x_sb + token * x_sl + head.to(tl.int64) * x_sh + ps * x_sp,
            b_ptr + entry * b_sb + token * b_sl + group * b_sg + ns * b_sn,
            c_ptr + entry * c_sb + token * c_sl + group * c_sg + ns * c_sn,
            d_at,
            z_at,
            y_ptr + ((entry * L + token) * H + head) * P + ps,
            seq_at,
            decays_ptr + (slot * H + head).to(tl.int64) * T,
            sources_ptr + (slot * H + head).to(tl.int64) * T,
            ps < P,
            ns < N,
            valid,
            segment > 0,
            x_sl,
            b_sl,
            c_sl,
            z_sl,
            seq_sl,
            H * P,
            Q,
            SKIP,
            GATE,
            SEQ_IDX,
            APART,
        )
    if FINAL:
        if begin + T >= length:
            at = (seq * H + head).to(tl.int64) * P * N
            tl.store(final_ptr + at + cells, h.to(final_ptr.dtype.element_ty), mask=owned)
