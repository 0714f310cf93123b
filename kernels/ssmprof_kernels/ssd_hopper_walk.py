"""The chunk walk of the Mamba-2 scan for Hopper, its asynchronous units driven by hand.

Promises: the results of `ssd_walk._walk` behind `ssd_prepare._prepare`, for 16-bit tiles that
tensor-memory descriptors can fetch; that kernel is its twin everywhere else. While the matrix units
multiply one product the warps prepare the next, and the next chunk's tiles are on their way.

What limits it (H100, P 64, N 128): one chunk of one head is about 720 instructions per warp and 640
cycles of matrix work, but also 48 KiB from L2 (x 8, B 16, C 16, C B^T 8). 16,384 tokens of 128
heads bring 1.6 GB, 3.9 TB/s over the 0.415 ms that all launches take together. Forming C B^T in
place instead, 40 KiB and 900 cycles, took as long. Two heads in one program would share B and C.
"""

# The language of kernels is read by Triton, not by Python.
# pyright: reportArgumentType=false, reportAssignmentType=false

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    async_copy,
    fence_async_shared,
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from ssmprof_kernels import ssd_parts, ssd_state
from ssmprof_kernels.ssd_hopper_parts import (
    _await_previous,
    _blank,
    _exp2,
    _fetch,
    _fetch_prepared,
    _keep,
    _largest,
    _locate,
    _log2_unit,
    _reciprocal,
    _unit,
)

_start = gluon.jit(ssd_state._start.fn)
_is_finite = gluon.jit(ssd_state._is_finite.fn)
_retrace = gluon.jit(ssd_state._retrace.fn)

LOG2E = gl.constexpr(1.4426950408889634)


@gluon.jit(do_not_specialize=ssd_parts.UNSPECIALISED)
def _walk(
    x_desc, b_desc, c_desc, x_ptr, b_ptr, c_ptr, d_ptr, z_ptr, h0_ptr, cu_ptr, decays_ptr,
    sources_ptr, pairs_ptr, state_ptr, decay_ptr, y_ptr, final_ptr, L, H, PER_GROUP, P, N, K, S,
    count, steps, x_sb, x_sl, x_sh, x_sp, b_sb, b_sl, b_sg, b_sn, c_sb, c_sl, c_sg, c_sn, z_sb,
    z_sl, z_sh, z_sp, Q: gl.constexpr, BP: gl.constexpr, BN: gl.constexpr, SKIP: gl.constexpr,
    GATE: gl.constexpr, H0: gl.constexpr, FINAL: gl.constexpr, VARLEN: gl.constexpr,
    SEGMENTS: gl.constexpr, PDL: gl.constexpr, num_warps: gl.constexpr,
):  # fmt: skip
    """Arguments as in `ssd_walk._walk`, and the products C B^T of `ssd_prepare._prepare`;
    Q = BP = 64, four warps.

    Everything is transposed, P along the rows: then the state is a left operand straight from the
    registers that accumulate it, and only what does not depend on it passes through shared memory.
    """
    SQUARE: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, Q, 16])
    STATE: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, BN, 16])
    OUT_LEFT: gl.constexpr = gl.DotOperandLayout(0, SQUARE, 2)
    STATE_LEFT: gl.constexpr = gl.DotOperandLayout(0, STATE, 2)
    dtype: gl.constexpr = x_desc.dtype
    HALF: gl.constexpr = dtype == gl.float16
    # Every warp holds the whole chunk, so that the largest of it needs no barrier.
    CHUNK: gl.constexpr = gl.BlockedLayout([Q // 32], [32], [num_warps], [0])
    T = K * Q
    pid = gl.program_id(0)
    blocks = gl.cdiv(P, BP)
    block = pid % blocks
    head = (pid // blocks) % H
    slot = pid // (blocks * H)
    seq, start, length, first = _locate(slot, cu_ptr, count, steps, L, T, S, VARLEN)
    segment = slot - first
    begin = segment * T
    if VARLEN:
        # The slots of the last sequence also own the tokens behind it.
        if seq == count - 1:
            first_blank = start + gl.maximum(begin, length)
            _blank(y_ptr, first_blank, gl.minimum(start + begin + T, L), head, block, H, P, Q, BP)
    # Slots past the end exist in ragged batches; an empty sequence still owns its first one.
    if (begin >= length) & (segment > 0):
        return
    batch = seq * 0 if VARLEN else seq
    valid = gl.minimum(length - begin, T)
    row = (batch * L + start + begin).to(gl.int32)
    column = (head // PER_GROUP) * N
    x_column = head * P + block * BP

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

    decays = decays_ptr + (slot * H + head).to(gl.int64) * T
    sources = sources_ptr + (slot * H + head).to(gl.int64) * T
    groups = H // PER_GROUP
    pairs = pairs_ptr + ((slot * K).to(gl.int64) * groups + head // PER_GROUP) * (Q * Q)
    _fetch(x_desc, b_desc, c_desc, row, x_column, column, xs.index(0), bs.index(0), cs.index(0),
           x_full.index(0), b_full.index(0), c_full.index(0), valid > 0)  # fmt: skip
    # Up to here only what the caller gave has been read.
    _await_previous(PDL)
    _fetch_prepared(decays, sources, pairs, ds.index(0), ss.index(0), ps, Q)
    total = gl.load(decays + Q - 1)

    hp = block * BP + gl.arange(0, BP, layout=gl.SliceLayout(1, STATE))
    hn = gl.arange(0, BN, layout=gl.SliceLayout(0, STATE))
    cells = hp[:, None] * N + hn[None, :]
    owned = (hp < P)[:, None] & (hn < N)[None, :]
    nothing = gl.zeros([BP, BN], gl.float32, layout=STATE)
    h = _start(nothing, state_ptr, decay_ptr, h0_ptr, cells, owned, seq, first, segment, head, H,
               P * N, H0, SEGMENTS, False)  # fmt: skip

    if HALF:
        unit = 1.0
    if SKIP == 1:
        skip = gl.load(d_ptr + head).to(gl.float32)
    if SKIP == 2:
        at_p = gl.arange(0, BP, layout=gl.SliceLayout(1, SQUARE))
        skip = gl.load(d_ptr + x_column + at_p).to(gl.float32)[:, None]
    entry = batch.to(gl.int64)
    token = (start + begin).to(gl.int64)
    wide: gl.constexpr = gl.BlockedLayout(
        [1, 8], [32 // (BP // 8), BP // 8], [num_warps, 1], [1, 0]
    )
    sr = gl.arange(0, Q, layout=gl.SliceLayout(1, wide))
    sc = gl.arange(0, BP, layout=gl.SliceLayout(0, wide))
    y_base = y_ptr + ((entry * L + token) * H + head) * P + block * BP
    if GATE:
        z_base = z_ptr + entry * z_sb + token * z_sl + head.to(gl.int64) * z_sh
        z_base += block * BP * z_sp
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
            rowed, per_rowed = _unit(gl.max(gl.abs(h), 1))
            carried = h * per_rowed[:, None]
        # Nothing is in flight while an accumulator is scaled: the assembler would otherwise make
        # every product of the loop wait for the one before it.
        mbarrier.wait(c_full.index(here), phase)
        yt_next = warpgroup_mma(
            gl.convert_layout(carried.to(dtype), OUT_LEFT),
            cs.index(here).permute((1, 0)),
            nothing_yet,
            use_acc=False,
            is_async=True,
        )
        a = d_here.load(gl.SliceLayout(1, SQUARE))
        source = ss.index(here).load(gl.SliceLayout(0, SQUARE))
        to_end = total
        if HALF:
            near = ss.index(here).load(CHUNK)
            reach, per_reach = _unit(64.0 * _largest(_exp2(d_here.load(CHUNK) - near)))
            fresh, per_fresh = _unit(_largest(_exp2(total - near)))
            a -= _log2_unit(reach)
            to_end -= _log2_unit(fresh)
        mixed = ps.load(SQUARE).to(gl.float32) * _exp2(a[:, None] - source[None, :])
        # Above the diagonal exp2 may overflow; the selection comes last.
        ms.store(_keep(mixed.to(dtype), visible))
        fence_async_shared()
        # Behind this barrier every warp has left the previous chunk and the pairs of this one.
        gl.thread_barrier()
        more = left > Q
        ahead = gl.where(more, Q, 0)
        row += Q
        decays += ahead
        sources += ahead
        pairs += ahead * groups * Q
        _fetch(x_desc, b_desc, c_desc, row, x_column, column, xs.index(there), bs.index(there),
               cs.index(there), x_full.index(there), b_full.index(there), c_full.index(there),
               more)  # fmt: skip
        _fetch_prepared(decays, sources, pairs, ds.index(there), ss.index(there), ps, Q)
        total_next = gl.load(decays + Q - 1)
        if GATE:
            z_at = z_base + sr[:, None] * z_sl + sc[None, :] * z_sp
            z = gl.load(z_at, mask=(sr < left)[:, None], other=0.0)
            z_base += Q * z_sl
        mbarrier.wait(x_full.index(here), phase)
        xt = xs.index(here).permute((1, 0)).load(STATE_LEFT)
        late = gl.convert_layout(source, gl.SliceLayout(0, STATE_LEFT))
        xw = (xt.to(gl.float32) * _exp2(to_end - late)[None, :]).to(dtype)
        mbarrier.wait(b_full.index(here), phase)
        yt = warpgroup_mma_wait(0, deps=(yt_next,))
        yt = yt * _exp2(d_here.load(gl.SliceLayout(0, SQUARE)))[None, :]
        decay = _exp2(total)
        if HALF:
            grown = rowed * (unit * per_reach)
            yt = yt * gl.convert_layout(grown, gl.SliceLayout(1, SQUARE))[:, None]
            decay = decay * (unit * per_fresh)
            unit = fresh
        h = h * decay
        yt_next = warpgroup_mma(
            gl.convert_layout(xt, OUT_LEFT), ms.permute((1, 0)), yt, is_async=True
        )
        h_next = warpgroup_mma(xw, bs.index(here), h, is_async=True)
        if SKIP != 0:
            skipped = gl.convert_layout(xt, SQUARE).to(gl.float32) * skip
        yt = warpgroup_mma_wait(1, deps=(yt_next,))
        if HALF:
            yt = yt * reach
        if SKIP != 0:
            yt += skipped
        ys.permute((1, 0)).store(yt.to(dtype))
        async_copy.wait_group(0)
        gl.thread_barrier()
        out = ys.load(wide)
        if GATE:
            zf = z.to(gl.float32)
            silu = zf * _reciprocal(1.0 + _exp2(-zf * LOG2E))
            out = (out.to(gl.float32) * silu).to(dtype)
        y_at = y_base + sr[:, None] * (H * P) + sc[None, :]
        gl.store(y_at, out, mask=(sr < left)[:, None])
        y_base += Q * H * P
        total = total_next
        h = warpgroup_mma_wait(0, deps=(h_next,))
    # An index that the compiler cannot know: addresses are formed anew here, instead of being kept
    # in registers through the loop.
    nil = gl.inline_asm_elementwise("mov.b32 $0, 0;", "=r", [], gl.int32, False, 1)
    pid = gl.program_id(0) + nil
    blocks = gl.cdiv(P + nil, BP)
    block = pid % blocks
    head = (pid // blocks) % H
    slot = pid // (blocks * H)
    seq, start, length, first = _locate(slot, cu_ptr, count, steps, L, T, S, VARLEN)
    begin = (slot - first) * T
    hp = block * BP + gl.arange(0, BP, layout=gl.SliceLayout(1, STATE))
    hn = gl.arange(0, BN, layout=gl.SliceLayout(0, STATE)) + nil
    cells = hp[:, None] * N + hn[None, :]
    if _is_finite(h) == 0:
        segment = slot - first
        batch = seq * 0 if VARLEN else seq
        entry = batch.to(gl.int64)
        token = (start + begin).to(gl.int64)
        hr = hp.to(gl.int64)
        far = head.to(gl.int64)
        group = head // PER_GROUP
        d_at = d_ptr
        z_at = z_ptr
        if SKIP == 1:
            d_at += head
        if SKIP == 2:
            d_at += head * P + hp
        if GATE:
            z_at += entry * z_sb + token * z_sl + far * z_sh + hr * z_sp
        h = _start(nothing, state_ptr, decay_ptr, h0_ptr, cells, owned, seq, first, segment, head,
                   H, P * N, H0, SEGMENTS, False)  # fmt: skip
        h = _retrace(
            h, x_ptr + entry * x_sb + token * x_sl + far * x_sh + hr * x_sp, b_ptr + entry * b_sb
            + token * b_sl + group * b_sg + hn * b_sn, c_ptr + entry * c_sb + token * c_sl + group
            * c_sg + hn * c_sn, d_at, z_at, y_ptr + ((entry * L + token) * H + head) * P + hr,
            None, decays_ptr + (slot * H + head).to(gl.int64) * T, sources_ptr + (slot * H +
            head).to(gl.int64) * T, hp < P, hn < N, gl.minimum(length - begin, T), segment > 0,
            x_sl, b_sl, c_sl, z_sl, 0, H * P, Q, SKIP, GATE, False, False,
        )  # fmt: skip
        if HALF:
            unit = 1.0
    if HALF:
        h = h * unit
    if FINAL:
        if begin + T >= length:
            at = (seq * H + head).to(gl.int64) * P * N
            gl.store(final_ptr + at + cells, h.to(final_ptr.dtype.element_ty))
