"""Last launches of the Mamba-3 scan: keys and queries are turned where they are multiplied.

A row is one rank of one token, `RANKS` of them for each, of which the first R are there. Features
that are turned and those that are not are multiplied apart.

Promises: any stride, length, dtype and GPU; the state stays in registers between chunks, and y is
written once. fp16 is multiplied as tf32, which has its digits and room for small weights.
"""

# The language of kernels is read by Triton, not by Python.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from ssmprof_kernels.device.math import LOG2E, exp2
from ssmprof_kernels.mamba3.parts import cos_sin, turned
from ssmprof_kernels.mamba3.rates import FREE
from ssmprof_kernels.ssd.state import start_state


@triton.jit
def _product(a, b, acc, WIDE: tl.constexpr, PRECISION: tl.constexpr):
    if WIDE:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def _weights(source, a, end, APART: tl.constexpr):
    """What each row counts for at the exponent `end`; `source` as `rates._rates` left it."""
    if APART:
        w = exp2(end - a) * source
    else:
        w = exp2(end - source)
    return w


@triton.jit
def _sines(turns_ptr, first, valid, H, BS: tl.constexpr):
    """(Q, BS) each, of the rows at `first` in (B, L, H)."""
    s = tl.arange(0, BS)
    turns = tl.load(turns_ptr + first[:, None] * BS + s[None, :], mask=valid[:, None], other=0)
    if turns_ptr.dtype.element_ty == tl.int16:
        turns = turns.to(tl.float32) * (1.0 / 65536.0)
    return cos_sin(turns)


@triton.jit
def _features(at, bias_at, n, inside, valid, s_n, LINE: tl.constexpr):
    """Some features of some rows with their bias, 0 where they are not; a LINE of biases is the
    same for all rows."""
    x = tl.load(at + n[None, :] * s_n, mask=valid[:, None] & inside[None, :], other=0.0)
    x = x.to(tl.float32)
    if LINE:
        x += tl.load(bias_at + n, mask=inside, other=0.0).to(tl.float32)[None, :]
        x = tl.where(valid[:, None], x, 0.0)
    else:
        bias = tl.load(bias_at[:, None] + n[None, :], mask=valid[:, None] & inside[None, :],
                       other=0.0)  # fmt: skip
        x += bias.to(tl.float32)
    return x


@triton.jit
def _rest(at, bias_at, u, inside, valid, s_n, LINE: tl.constexpr):
    """As `_features`, in the dtype of the rows: what is not turned needs no more digits."""
    x = tl.load(at + u[None, :] * s_n, mask=valid[:, None] & inside[None, :], other=0.0)
    if LINE:
        bias = tl.load(bias_at + u, mask=inside, other=0.0)[None, :]
    else:
        bias = tl.load(bias_at[:, None] + u[None, :], mask=inside[None, :], other=0.0)
    return tl.where(valid[:, None], x + bias.to(x.dtype), 0.0)


@triton.jit
def _values(v_at, mix_at, p, valid, s_p, P: tl.constexpr, MIXED: tl.constexpr):
    """(Q, BP): the values of some rows."""
    inside = valid[:, None] & (p < P)[None, :]
    v = tl.load(v_at + p[None, :] * s_p, mask=inside, other=0.0)
    if MIXED:
        mix = tl.load(mix_at[:, None] + p[None, :], mask=inside, other=0.0)
        v = (v.to(tl.float32) * mix.to(tl.float32)).to(v.dtype)
    return v


@triton.jit(do_not_specialize=FREE)
def ssmprof_scan_mamba3_summaries(
    k_ptr, v_ptr, k_bias_ptr, mix_ptr, turns_ptr, decays_ptr, sources_ptr, state_ptr, decay_ptr, L,
    H, PER_GROUP, K, S, k_sb, k_sl, k_sr, k_sg, k_sn, v_sb, v_sl, v_sh, v_sp, N: tl.constexpr,
    P: tl.constexpr, R: tl.constexpr, RANKS: tl.constexpr, ANGLES: tl.constexpr,
    Q: tl.constexpr, BP: tl.constexpr, BS: tl.constexpr, BU: tl.constexpr, MIXED: tl.constexpr,
    APART: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """End state of each segment but the last from a zero start, and its decay."""
    pid = tl.program_id(0)
    blocks: tl.constexpr = (P + BP - 1) // BP
    TOKENS: tl.constexpr = Q // RANKS
    head = (pid // blocks) % H
    slot = pid // (blocks * H)
    seq = slot // S
    begin = (slot % S) * K * TOKENS
    if begin + K * TOKENS >= L:
        return
    p = (pid % blocks) * BP + tl.arange(0, BP)
    row = tl.arange(0, Q)
    rank = row % RANKS
    valid = rank < R
    far = head.to(tl.int64)
    entry = seq.to(tl.int64)
    token = (begin + row // RANKS).to(tl.int64)
    n = tl.arange(0, 2 * BS)
    u = 2 * ANGLES + tl.arange(0, BU)
    k_at = (k_ptr + entry * k_sb + token * k_sl + rank * k_sr)[:, None] + far // PER_GROUP * k_sg
    v_at = (v_ptr + entry * v_sb + token * v_sl)[:, None] + far * v_sh
    mix_at = mix_ptr
    bias_at = k_bias_ptr + far * (R * N)
    if R > 1:
        bias_at = bias_at + rank * N
    if MIXED:
        mix_at = mix_ptr + far * (R * P) + rank * P
    first = (entry * L + token) * H + far
    at = (slot * H + far) * K * Q
    h = tl.zeros((BP, 2 * BS), tl.float32)
    hu = tl.zeros((BP, BU), tl.float32)
    total = 0.0
    for _ in range(K):
        a = tl.load(decays_ptr + at + row)
        end = tl.load(decays_ptr + at + Q - 1)
        w = _weights(tl.load(sources_ptr + at + row), a, end, APART)
        x = _values(v_at, mix_at, p, valid, v_sp, P, MIXED)
        cos, sin = _sines(turns_ptr, first, valid, H, BS)
        k = _features(k_at, bias_at, n, n < 2 * ANGLES, valid, k_sn, R == 1)
        k = turned(k, cos, sin).to(x.dtype)
        xw = tl.trans(x).to(tl.float32) * w[None, :]
        if not WIDE:
            xw = xw.to(x.dtype)
        decay = exp2(end)
        h = _product(xw, k, h * decay, WIDE, PRECISION)
        if 2 * ANGLES < N:
            ku = _rest(k_at, bias_at, u, u < N, valid, k_sn, R == 1)
            hu = _product(xw, ku, hu * decay, WIDE, PRECISION)
        total += end
        v_at += TOKENS * v_sl
        k_at += TOKENS * k_sl
        first += TOKENS * H
        at += Q
    cell = state_ptr + (slot * H + far) * (P * N) + p[:, None] * N
    tl.store(cell + n[None, :], h, mask=(p < P)[:, None] & (n < 2 * ANGLES)[None, :])
    if 2 * ANGLES < N:
        tl.store(cell + u[None, :], hu, mask=(p < P)[:, None] & (u < N)[None, :])
    if pid % blocks == 0:
        tl.store(decay_ptr + slot * H + far, total)


@triton.jit
def _finished(y, z_at, z_rows, mix_z_at, mix_o_at, p, valid, s_p, P: tl.constexpr,
              GATE: tl.constexpr, MIXED: tl.constexpr, SUM: tl.constexpr):  # fmt: skip
    """Gates, and weights of the sum of ranks."""
    inside = valid[:, None] & (p < P)[None, :]
    if GATE:
        z = tl.load(z_at + p[None, :] * s_p, mask=inside & z_rows[:, None], other=0.0)
        z = z.to(tl.float32)
        if MIXED:
            z *= tl.load(mix_z_at[:, None] + p[None, :], mask=inside, other=0.0).to(tl.float32)
        y = y * z / (1.0 + tl.exp2(z * -LOG2E))
    if SUM:
        y *= tl.load(mix_o_at[:, None] + p[None, :], mask=inside, other=0.0).to(tl.float32)
    return y


@triton.jit(do_not_specialize=FREE)
def ssmprof_scan_mamba3_walk(
    q_ptr, k_ptr, v_ptr, z_ptr, q_bias_ptr, k_bias_ptr, mix_ptr, mix_z_ptr, mix_o_ptr, d_ptr,
    turns_ptr, decays_ptr, sources_ptr, own_ptr, state_ptr, decay_ptr, h0_ptr, y_ptr, final_ptr,
    L, H, PER_GROUP, K, S, q_sb, q_sl, q_sr, q_sg, q_sn, k_sb, k_sl, k_sr, k_sg, k_sn, v_sb, v_sl,
    v_sh, v_sp, z_sb, z_sl, z_sh, z_sp, N: tl.constexpr, P: tl.constexpr, R: tl.constexpr,
    RANKS: tl.constexpr, ANGLES: tl.constexpr, Q: tl.constexpr, BP: tl.constexpr,
    BS: tl.constexpr, BU: tl.constexpr, MIXED: tl.constexpr, GATE: tl.constexpr,
    SUM: tl.constexpr, H0: tl.constexpr, FINAL: tl.constexpr, SEGMENTS: tl.constexpr,
    APART: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """y, (B, L, H, P) or with ranks apart (B, L, R, H, P), and the final state, of one segment."""
    pid = tl.program_id(0)
    blocks: tl.constexpr = (P + BP - 1) // BP
    TOKENS: tl.constexpr = Q // RANKS
    head = (pid // blocks) % H
    slot = pid // (blocks * H)
    seq = slot // S
    segment = slot % S
    begin = segment * K * TOKENS
    p = (pid % blocks) * BP + tl.arange(0, BP)
    row = tl.arange(0, Q)
    rank = row % RANKS
    there = rank < R
    far = head.to(tl.int64)
    entry = seq.to(tl.int64)
    n = tl.arange(0, 2 * BS)
    u = 2 * ANGLES + tl.arange(0, BU)
    cells = p[:, None] * N + n[None, :]
    owned = (p < P)[:, None] & (n < 2 * ANGLES)[None, :]
    cells_u = p[:, None] * N + u[None, :]
    owned_u = (p < P)[:, None] & (u < N)[None, :]
    h = tl.zeros((BP, 2 * BS), tl.float32)
    h = start_state(h, state_ptr, decay_ptr, h0_ptr, cells, owned, seq, seq * S, segment, head, H,
                    P * N, H0, SEGMENTS, True)  # fmt: skip
    hu = tl.zeros((BP, BU), tl.float32)
    if 2 * ANGLES < N:
        hu = start_state(hu, state_ptr, decay_ptr, h0_ptr, cells_u, owned_u, seq, seq * S, segment,
                         head, H, P * N, H0, SEGMENTS, True)  # fmt: skip
    token = (begin + row // RANKS).to(tl.int64)
    group = far // PER_GROUP
    k_at = (k_ptr + entry * k_sb + token * k_sl + rank * k_sr)[:, None] + group * k_sg
    q_at = (q_ptr + entry * q_sb + token * q_sl + rank * q_sr)[:, None] + group * q_sg
    v_at = (v_ptr + entry * v_sb + token * v_sl)[:, None] + far * v_sh
    k_bias_at = k_bias_ptr + far * (R * N)
    q_bias_at = q_bias_ptr + far * (R * N)
    if R > 1:
        k_bias_at = k_bias_at + rank * N
        q_bias_at = q_bias_at + rank * N
    mix_at = mix_ptr
    if MIXED:
        mix_at = mix_ptr + far * (R * P) + rank * P
    mix_z_at = mix_z_ptr
    if MIXED and GATE:
        mix_z_at = mix_z_ptr + far * (R * P) + rank * P
    mix_o_at = mix_o_ptr
    if SUM:
        mix_o_at = mix_o_ptr + far * (R * P) + rank * P
    z_at = z_ptr
    if GATE:
        z_at = (z_ptr + entry * z_sb + token * z_sl)[:, None] + far * z_sh
    first = (entry * L + token) * H + far
    y_at = y_ptr + first * P
    y_step = TOKENS * H * P
    if SUM:
        line = tl.arange(0, TOKENS)
        y_at = y_ptr + ((entry * L + begin + line) * H + far) * P
    elif R > 1:
        y_at = y_ptr + (((entry * L + token) * R + rank) * H + far) * P
        y_step = TOKENS * R * H * P
    at = (slot * H + far) * K * Q
    skip = tl.load(d_ptr + head).to(tl.float32)
    visible = (row // RANKS)[:, None] >= (row // RANKS)[None, :]
    same = (row // RANKS)[:, None] == (row // RANKS)[None, :]
    left = L - begin
    for _ in range(tl.cdiv(tl.minimum(left, K * TOKENS), TOKENS)):
        real = row // RANKS < left
        valid = real & there
        a = tl.load(decays_ptr + at + row)
        source = tl.load(sources_ptr + at + row)
        own = tl.load(own_ptr + at + row)
        end = tl.load(decays_ptr + at + Q - 1)
        x = _values(v_at, mix_at, p, valid, v_sp, P, MIXED)
        cos, sin = _sines(turns_ptr, first, valid, H, BS)
        k = _features(k_at, k_bias_at, n, n < 2 * ANGLES, valid, k_sn, R == 1)
        k = turned(k, cos, sin).to(x.dtype)
        q = _features(q_at, q_bias_at, n, n < 2 * ANGLES, valid, q_sn, R == 1)
        q = turned(q, cos, sin).to(x.dtype)
        held = tl.trans(h)
        if not WIDE:
            held = held.to(x.dtype)
        pairs = _product(q, tl.trans(k), None, WIDE, PRECISION)
        y = _product(q, held, None, WIDE, PRECISION)
        if 2 * ANGLES < N:
            ku = _rest(k_at, k_bias_at, u, u < N, valid, k_sn, R == 1)
            qu = _rest(q_at, q_bias_at, u, u < N, valid, q_sn, R == 1)
            held = tl.trans(hu)
            if not WIDE:
                held = held.to(x.dtype)
            pairs = _product(qu, tl.trans(ku), pairs, WIDE, PRECISION)
            y = _product(qu, held, y, WIDE, PRECISION)
        y *= exp2(a)[:, None]
        if APART:
            weight = exp2(a[:, None] - a[None, :]) * source[None, :]
        else:
            weight = exp2(a[:, None] - source[None, :])
        weight = tl.where(same, weight * own[None, :], weight)
        # Above the diagonal exp2 may overflow; the selection comes last.
        pairs = tl.where(visible, pairs * weight, 0.0)
        xw = tl.trans(x).to(tl.float32) * _weights(source, a, end, APART)[None, :]
        if not WIDE:
            pairs = pairs.to(x.dtype)
            xw = xw.to(x.dtype)
        y = _product(pairs, x, y, WIDE, PRECISION)
        decay = exp2(end)
        h = _product(xw, k, h * decay, WIDE, PRECISION)
        if 2 * ANGLES < N:
            hu = _product(xw, ku, hu * decay, WIDE, PRECISION)
        y += x.to(tl.float32) * skip
        y = _finished(y, z_at, real, mix_z_at, mix_o_at, p, there, z_sp, P, GATE, MIXED, SUM)
        if SUM:
            y = tl.sum(tl.reshape(y, (TOKENS, RANKS, BP)), 1)
            y_mask = (line < left)[:, None] & (p < P)[None, :]
        else:
            y_mask = valid[:, None] & (p < P)[None, :]
        tl.store(y_at[:, None] + p[None, :], y.to(y_ptr.dtype.element_ty), mask=y_mask)
        v_at += TOKENS * v_sl
        k_at += TOKENS * k_sl
        q_at += TOKENS * q_sl
        if GATE:
            z_at += TOKENS * z_sl
        y_at += y_step
        first += TOKENS * H
        at += Q
        left -= TOKENS
    if FINAL:
        if begin + K * TOKENS >= L:
            base = final_ptr + (entry * H + far) * (P * N)
            tl.store(base + cells, h, mask=owned)
            if 2 * ANGLES < N:
                tl.store(base + cells_u, hu, mask=owned_u)
