"""The chunk walk of the Mamba-2 scan for Hopper, its asynchronous units driven by hand.

Promises: the results of `walk` behind `prepare`, for 16-bit tiles that
tensor-memory descriptors can fetch; that kernel is its twin everywhere else. While the matrix units
multiply one product the warps prepare the next, and the next chunk's tiles are on their way.

What limits it (H100, P 64, N 128): one chunk of one head is about 720 instructions per warp and 640
cycles of matrix work, but also 48 KiB from L2 (x 8, B 16, C 16, C B^T 8). 16,384 tokens of 128
heads bring 1.6 GB, 3.9 TB/s over the 0.415 ms that all launches take together. Forming C B^T in
place instead, 40 KiB and 900 cycles, took as long. Two heads in one program would share B and C.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportAssignmentType=false, reportOperatorIssue=false

from __future__ import annotations

from typing import Any, NamedTuple

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    async_copy,
    fence_async_shared,
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from ssmprof_kernels.device.math import LOG2E, exp2, reciprocal
from ssmprof_kernels.device.matrix import largest, log2_unit, unit_of
from ssmprof_kernels.device.overlap import await_previous
from ssmprof_kernels.device.segments import UNSPECIALISED
from ssmprof_kernels.ssd.hopper_parts import blank, fetch, fetch_prepared, finish, keep, state_of
from ssmprof_kernels.ssd.parts import place_of
from ssmprof_kernels.ssd.state import Sizes, Steps


class Buffers(NamedTuple):
    """Shared memory: two places for each tile and each line of exponents, one for the pairs, for
    those weighted, for y; a barrier for each place of a tile."""

    x: Any
    b: Any
    c: Any
    pairs: Any
    mixed: Any
    y: Any
    decays: Any
    sources: Any
    x_full: Any
    b_full: Any
    c_full: Any


class Inputs(NamedTuple):
    """Descriptors of x, B and C, the columns of a program's x and of its B and C."""

    x: Any
    b: Any
    c: Any
    x_column: Any
    column: Any


@gluon.jit
def _buffers(x_desc, b_desc, c_desc, Q: gl.constexpr, BP: gl.constexpr, BN: gl.constexpr):
    dtype: gl.constexpr = x_desc.dtype
    xs = gl.allocate_shared_memory(dtype, [2, Q, BP], x_desc.layout)
    bs = gl.allocate_shared_memory(dtype, [2, Q, BN], b_desc.layout)
    cs = gl.allocate_shared_memory(dtype, [2, Q, BN], c_desc.layout)
    square: gl.constexpr = gl.NVMMASharedLayout.get_default_for([Q, Q], dtype)
    ps = gl.allocate_shared_memory(dtype, [Q, Q], square)
    ms = gl.allocate_shared_memory(dtype, [Q, Q], square)
    ys = gl.allocate_shared_memory(dtype, [Q, BP], x_desc.layout)
    plain: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    ds = gl.allocate_shared_memory(gl.float32, [2, Q], plain)
    ss = gl.allocate_shared_memory(gl.float32, [2, Q], plain)
    x_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    b_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    c_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(2):
        mbarrier.init(x_full.index(i), count=1)
        mbarrier.init(b_full.index(i), count=1)
        mbarrier.init(c_full.index(i), count=1)
    fence_async_shared()
    gl.thread_barrier()
    return Buffers(xs, bs, cs, ps, ms, ys, ds, ss, x_full, b_full, c_full)


@gluon.jit
def _fetch(given, buffers, row, place, pred):
    """Start the copies of the tiles from `row` on into one of two places, if `pred`."""
    fetch(
        given.x, given.b, given.c, row, given.x_column, given.column, buffers.x.index(place),
        buffers.b.index(place), buffers.c.index(place), buffers.x_full.index(place),
        buffers.b_full.index(place), buffers.c_full.index(place), pred,
    )  # fmt: skip


@gluon.jit
def _skip(d_ptr, head, x_column, BP: gl.constexpr, SKIP: gl.constexpr, SQUARE: gl.constexpr):
    """What x is added to y with; only where there is a skip."""
    if SKIP == 1:
        skip = gl.load(d_ptr + head).to(gl.float32)
    else:
        at_p = gl.arange(0, BP, layout=gl.SliceLayout(1, SQUARE))
        skip = gl.load(d_ptr + x_column + at_p).to(gl.float32)[:, None]
    return skip


@gluon.jit
def _reach(decays, sources, total, CHUNK: gl.constexpr):
    """Units of a chunk's y and of what it adds to the state, each with 1 over it."""
    near = sources.load(CHUNK)
    reach, per_reach = unit_of(64.0 * largest(exp2(decays.load(CHUNK) - near)))
    fresh, per_fresh = unit_of(largest(exp2(total - near)))
    return reach, per_reach, fresh, per_fresh


@gluon.jit
def _gated(out, z):
    zf = z.to(gl.float32)
    silu = zf * reciprocal(1.0 + exp2(-zf * LOG2E))
    return (out.to(gl.float32) * silu).to(out.dtype)


@gluon.jit(do_not_specialize=UNSPECIALISED)
def ssmprof_scan_ssd_walk_hopper(
    x_desc, b_desc, c_desc, given, made, pairs_ptr, y_ptr, final_ptr, L, H, PER_GROUP, P, N, K, S,
    count, steps, x_steps, b_steps, c_steps, z_steps, Q: gl.constexpr, BP: gl.constexpr,
    BN: gl.constexpr, CUT: gl.constexpr, OUT: gl.constexpr, num_warps: gl.constexpr,
):  # fmt: skip
    """Arguments as in `walk`, and the products C B^T of `prepare`; Q = BP = 64, four warps.

    Everything is transposed, P along the rows: then the state is a left operand straight from the
    registers that accumulate it, and only what does not depend on it passes through shared memory.
    """
    GATE: gl.constexpr = OUT.GATE
    SQUARE: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, Q, 16])
    STATE: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, BN, 16])
    OUT_LEFT: gl.constexpr = gl.DotOperandLayout(0, SQUARE, 2)
    STATE_LEFT: gl.constexpr = gl.DotOperandLayout(0, STATE, 2)
    dtype: gl.constexpr = x_desc.dtype
    HALF: gl.constexpr = dtype == gl.float16
    # Every warp holds the whole chunk, so that the largest of it needs no barrier.
    CHUNK: gl.constexpr = gl.BlockedLayout([Q // 32], [32], [num_warps], [0])
    T = K * Q
    place = place_of(gl.program_id(0), given.cu, count, steps, L, H, P, T, S, BP, CUT.VARLEN)
    block = place.block
    head = place.head
    slot = place.slot
    start = place.start
    begin = place.begin
    if CUT.VARLEN:
        # The slots of the last sequence also own the tokens behind it.
        if place.seq == count - 1:
            first_blank = start + gl.maximum(begin, place.length)
            blank(y_ptr, first_blank, gl.minimum(start + begin + T, L), head, block, H, P, Q, BP)
    # Slots past the end exist in ragged batches; an empty sequence still owns its first one.
    if (begin >= place.length) & (slot > place.first):
        return
    batch = place.batch
    valid = gl.minimum(place.length - begin, T)
    row = (batch * L + start + begin).to(gl.int32)
    column = (head // PER_GROUP) * N
    x_column = head * P + block * BP

    buffers = _buffers(x_desc, b_desc, c_desc, Q, BP, BN)
    inputs = Inputs(x_desc, b_desc, c_desc, x_column, column)
    ds = buffers.decays
    ss = buffers.sources
    ps = buffers.pairs

    decays = made.decays + (slot * H + head).to(gl.int64) * T
    sources = made.sources + (slot * H + head).to(gl.int64) * T
    groups = H // PER_GROUP
    pairs = pairs_ptr + ((slot * K).to(gl.int64) * groups + head // PER_GROUP) * (Q * Q)
    _fetch(inputs, buffers, row, 0, valid > 0)
    # Up to here only what the caller gave has been read.
    await_previous(CUT.PDL)
    fetch_prepared(decays, sources, pairs, ds.index(0), ss.index(0), ps, Q)
    total = gl.load(decays + Q - 1)

    sizes = Sizes(L, H, PER_GROUP, P, N, T)
    h, nothing, owned = state_of(given, made, place, sizes, STATE, BP, BN, OUT)

    unit = 1.0
    if OUT.SKIP != 0:
        skip = _skip(given.d, head, x_column, BP, OUT.SKIP, SQUARE)
    entry = batch.to(gl.int64)
    token = (start + begin).to(gl.int64)
    wide: gl.constexpr = gl.BlockedLayout([1, 8], [256 // BP, BP // 8], [num_warps, 1], [1, 0])
    sr = gl.arange(0, Q, layout=gl.SliceLayout(1, wide))
    sc = gl.arange(0, BP, layout=gl.SliceLayout(0, wide))
    y_base = y_ptr + ((entry * L + token) * H + head) * P + block * BP
    if GATE:
        z_base = given.z + entry * z_steps.b + token * z_steps.l + head.to(gl.int64) * z_steps.h
        z_base += block * BP * z_steps.p
    rows = gl.arange(0, Q, layout=gl.SliceLayout(1, SQUARE))[:, None]
    columns = gl.arange(0, Q, layout=gl.SliceLayout(0, SQUARE))[None, :]
    visible = gl.where(rows >= columns, -1, 0).to(gl.int16)
    nothing_yet = gl.zeros([BP, Q], gl.float32, layout=SQUARE)
    async_copy.wait_group(0)
    gl.thread_barrier()
    for c in range(gl.cdiv(valid, Q)):
        left = valid - c * Q
        here = c % 2
        there = 1 - here
        phase = (c // 2) % 2
        d_here = ds.index(here)
        carried = h
        if HALF:
            rowed, per_rowed = unit_of(gl.max(gl.abs(h), 1))
            carried = h * per_rowed[:, None]
        # Nothing is in flight while an accumulator is scaled: the assembler would otherwise make
        # every product of the loop wait for the one before it.
        mbarrier.wait(buffers.c_full.index(here), phase)
        yt_next = warpgroup_mma(
            gl.convert_layout(carried.to(dtype), OUT_LEFT), buffers.c.index(here).permute((1, 0)),
            nothing_yet, use_acc=False, is_async=True,
        )  # fmt: skip
        a = d_here.load(gl.SliceLayout(1, SQUARE))
        source = ss.index(here).load(gl.SliceLayout(0, SQUARE))
        to_end = total
        if HALF:
            reach, per_reach, fresh, per_fresh = _reach(d_here, ss.index(here), total, CHUNK)
            a -= log2_unit(reach)
            to_end -= log2_unit(fresh)
        mixed = ps.load(SQUARE).to(gl.float32) * exp2(a[:, None] - source[None, :])
        # Above the diagonal exp2 may overflow; the selection comes last.
        buffers.mixed.store(keep(mixed.to(dtype), visible))
        fence_async_shared()
        # Behind this barrier every warp has left the previous chunk and the pairs of this one.
        gl.thread_barrier()
        more = left > Q
        ahead = gl.where(more, Q, 0)
        row += Q
        decays += ahead
        sources += ahead
        pairs += ahead * groups * Q
        _fetch(inputs, buffers, row, there, more)
        fetch_prepared(decays, sources, pairs, ds.index(there), ss.index(there), ps, Q)
        total_next = gl.load(decays + Q - 1)
        if GATE:
            z_at = z_base + sr[:, None] * z_steps.l + sc[None, :] * z_steps.p
            z = gl.load(z_at, mask=(sr < left)[:, None], other=0.0)
            z_base += Q * z_steps.l
        mbarrier.wait(buffers.x_full.index(here), phase)
        xt = buffers.x.index(here).permute((1, 0)).load(STATE_LEFT)
        late = gl.convert_layout(source, gl.SliceLayout(0, STATE_LEFT))
        xw = (xt.to(gl.float32) * exp2(to_end - late)[None, :]).to(dtype)
        mbarrier.wait(buffers.b_full.index(here), phase)
        yt = warpgroup_mma_wait(0, deps=(yt_next,))
        yt = yt * exp2(d_here.load(gl.SliceLayout(0, SQUARE)))[None, :]
        decay = exp2(total)
        if HALF:
            grown = rowed * (unit * per_reach)
            yt = yt * gl.convert_layout(grown, gl.SliceLayout(1, SQUARE))[:, None]
            decay = decay * (unit * per_fresh)
            unit = fresh
        h = h * decay
        yt_next = warpgroup_mma(
            gl.convert_layout(xt, OUT_LEFT), buffers.mixed.permute((1, 0)), yt, is_async=True
        )
        h_next = warpgroup_mma(xw, buffers.b.index(here), h, is_async=True)
        if OUT.SKIP != 0:
            skipped = gl.convert_layout(xt, SQUARE).to(gl.float32) * skip
        yt = warpgroup_mma_wait(1, deps=(yt_next,))
        if HALF:
            yt = yt * reach
        if OUT.SKIP != 0:
            yt += skipped
        buffers.y.permute((1, 0)).store(yt.to(dtype))
        async_copy.wait_group(0)
        gl.thread_barrier()
        out = buffers.y.load(wide)
        if GATE:
            out = _gated(out, z)
        gl.store(y_base + sr[:, None] * (H * P) + sc[None, :], out, mask=(sr < left)[:, None])
        y_base += Q * H * P
        total = total_next
        h = warpgroup_mma_wait(0, deps=(h_next,))
    by = Steps(x_steps, b_steps, c_steps, z_steps, None)
    finish(
        h, unit, nothing, owned, given, made, y_ptr, final_ptr, count, steps, by, sizes, S, STATE,
        HALF, Q, BP, BN, CUT, OUT,
    )  # fmt: skip
