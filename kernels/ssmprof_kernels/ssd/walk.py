"""Last launch of the Mamba-2 scan: y and the final state, carried in registers between chunks.

Promises: any stride, length, dtype and option of `ssd_scan`; nothing per chunk goes to memory.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from ssmprof_kernels.device.math import LOG2E, exp2
from ssmprof_kernels.device.matrix import dot, largest, log2_unit, unit_of
from ssmprof_kernels.device.overlap import await_previous
from ssmprof_kernels.device.segments import UNSPECIALISED, tile
from ssmprof_kernels.ssd.parts import breaks, place_of
from ssmprof_kernels.ssd.state import Cursor, Strides, is_finite, retrace, start_state


@triton.jit
def blank(y_ptr, low, high, head, block, H, P, Q: tl.constexpr, BP: tl.constexpr):
    """y is 0 for the tokens low .. high of one head and block."""
    ps = block * BP + tl.arange(0, BP)[None, :]
    for token in range(low, high, Q):
        row = token + tl.arange(0, Q)[:, None]
        y_at = y_ptr + (row.to(tl.int64) * H + head) * P + ps
        tl.store(y_at, tl.zeros((Q, BP), y_ptr.dtype.element_ty), mask=(row < high) & (ps < P))


@triton.jit(do_not_specialize=UNSPECIALISED)
def ssmprof_scan_ssd_walk(
    x_ref, b_ref, c_ref, given, made, y_ptr, final_ptr, L, H, PER_GROUP, P, N, K, S, count, steps,
    x_steps, b_steps, c_steps, z_steps, seq_steps, APART: tl.constexpr, EXACT: tl.constexpr,
    TILE: tl.constexpr, CUT: tl.constexpr, OUT: tl.constexpr,
):  # fmt: skip
    """y and the final state of one segment. Where tiles are fp16 h is kept in `unit`, y formed in
    `reach`, see `unit_of`."""
    Q: tl.constexpr = TILE.Q
    BP: tl.constexpr = TILE.BP
    BN: tl.constexpr = TILE.BN
    TMA: tl.constexpr = TILE.TMA
    PRECISION: tl.constexpr = TILE.PRECISION
    HALF: tl.constexpr = TILE.HALF
    SKIP: tl.constexpr = OUT.SKIP
    GATE: tl.constexpr = OUT.GATE
    SEQ_IDX: tl.constexpr = CUT.SEQ_IDX
    T = K * Q
    await_previous(CUT.PDL)
    pid = tl.program_id(0)
    place = place_of(pid, given.cu, count, steps, L, H, P, T, S, BP, CUT.VARLEN)
    block = place.block
    head = place.head
    start = place.start
    begin = place.begin
    length = place.length
    segment = place.slot - place.first
    if CUT.VARLEN:
        # The slots of the last sequence also own the tokens behind it.
        if place.seq == count - 1:
            first_blank = start + tl.maximum(begin, length)
            blank(y_ptr, first_blank, tl.minimum(start + begin + T, L), head, block, H, P, Q, BP)
    # Slots past the end exist in ragged batches; an empty sequence still owns its first one.
    if (begin >= length) & (segment > 0):
        return
    valid = tl.minimum(length - begin, T)
    rows = tl.arange(0, Q)
    ps = block * BP + tl.arange(0, BP)
    ns = tl.arange(0, BN)
    token = (start + begin).to(tl.int64)
    entry = place.batch.to(tl.int64)
    group = head // PER_GROUP
    x_base = (
        given.x
        + entry * x_steps.b
        + token * x_steps.l
        + head.to(tl.int64) * x_steps.h
        + block * BP * x_steps.p
    )
    b_base = given.b + entry * b_steps.b + token * b_steps.l + group * b_steps.g
    c_base = given.c + entry * c_steps.b + token * c_steps.l + group * c_steps.g
    y_base = y_ptr + ((entry * L + token) * H + head) * P
    if GATE:
        z_base = given.z + entry * z_steps.b + token * z_steps.l + head.to(tl.int64) * z_steps.h
    if SKIP == 1:
        skip = tl.load(given.d + head).to(tl.float32)
    if SKIP == 2:
        skip = tl.load(given.d + head * P + ps, mask=ps < P, other=0.0).to(tl.float32)[None, :]
    masked: tl.constexpr = not (TILE.EVEN_P and TILE.EVEN_N)
    cells = ps[:, None] * N + ns[None, :]
    owned = (ps[:, None] < P) & (ns[None, :] < N)
    h = start_state(
        tl.zeros((BP, BN), tl.float32), made.ends, made.totals, given.h0, cells, owned, place.seq,
        place.first, segment, head, H, P * N, OUT.H0, OUT.SEGMENTS, masked,
    )  # fmt: skip
    finite = True
    if HALF:
        unit = 1.0
    decays_base = made.decays + (place.slot * H + head).to(tl.int64) * T
    sources_base = made.sources + (place.slot * H + head).to(tl.int64) * T
    if EXACT:
        logs_base = made.logs + (place.slot * H + head).to(tl.int64) * T
    left = valid
    row = (place.batch * L + start + begin).to(tl.int32)
    total = tl.load(decays_base + Q - 1)
    for _ in range(tl.cdiv(valid, Q)):
        inside = rows < left
        a = tl.load(decays_base + rows)
        source = tl.load(sources_base + rows)
        decays_base += Q
        sources_base += Q
        if EXACT:
            log_decay = tl.load(logs_base + rows)
            logs_base += Q
        p_mask = inside[:, None]
        n_mask = inside[:, None]
        if not TILE.EVEN_P:
            p_mask = p_mask & (ps[None, :] < P)
        if not TILE.EVEN_N:
            n_mask = n_mask & (ns[None, :] < N)
        xv = tile(
            x_ref,
            x_base,
            row,
            head * P + block * BP,
            x_steps.l,
            x_steps.p,
            p_mask,
            Q,
            BP,
            TMA,
            True,
        )
        bv = tile(b_ref, b_base, row, group * N, b_steps.l, b_steps.n, n_mask, Q, BN, TMA, True)
        cv = tile(c_ref, c_base, row, group * N, c_steps.l, c_steps.n, n_mask, Q, BN, TMA, True)
        row += Q
        x_base += Q * x_steps.l
        b_base += Q * b_steps.l
        c_base += Q * c_steps.l
        if GATE:
            z_at = z_base + rows[:, None] * z_steps.l + ps[None, :] * z_steps.p
            zv = tl.load(z_at, mask=p_mask, other=0.0)
            z_base += Q * z_steps.l

        scores = dot(cv, tl.trans(bv), None, PRECISION)
        carried = h
        if HALF:
            # By rows first: one that is not finite has no say over the others.
            scale, per_scale = unit_of(largest(tl.max(tl.abs(h), 1)))
            carried = h * per_scale
        y = dot(cv, tl.trans(carried.to(bv.dtype)), None, PRECISION)
        visible = rows[:, None] >= rows[None, :]
        toward = a
        if HALF:
            step = source if APART else exp2(a - source)
            # C B^T, which is not known here, has room for 2**22.
            reach, _ = unit_of(64.0 * largest(step))
            toward = a - log2_unit(reach)
        if EXACT:
            # Behind the token of a column up to that of a row.
            between = tl.where(rows[:, None] > rows[None, :], log_decay[:, None], 0.0)
            weight = exp2(tl.cumsum(between, 0)) * source[None, :]
            to_state = exp2(tl.sum(between, 0)) * source
        elif APART:
            weight = exp2(toward[:, None] - a[None, :]) * source[None, :]
            to_state = exp2(total - a) * source
        else:
            weight = exp2(toward[:, None] - source[None, :])
            to_state = exp2(total - source)
        if SEQ_IDX:
            change, real = breaks(
                given.seq + entry * seq_steps.b, token + rows, seq_steps.l, start, inside
            )
            token += Q
            changes = tl.sum(change, 0)
            k = tl.cumsum(change, 0)
            visible = visible & (k[:, None] == k[None, :])
            to_state = tl.where(k == changes, to_state, 0.0)
            y = tl.where((k == 0)[:, None], y, 0.0)
        from_state = exp2(toward)
        if HALF:
            from_state = from_state * (scale * unit)
        y = y * from_state[:, None]
        # Above the diagonal exp2 may overflow; the selection comes last, so that neither that nor
        # a token that is not finite reaches the tokens before it.
        scores = tl.where(visible, scores * weight, 0.0)
        y = dot(scores.to(xv.dtype), xv, y, PRECISION)
        if HALF:
            fresh, per_fresh = unit_of(largest(to_state))
            to_state = to_state * per_fresh
        xw = tl.trans(xv).to(tl.float32) * to_state[None, :]
        decay = exp2(total)
        if HALF:
            decay = decay * (unit * per_fresh)
            unit = fresh
        h = h * decay
        if SEQ_IDX:
            last = (k == changes) & real
            finite &= is_finite(xv.to(tl.float32))
            xw = tl.where(last[None, :], xw, 0.0)
            bv = tl.where(last[:, None], bv, 0.0)
            h = tl.where(changes == 0, h, 0.0)
        h = dot(xw.to(bv.dtype), bv, h, PRECISION)
        # One chunk ahead; at the end this reads the last chunk's once more.
        total = tl.load(decays_base + tl.where(left > Q, Q - 1, -1))

        if HALF:
            y = y * reach
        if SKIP != 0:
            y += xv.to(tl.float32) * skip
        if GATE:
            zf = zv.to(tl.float32)
            y = y * tl.fdiv(zf, 1.0 + exp2(-zf * LOG2E))
        if SEQ_IDX:
            y = tl.where(real[:, None], y, 0.0)
        y_at = y_base + rows[:, None] * (H * P) + ps[None, :]
        tl.store(y_at, y.to(y_ptr.dtype.element_ty), mask=p_mask)
        y_base += Q * H * P
        left -= Q
    finite = is_finite(h) & finite
    if finite == 0:
        token = (start + begin).to(tl.int64)
        d_at = given.d
        z_at = given.z
        seq_at = given.seq
        if SKIP == 1:
            d_at += head
        if SKIP == 2:
            d_at += head * P + ps
        if GATE:
            z_at += (
                entry * z_steps.b
                + token * z_steps.l
                + head.to(tl.int64) * z_steps.h
                + ps * z_steps.p
            )
        if SEQ_IDX:
            seq_at += entry * seq_steps.b + token * seq_steps.l
        h = start_state(
            tl.zeros((BP, BN), tl.float32), made.ends, made.totals, given.h0, cells, owned,
            place.seq, place.first, segment, head, H, P * N, OUT.H0, OUT.SEGMENTS, masked,
        )  # fmt: skip
        cursor = Cursor(
            given.x + entry * x_steps.b + token * x_steps.l + head.to(tl.int64) * x_steps.h
            + ps * x_steps.p,
            given.b + entry * b_steps.b + token * b_steps.l + group * b_steps.g + ns * b_steps.n,
            given.c + entry * c_steps.b + token * c_steps.l + group * c_steps.g + ns * c_steps.n,
            d_at, z_at, y_ptr + ((entry * L + token) * H + head) * P + ps, seq_at,
            made.decays + (place.slot * H + head).to(tl.int64) * T,
            made.sources + (place.slot * H + head).to(tl.int64) * T,
        )  # fmt: skip
        by = Strides(x_steps.l, b_steps.l, c_steps.l, z_steps.l, seq_steps.l, H * P)
        h = retrace(
            h, cursor, by, ps < P, ns < N, valid, segment > 0, Q, SKIP, GATE, SEQ_IDX, APART
        )
        if HALF:
            unit = 1.0
    if HALF:
        h = h * unit
    if OUT.FINAL:
        if begin + T >= length:
            at = (place.seq * H + head).to(tl.int64) * P * N
            tl.store(final_ptr + at + cells, h.to(final_ptr.dtype.element_ty), mask=owned)
