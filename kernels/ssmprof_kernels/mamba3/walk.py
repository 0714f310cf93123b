"""Last launches of the Mamba-3 scan where Hopper's form does not serve: any stride, dtype and GPU.

Promises: reads what `rates` and `turning` have prepared; the state stays in registers between
chunks. fp16 is multiplied as tf32, which has its digits and room for small weights.
"""

# The language of kernels is read by Triton, not by Python.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from ssmprof_kernels.mamba3.parts import LOG2E
from ssmprof_kernels.mamba3.rates import FREE
from ssmprof_kernels.ssd_state import _start


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
        w = tl.exp2(end - a) * source
    else:
        w = tl.exp2(end - source)
    return w


@triton.jit(do_not_specialize=FREE)
def _summaries(
    x_ptr, k_ptr, decays_ptr, sources_ptr, state_ptr, decay_ptr, L, H, K, S, x_sb, x_sl, x_sh,
    x_sp, N: tl.constexpr, P: tl.constexpr, Q: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr,
    APART: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """End state of each segment but the last from a zero start, and its decay."""
    pid = tl.program_id(0)
    blocks: tl.constexpr = (P + BP - 1) // BP
    head = (pid // blocks) % H
    slot = (pid // (blocks * H)).to(tl.int64)
    seq = slot // S
    first = (slot % S) * K * Q
    if first + K * Q >= L:
        return
    p = (pid % blocks) * BP + tl.arange(0, BP)
    n = tl.arange(0, BN)
    row = tl.arange(0, Q)
    far = head.to(tl.int64)
    x_at = x_ptr + seq * x_sb + (first + row)[:, None] * x_sl + far * x_sh + p[None, :] * x_sp
    k_at = k_ptr + ((seq * L + first + row) * H + far)[:, None] * N + n[None, :]
    at = (slot * H + far) * K * Q + row
    h = tl.zeros((BP, BN), tl.float32)
    total = 0.0
    for _ in range(K):
        a = tl.load(decays_ptr + at)
        end = tl.load(decays_ptr + (slot * H + far) * K * Q + Q - 1)
        w = _weights(tl.load(sources_ptr + at), a, end, APART)
        x = tl.load(x_at, mask=(p < P)[None, :], other=0.0)
        k = tl.load(k_at, mask=(n < N)[None, :], other=0.0)
        xw = (tl.trans(x).to(tl.float32) * w[None, :]).to(tl.float32 if WIDE else x.dtype)
        h = _product(xw, k, h * tl.exp2(end), WIDE, PRECISION)
        total += end
        x_at += Q * x_sl
        k_at += Q * H * N
        at += Q
        decays_ptr += Q
    cell = (slot * H + far) * (P * N) + p[:, None] * N + n[None, :]
    tl.store(state_ptr + cell, h, mask=(p < P)[:, None] & (n < N)[None, :])
    if pid % blocks == 0:
        tl.store(decay_ptr + slot * H + far, total)


@triton.jit(do_not_specialize=FREE)
def _walk(
    x_ptr, k_ptr, q_ptr, pairs_ptr, decays_ptr, sources_ptr, state_ptr, decay_ptr, d_ptr, z_ptr,
    h0_ptr, y_ptr, final_ptr, L, H, K, S, x_sb, x_sl, x_sh, x_sp, z_sb, z_sl, z_sh, z_sp,
    N: tl.constexpr, P: tl.constexpr, RANKS: tl.constexpr, Q: tl.constexpr, BP: tl.constexpr,
    BN: tl.constexpr, GATE: tl.constexpr, H0: tl.constexpr, FINAL: tl.constexpr,
    SEGMENTS: tl.constexpr, APART: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """y (B, L, H, P) and the final state, of one segment of L rows."""
    pid = tl.program_id(0)
    blocks: tl.constexpr = (P + BP - 1) // BP
    head = (pid // blocks) % H
    slot = pid // (blocks * H)
    seq = slot // S
    segment = slot % S
    begin = segment * K * Q
    p = (pid % blocks) * BP + tl.arange(0, BP)
    n = tl.arange(0, BN)
    row = tl.arange(0, Q)
    far = head.to(tl.int64)
    entry = seq.to(tl.int64)
    cells = p[:, None] * N + n[None, :]
    owned = (p < P)[:, None] & (n < N)[None, :]
    h = _start(tl.zeros((BP, BN), tl.float32), state_ptr, decay_ptr, h0_ptr, cells, owned, seq,
               seq * S, segment, head, H, P * N, H0, SEGMENTS, True)  # fmt: skip
    line = entry * L + begin + row
    x_at = x_ptr + entry * x_sb + (begin + row).to(tl.int64)[:, None] * x_sl + far * x_sh
    x_at += p[None, :] * x_sp
    k_at = k_ptr + (line * H + far)[:, None] * N + n[None, :]
    q_at = q_ptr + (line * H + far)[:, None] * N + n[None, :]
    y_at = y_ptr + (line * H + far)[:, None] * P + p[None, :]
    if GATE:
        z_at = z_ptr + entry * z_sb + (begin + row).to(tl.int64)[:, None] * z_sl + far * z_sh
        z_at += p[None, :] * z_sp
    at = (slot * H + far) * K * Q
    pair = pairs_ptr + (slot * K * H + far) * (Q * Q) + row[:, None] * Q + tl.arange(0, Q)[None, :]
    skip = tl.load(d_ptr + head).to(tl.float32)
    visible = (row // RANKS)[:, None] >= (row // RANKS)[None, :]
    left = L - begin
    for _ in range(tl.cdiv(tl.minimum(left, K * Q), Q)):
        p_mask = (row < left)[:, None] & (p < P)[None, :]
        n_mask = (row < left)[:, None] & (n < N)[None, :]
        a = tl.load(decays_ptr + at + row)
        source = tl.load(sources_ptr + at + row)
        end = tl.load(decays_ptr + at + Q - 1)
        x = tl.load(x_at, mask=p_mask, other=0.0)
        k = tl.load(k_at, mask=n_mask, other=0.0)
        q = tl.load(q_at, mask=n_mask, other=0.0)
        pairs = tl.load(pair).to(tl.float32)
        held = tl.trans(h)
        if not WIDE:
            held = held.to(q.dtype)
        y = _product(q, held, None, WIDE, PRECISION) * tl.exp2(a)[:, None]
        if APART:
            weight = tl.exp2(a[:, None] - a[None, :]) * source[None, :]
        else:
            weight = tl.exp2(a[:, None] - source[None, :])
        # Above the diagonal exp2 may overflow; the selection comes last.
        pairs = tl.where(visible, pairs * weight, 0.0)
        xf = x.to(tl.float32)
        xw = tl.trans(xf) * _weights(source, a, end, APART)[None, :]
        if not WIDE:
            pairs = pairs.to(x.dtype)
            xw = xw.to(x.dtype)
        y = _product(pairs, x, y, WIDE, PRECISION) + xf * skip
        if GATE:
            z = tl.load(z_at, mask=p_mask, other=0.0).to(tl.float32)
            y = y * z / (1.0 + tl.exp2(z * -LOG2E))
            z_at += Q * z_sl
        tl.store(y_at, y.to(y_ptr.dtype.element_ty), mask=p_mask)
        h = _product(xw, k, h * tl.exp2(end), WIDE, PRECISION)
        x_at += Q * x_sl
        k_at += Q * H * N
        q_at += Q * H * N
        y_at += Q * H * P
        pair += H * (Q * Q)
        at += Q
        left -= Q
    if FINAL:
        if begin + K * Q >= L:
            tl.store(final_ptr + (entry * H + far) * (P * N) + cells, h, mask=owned)
