"""What the Hopper forms of the Mamba-2 scan share: copies of tiles, and how they are selected; the
state before a walk and behind it.

Promises: whatever is not special to Hopper is that of the plain Triton kernels, which a kernel of
Gluon calls and which are then compiled as its own.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportAssignmentType=false, reportOperatorIssue=false

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import async_copy, mbarrier, tma

from ssmprof_kernels.ssd.parts import place_of
from ssmprof_kernels.ssd.state import Cells, is_finite, state_before, walk_again


@gluon.jit
def keep(v, mask):
    """v where the mask is -1, 0 where it is 0; bitwise, so that nothing of v gets through."""
    return gl.inline_asm_elementwise(
        "and.b32 $0, $1, $2;", "=r,r,r", [v, mask], dtype=v.dtype, is_pure=True, pack=2
    )


@gluon.jit
def blank(y_ptr, low, high, head, block, H, P, Q: gl.constexpr, BP: gl.constexpr):
    """As `walk.blank`."""
    wide: gl.constexpr = gl.BlockedLayout(
        [1, 8], [32 // (BP // 8), BP // 8], [gl.num_warps(), 1], [1, 0]
    )
    rows = gl.arange(0, Q, layout=gl.SliceLayout(1, wide))[:, None]
    ps = block * BP + gl.arange(0, BP, layout=gl.SliceLayout(0, wide))[None, :]
    nothing = gl.zeros([Q, BP], y_ptr.dtype.element_ty, layout=wide)
    for token in range(low, high, Q):
        row = token + rows
        gl.store(y_ptr + (row.to(gl.int64) * H + head) * P + ps, nothing, mask=row < high)


@gluon.jit
def fetch(x_desc, b_desc, c_desc, row, x_column, column, xs, bs, cs, x_full, b_full, c_full,
           pred):  # fmt: skip
    """Start the copies of one chunk's tiles, if `pred`."""
    # One barrier per tile: waits come as late as each tile is needed.
    mbarrier.expect(c_full, c_desc.block_type.nbytes, pred=pred)
    mbarrier.expect(b_full, b_desc.block_type.nbytes, pred=pred)
    mbarrier.expect(x_full, x_desc.block_type.nbytes, pred=pred)
    tma.async_copy_global_to_shared(c_desc, [row, column], c_full, cs, pred=pred)
    tma.async_copy_global_to_shared(x_desc, [row, x_column], x_full, xs, pred=pred)
    tma.async_copy_global_to_shared(b_desc, [row, column], b_full, bs, pred=pred)


@gluon.jit
def fetch_pair(x_desc, b_desc, sources, row, x_column, column, xs, bs, ss, full, pred):
    """As `fetch`, of x, B and their exponents."""
    mbarrier.expect(full, x_desc.block_type.nbytes + b_desc.block_type.nbytes, pred=pred)
    tma.async_copy_global_to_shared(b_desc, [row, column], full, bs, pred=pred)
    tma.async_copy_global_to_shared(x_desc, [row, x_column], full, xs, pred=pred)
    async_copy.async_copy_global_to_shared(ss, sources)
    async_copy.commit_group()


@gluon.jit
def fetch_prepared(decays, sources, pairs, ds, ss, ps, Q: gl.constexpr):
    """Start the copies of one chunk's exponents and pairs."""
    line: gl.constexpr = gl.BlockedLayout([1], [32], [gl.num_warps()], [0])
    tokens = gl.arange(0, Q, layout=line)
    square: gl.constexpr = gl.BlockedLayout(
        [1, 8], [32 // (Q // 8), Q // 8], [gl.num_warps(), 1], [1, 0]
    )
    cell = gl.arange(0, Q, layout=gl.SliceLayout(1, square))[:, None] * Q
    cell += gl.arange(0, Q, layout=gl.SliceLayout(0, square))[None, :]
    async_copy.async_copy_global_to_shared(ps, pairs + cell)
    async_copy.async_copy_global_to_shared(ds, decays + tokens)
    async_copy.async_copy_global_to_shared(ss, sources + tokens)
    async_copy.commit_group()


@gluon.jit
def state_of(
    given, made, place, sizes, STATE: gl.constexpr, BP: gl.constexpr, BN: gl.constexpr,
    OUT: gl.constexpr,
):  # fmt: skip
    """The state before a segment, one of nothing, and which of its cells are real."""
    hp = place.block * BP + gl.arange(0, BP, layout=gl.SliceLayout(1, STATE))
    hn = gl.arange(0, BN, layout=gl.SliceLayout(0, STATE))
    cell_at = hp[:, None] * sizes.N + hn[None, :]
    owned = (hp < sizes.P)[:, None] & (hn < sizes.N)[None, :]
    nothing = gl.zeros([BP, BN], gl.float32, layout=STATE)
    cells = Cells(hp, hp, hn, cell_at, owned)
    return state_before(nothing, given, made, place, cells, sizes, OUT, False), nothing, owned


@gluon.jit
def finish(
    h, unit, nothing, owned, given, made, y_ptr, final_ptr, count, steps, by, sizes, S,
    STATE: gl.constexpr, HALF: gl.constexpr, Q: gl.constexpr, BP: gl.constexpr, BN: gl.constexpr,
    CUT: gl.constexpr, OUT: gl.constexpr,
):  # fmt: skip
    """Walk again where the state is not finite, and store it behind the last segment."""
    # An index that the compiler cannot know: addresses are formed anew here, instead of being kept
    # in registers through the loop.
    nil = gl.inline_asm_elementwise("mov.b32 $0, 0;", "=r", [], gl.int32, False, 1)
    pid = gl.program_id(0) + nil
    L, H, P, N, T = sizes.L, sizes.H, sizes.P, sizes.N, sizes.T
    place = place_of(pid, given.cu, count, steps, L, H, P + nil, T, S, BP, CUT.VARLEN)
    hp = place.block * BP + gl.arange(0, BP, layout=gl.SliceLayout(1, STATE))
    hn = gl.arange(0, BN, layout=gl.SliceLayout(0, STATE)) + nil
    cell_at = hp[:, None] * N + hn[None, :]
    if is_finite(h) == 0:
        anew = Cells(hp, hp.to(gl.int64), hn, cell_at, owned)
        h = walk_again(
            nothing, given, made, y_ptr, place, anew, by, sizes, Q, OUT, False, False, False
        )
        if HALF:
            unit = 1.0
    if HALF:
        h = h * unit
    if OUT.FINAL:
        if place.begin + T >= place.length:
            at = (place.seq * H + place.head).to(gl.int64) * P * N
            gl.store(final_ptr + at + cell_at, h.to(final_ptr.dtype.element_ty))
