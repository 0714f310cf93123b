"""Last launch of the Mamba-2 scan: y and the final state, carried in registers between chunks.

Promises: any stride, length, dtype and option of `ssd_scan`; nothing per chunk goes to memory.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ssmprof_kernels.ssd.parts import (
    LOG2E,
    UNSPECIALISED,
    _await_previous,
    _breaks,
    _dot,
    _exp2,
    _largest,
    _locate,
    _log2_unit,
    _tile,
    _unit,
)
from ssmprof_kernels.ssd.state import _is_finite, _retrace, _start


@triton.jit
def _blank(y_ptr, low, high, head, block, H, P, Q: tl.constexpr, BP: tl.constexpr):
    """y is 0 for the tokens low .. high of one head and block."""
    ps = block * BP + tl.arange(0, BP)[None, :]
    for token in range(low, high, Q):
        row = token + tl.arange(0, Q)[:, None]
        y_at = y_ptr + (row.to(tl.int64) * H + head) * P + ps
        tl.store(y_at, tl.zeros((Q, BP), y_ptr.dtype.element_ty), mask=(row < high) & (ps < P))


@triton.jit(do_not_specialize=UNSPECIALISED)
def _walk(
    x_ref, b_ref, c_ref, x_ptr, b_ptr, c_ptr, d_ptr, z_ptr, h0_ptr, cu_ptr, seq_ptr, decays_ptr,
    sources_ptr, state_ptr, decay_ptr, y_ptr, final_ptr, L, H, PER_GROUP, P, N, K, S, count,
    steps, x_sb, x_sl, x_sh, x_sp, b_sb, b_sl, b_sg, b_sn, c_sb, c_sl, c_sg, c_sn, z_sb, z_sl,
    z_sh, z_sp, seq_sb, seq_sl, Q: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr,
    EVEN_P: tl.constexpr, EVEN_N: tl.constexpr, APART: tl.constexpr, SKIP: tl.constexpr,
    GATE: tl.constexpr, H0: tl.constexpr, FINAL: tl.constexpr, VARLEN: tl.constexpr,
    SEQ_IDX: tl.constexpr, SEGMENTS: tl.constexpr, TMA: tl.constexpr, HALF: tl.constexpr,
    PRECISION: tl.constexpr, INTERPRET: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """y and the final state of one segment. SKIP: 0 none, 1 D of shape (H), 2 (H, P). SEGMENTS:
    0 one per sequence, 1 the states before this segment are still apart, 2 `_combine` has run.
    HALF: the tiles are fp16; then h is kept in `unit`, y formed in `reach`, see `_unit`."""
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
    if VARLEN:
        # The slots of the last sequence also own the tokens behind it.
        if seq == count - 1:
            first_blank = start + tl.maximum(begin, length)
            _blank(y_ptr, first_blank, tl.minimum(start + begin + T, L), head, block, H, P, Q, BP)
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
    if HALF:
        unit = 1.0
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
        carried = h
        if HALF:
            # By rows first: one that is not finite has no say over the others.
            scale, per_scale = _unit(_largest(tl.max(tl.abs(h), 1)))
            carried = h * per_scale
        y = _dot(cv, tl.trans(carried.to(bv.dtype)), None, PRECISION, INTERPRET)
        visible = rows[:, None] >= rows[None, :]
        toward = a
        if HALF:
            step = source if APART else _exp2(a - source, INTERPRET)
            # C B^T, which is not known here, has room for 2**22.
            reach, _ = _unit(64.0 * _largest(step))
            toward = a - _log2_unit(reach)
        if APART:
            weight = _exp2(toward[:, None] - a[None, :], INTERPRET) * source[None, :]
            to_state = _exp2(total - a, INTERPRET) * source
        else:
            weight = _exp2(toward[:, None] - source[None, :], INTERPRET)
            to_state = _exp2(total - source, INTERPRET)
        if SEQ_IDX:
            change, real = _breaks(seq_ptr + entry * seq_sb, token + rows, seq_sl, start, inside)
            token += Q
            changes = tl.sum(change, 0)
            k = tl.cumsum(change, 0)
            visible = visible & (k[:, None] == k[None, :])
            to_state = tl.where(k == changes, to_state, 0.0)
            y = tl.where((k == 0)[:, None], y, 0.0)
        from_state = _exp2(toward, INTERPRET)
        if HALF:
            from_state = from_state * (scale * unit)
        y = y * from_state[:, None]
        # Above the diagonal exp2 may overflow; the selection comes last, so that neither that nor
        # a token that is not finite reaches the tokens before it.
        scores = tl.where(visible, scores * weight, 0.0)
        y = _dot(scores.to(xv.dtype), xv, y, PRECISION, INTERPRET)
        if HALF:
            fresh, per_fresh = _unit(_largest(to_state))
            to_state = to_state * per_fresh
        xw = tl.trans(xv).to(tl.float32) * to_state[None, :]
        decay = _exp2(total, INTERPRET)
        if HALF:
            decay = decay * (unit * per_fresh)
            unit = fresh
        h = h * decay
        if SEQ_IDX:
            last = (k == changes) & real
            finite &= _is_finite(xv.to(tl.float32))
            xw = tl.where(last[None, :], xw, 0.0)
            bv = tl.where(last[:, None], bv, 0.0)
            h = tl.where(changes == 0, h, 0.0)
        h = _dot(xw.to(bv.dtype), bv, h, PRECISION, INTERPRET)
        # One chunk ahead; at the end this reads the last chunk's once more.
        total = tl.load(decays_base + tl.where(left > Q, Q - 1, -1))

        if HALF:
            y = y * reach
        if SKIP != 0:
            y += xv.to(tl.float32) * skip
        if GATE:
            zf = zv.to(tl.float32)
            y = y * tl.fdiv(zf, 1.0 + _exp2(-zf * LOG2E, INTERPRET))
        if SEQ_IDX:
            y = tl.where(real[:, None], y, 0.0)
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
            h, x_ptr + entry * x_sb + token * x_sl + head.to(tl.int64) * x_sh + ps * x_sp, b_ptr +
            entry * b_sb + token * b_sl + group * b_sg + ns * b_sn, c_ptr + entry * c_sb + token *
            c_sl + group * c_sg + ns * c_sn, d_at, z_at, y_ptr + ((entry * L + token) * H + head)
            * P + ps, seq_at, decays_ptr + (slot * H + head).to(tl.int64) * T, sources_ptr + (slot
            * H + head).to(tl.int64) * T, ps < P, ns < N, valid, segment > 0, x_sl, b_sl, c_sl,
            z_sl, seq_sl, H * P, Q, SKIP, GATE, SEQ_IDX, APART,
        )  # fmt: skip
        if HALF:
            unit = 1.0
    if HALF:
        h = h * unit
    if FINAL:
        if begin + T >= length:
            at = (seq * H + head).to(tl.int64) * P * N
            tl.store(final_ptr + at + cells, h.to(final_ptr.dtype.element_ty), mask=owned)
