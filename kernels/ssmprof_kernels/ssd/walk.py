"""Last launch of the Mamba-2 scan: y and the final state, carried in registers between chunks.

Promises: any stride, length, dtype and option of `ssd_scan`; nothing per chunk goes to memory.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from ssmprof_kernels.device.math import LOG2E, exp2
from ssmprof_kernels.device.matrix import dot, largest, log2_unit, unit_of
from ssmprof_kernels.device.overlap import await_previous
from ssmprof_kernels.device.segments import UNSPECIALISED, tile
from ssmprof_kernels.ssd.parts import breaks, place_of
from ssmprof_kernels.ssd.state import Cells, Sizes, Steps, is_finite, state_before, walk_again


@triton.jit
def blank(y_ptr, low, high, head, block, H, P, Q: tl.constexpr, BP: tl.constexpr):
    """y is 0 for the tokens low .. high of one head and block."""
    ps = block * BP + tl.arange(0, BP)[None, :]
    for token in range(low, high, Q):
        row = token + tl.arange(0, Q)[:, None]
        y_at = y_ptr + (row.to(tl.int64) * H + head) * P + ps
        tl.store(y_at, tl.zeros((Q, BP), y_ptr.dtype.element_ty), mask=(row < high) & (ps < P))


class Bases(NamedTuple):
    """Addresses of a segment's first token. Where there is no gate, y stands in its place."""

    x: Any
    b: Any
    c: Any
    y: Any
    z: Any


@triton.jit
def _bases(given, y_ptr, place, steps, sizes, BP: tl.constexpr, GATE: tl.constexpr):
    head = place.head
    entry = place.batch.to(tl.int64)
    token = (place.start + place.begin).to(tl.int64)
    group = head // sizes.PER_GROUP
    x = given.x + entry * steps.x.b + token * steps.x.l + head.to(tl.int64) * steps.x.h
    x += place.block * BP * steps.x.p
    b = given.b + entry * steps.b.b + token * steps.b.l + group * steps.b.g
    c = given.c + entry * steps.c.b + token * steps.c.l + group * steps.c.g
    y = y_ptr + ((entry * sizes.L + token) * sizes.H + head) * sizes.P
    z = y
    if GATE:
        z = given.z + entry * steps.z.b + token * steps.z.l + head.to(tl.int64) * steps.z.h
    return Bases(x, b, c, y, z)


@triton.jit
def _skip(d_ptr, head, ps, P, SKIP: tl.constexpr):
    """What x is added to y with; only where there is a skip."""
    if SKIP == 1:
        skip = tl.load(d_ptr + head).to(tl.float32)
    else:
        skip = tl.load(d_ptr + head * P + ps, mask=ps < P, other=0.0).to(tl.float32)[None, :]
    return skip


@triton.jit
def _masks(inside, ps, ns, P, N, TILE: tl.constexpr):
    """Of a chunk's tiles of x and of B or C."""
    p_mask = inside[:, None]
    n_mask = inside[:, None]
    if not TILE.EVEN_P:
        p_mask = p_mask & (ps[None, :] < P)
    if not TILE.EVEN_N:
        n_mask = n_mask & (ns[None, :] < N)
    return p_mask, n_mask


@triton.jit
def _within_reach(a, source, APART: tl.constexpr):
    """The `reach` of a chunk's y in fp16, and the exponents `a` in it."""
    step = source if APART else exp2(a - source)
    # C B^T, which is not known here, has room for 2**22.
    reach, _ = unit_of(64.0 * largest(step))
    return reach, a - log2_unit(reach)


@triton.jit
def _weights(
    a, toward, source, log_decay, total, rows, APART: tl.constexpr, EXACT: tl.constexpr
):  # fmt: skip
    """What a token (column) counts for at another one (row), and at the end of the chunk."""
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
    return weight, to_state


@triton.jit
def _by_document(y, visible, to_state, change):
    """Without what lies across a break, given where documents begin; and which document of the
    chunk a token is of, of how many."""
    changes = tl.sum(change, 0)
    k = tl.cumsum(change, 0)
    visible = visible & (k[:, None] == k[None, :])
    to_state = tl.where(k == changes, to_state, 0.0)
    y = tl.where((k == 0)[:, None], y, 0.0)
    return y, visible, to_state, k, changes


@triton.jit
def _of_last(h, xw, bv, last, changes):
    """The state and what a chunk adds to it, of its last document alone."""
    xw = tl.where(last[None, :], xw, 0.0)
    bv = tl.where(last[:, None], bv, 0.0)
    return tl.where(changes == 0, h, 0.0), xw, bv


@triton.jit
def _finished(y, xv, zv, skip, real, OUT: tl.constexpr, SEQ_IDX: tl.constexpr):
    """y with skip and gate, 0 at padding."""
    if OUT.SKIP != 0:
        y += xv.to(tl.float32) * skip
    if OUT.GATE:
        zf = zv.to(tl.float32)
        y = y * tl.fdiv(zf, 1.0 + exp2(-zf * LOG2E))
    if SEQ_IDX:
        y = tl.where(real[:, None], y, 0.0)
    return y


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
    steps = Steps(x_steps, b_steps, c_steps, z_steps, seq_steps)
    sizes = Sizes(L, H, PER_GROUP, P, N, T)
    bases = _bases(given, y_ptr, place, steps, sizes, BP, GATE)
    x_base = bases.x
    b_base = bases.b
    c_base = bases.c
    y_base = bases.y
    z_base = bases.z
    skip = 0.0
    if SKIP != 0:
        skip = _skip(given.d, head, ps, P, SKIP)
    masked: tl.constexpr = not (TILE.EVEN_P and TILE.EVEN_N)
    cell_at = ps[:, None] * N + ns[None, :]
    owned = (ps[:, None] < P) & (ns[None, :] < N)
    cells = Cells(ps, ps, ns, cell_at, owned)
    nothing = tl.zeros((BP, BN), tl.float32)
    h = state_before(nothing, given, made, place, cells, sizes, OUT, masked)
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
        log_decay = a
        if EXACT:
            log_decay = tl.load(logs_base + rows)
            logs_base += Q
        p_mask, n_mask = _masks(inside, ps, ns, P, N, TILE)
        xv = tile(x_ref, x_base, row, head * P + block * BP, x_steps.l, x_steps.p, p_mask, Q, BP,
                  TMA, True)  # fmt: skip
        bv = tile(b_ref, b_base, row, group * N, b_steps.l, b_steps.n, n_mask, Q, BN, TMA, True)
        cv = tile(c_ref, c_base, row, group * N, c_steps.l, c_steps.n, n_mask, Q, BN, TMA, True)
        row += Q
        x_base += Q * x_steps.l
        b_base += Q * b_steps.l
        c_base += Q * c_steps.l
        zv = xv
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
            reach, toward = _within_reach(a, source, APART)
        weight, to_state = _weights(a, toward, source, log_decay, total, rows, APART, EXACT)
        real = inside
        if SEQ_IDX:
            change, real = breaks(
                given.seq + entry * seq_steps.b, token + rows, seq_steps.l, start, inside
            )
            token += Q
            y, visible, to_state, k, changes = _by_document(y, visible, to_state, change)
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
            h, xw, bv = _of_last(h, xw, bv, last, changes)
        h = dot(xw.to(bv.dtype), bv, h, PRECISION)
        # One chunk ahead; at the end this reads the last chunk's once more.
        total = tl.load(decays_base + tl.where(left > Q, Q - 1, -1))

        if HALF:
            y = y * reach
        y = _finished(y, xv, zv, skip, real, OUT, SEQ_IDX)
        y_at = y_base + rows[:, None] * (H * P) + ps[None, :]
        tl.store(y_at, y.to(y_ptr.dtype.element_ty), mask=p_mask)
        y_base += Q * H * P
        left -= Q
    finite = is_finite(h) & finite
    if finite == 0:
        h = walk_again(
            nothing, given, made, y_ptr, place, cells, steps, sizes, Q, OUT, SEQ_IDX, APART, masked
        )
        if HALF:
            unit = 1.0
    if HALF:
        h = h * unit
    if OUT.FINAL:
        if begin + T >= length:
            at = (place.seq * H + head).to(tl.int64) * P * N
            tl.store(final_ptr + at + cells.at, h.to(final_ptr.dtype.element_ty), mask=owned)
