"""The selective scan with explicit layouts (Gluon): the twin's recurrence, pipelined over blocks.

Promises: the call and the results of `kernel`. What limits the twin is the pipe that
serves loads, shared memory and shuffles, and the latency of one block's chain. Hence, per block of
BLOCK_T tokens:

- a program of several warps loads rows of neighbouring channels, prepares each step size once, and
  hands the block to the lanes through shared memory; B and C travel as one word of two halves;
- what a block needs is in shared memory before its turn, its sum over lanes is taken in the next
  turn, skip, gate and store in the one after: three blocks are in work at once, one barrier each;
- the sum over the LANES of a channel also transposes, so that each lane ends with other tokens:
  4 (LANES - 1) instructions for LANES tokens instead of 2 LANES log2(LANES).

In a warp, lane = channel * LANES + l. BLOCK_T is a multiple of LANES and of 4, AHEAD of 4: with 2,
u and z pass through the unrolled loop unchanged, and triton 3.6.0 drops such loop variables.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportAssignmentType=false, reportOperatorIssue=false, reportReturnType=false

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from ssmprof_kernels.device.gluon_tools import halves
from ssmprof_kernels.selective_scan.gluon_layouts import buffers, layouts
from ssmprof_kernels.selective_scan.gluon_stages import (
    advance,
    fetch,
    finish,
    pointers,
    prepare,
    sum_lanes,
)
from ssmprof_kernels.selective_scan.parts import (
    Cells,
    Steps,
    place_of,
    rates,
    start_of,
    start_state,
)


@gluon.jit
def _compose(a1, x1, a2, x2):
    # Fused like this the chain over tokens is one instruction long; the compiler, left alone,
    # fuses x2's own product instead and leaves two.
    return a1 * a2, gl.fma(a2, x1, x2)


@gluon.jit
def _keep_last(x, y):
    return y


@gluon.jit
def _blank(
    y_ptr, low, high, tile, group, DG, s_yt, s_yd, BLOCK_T: gl.constexpr, BLOCK_D: gl.constexpr,
    X: gl.constexpr,
):  # fmt: skip
    """y is 0 for the tokens low .. high of one tile of channels."""
    d = tile * BLOCK_D + gl.arange(0, BLOCK_D, layout=gl.SliceLayout(0, X))[None, :]
    t = gl.arange(0, BLOCK_T, layout=gl.SliceLayout(1, X))[:, None]
    nothing = gl.zeros([BLOCK_T, BLOCK_D], y_ptr.dtype.element_ty, X)
    for token in range(low, high, BLOCK_T):
        y_at = y_ptr + (token + t).to(gl.int64) * s_yt + (group * DG + d).to(gl.int64) * s_yd
        gl.store(y_at, nothing, mask=(token + t < high) & (d < DG))


@gluon.jit(do_not_specialize=["L", "TILES", "SPAN"])
def ssmprof_scan_selective_gluon(
    given, parts, hT_ptr, y_ptr, L, DG, G, TILES, SPAN, u_steps, dt_steps, A_steps, B_steps,
    C_steps, z_steps, h0_steps, y_steps, FORM: gl.constexpr, SHAPE: gl.constexpr,
    BLOCK: gl.constexpr,
):  # fmt: skip
    N: gl.constexpr = SHAPE.N
    EVEN_D: gl.constexpr = SHAPE.EVEN_D
    BLOCK_T: gl.constexpr = BLOCK.T
    BLOCK_D: gl.constexpr = BLOCK.D
    LANES: gl.constexpr = BLOCK.LANES
    REGS: gl.constexpr = BLOCK.REGS
    AHEAD: gl.constexpr = BLOCK.AHEAD
    SEGMENTS: gl.constexpr = BLOCK.SEGMENTS
    SUMMARY: gl.constexpr = BLOCK.SUMMARY
    gl.static_assert(AHEAD % 4 == 0)
    gl.static_assert(BLOCK_T % max(4, LANES) == 0)
    NP: gl.constexpr = LANES * REGS
    LAYOUTS: gl.constexpr = layouts(SHAPE, BLOCK)
    FULL: gl.constexpr = LAYOUTS.FULL
    STATE: gl.constexpr = gl.SliceLayout(0, FULL)
    STEP: gl.constexpr = gl.SliceLayout(1, gl.SliceLayout(3, FULL))
    BC: gl.constexpr = gl.SliceLayout(2, FULL)
    X: gl.constexpr = LAYOUTS.X
    RAW: gl.constexpr = LAYOUTS.RAW
    HAS_C: gl.constexpr = not SUMMARY
    GATED: gl.constexpr = FORM.Z and not SUMMARY
    # The last segment's end is nobody's start.
    PARTS: gl.constexpr = SEGMENTS - 1 if SUMMARY else SEGMENTS

    pid = gl.program_id(0)
    place = place_of(pid, given.cu, L, G, TILES, SPAN, PARTS, FORM.VARLEN)
    tile = place.tile
    segment = place.segment
    group = place.group
    row = place.row
    length = place.length
    if FORM.VARLEN:
        # The last sequence also owns the tokens behind it.
        if pid + TILES * G >= gl.num_programs(0):
            _blank(y_ptr, place.end, L, tile, group, DG, y_steps.t, y_steps.d, BLOCK_T, BLOCK_D, X)
    by = Steps(u_steps, dt_steps, z_steps, B_steps, C_steps, y_steps)
    start = start_of(given, y_ptr, place, by, FORM)

    r3 = gl.arange(0, REGS, layout=gl.SliceLayout(1, gl.SliceLayout(2, STATE)))[:, None, None]
    l3 = gl.arange(0, LANES, layout=gl.SliceLayout(0, gl.SliceLayout(1, STATE)))[None, None, :]
    d3 = gl.arange(0, BLOCK_D, layout=gl.SliceLayout(0, gl.SliceLayout(2, STATE)))[None, :, None]
    d3 = d3 + tile * BLOCK_D
    n3 = l3 * REGS + r3
    m3 = (d3 < DG) & (n3 < N)
    d3 = (group * DG + d3).to(gl.int64)
    cells = Cells(d3, n3, d3 < (group + 1) * DG, m3)
    A2 = rates(given.A, cells, A_steps)
    h = gl.zeros([REGS, BLOCK_D, LANES], gl.float32, STATE)
    h = start_state(h, A2, given.h0, parts, place, cells, h0_steps, G, DG, FORM, N, BLOCK)

    in_group = tile * BLOCK_D + gl.arange(0, BLOCK_D, layout=gl.SliceLayout(0, X))
    real = in_group < DG
    d = (group * DG + in_group).to(gl.int64)
    bias = gl.zeros([BLOCK_D], gl.float32, gl.SliceLayout(0, X))
    skip = gl.zeros([BLOCK_D], gl.float32, gl.SliceLayout(0, X))
    if FORM.BIAS:
        bias = gl.load(given.bias + d, mask=real, other=0.0).to(gl.float32)
    if FORM.D:
        skip = gl.load(given.D + d, mask=real, other=0.0).to(gl.float32)

    t4 = gl.arange(0, BLOCK_T, layout=gl.SliceLayout(1, gl.SliceLayout(2, gl.SliceLayout(3, FULL))))
    first = (t4 == 0)[:, None, None, None]
    t_x = gl.arange(0, BLOCK_T, layout=gl.SliceLayout(1, X))
    t_n = gl.arange(0, BLOCK_T, layout=gl.SliceLayout(1, RAW))
    n = gl.arange(0, NP, layout=gl.SliceLayout(0, RAW))
    ptrs, steps, y_ptrs = pointers(start, group, by, t_x, t_n, n, d, GATED, BLOCK_T)

    s_delta, s_du, s_y, s_B, s_C = buffers(LAYOUTS, SHAPE, BLOCK)

    # Memory takes longer than a block: the raw inputs of AHEAD blocks wait in registers. The loop
    # is unrolled that often, because moving a value from slot to slot would wait for its load.
    slots = fetch(ptrs, length, t_x, t_n, n, real, SHAPE, GATED, HAS_C)
    for i in gl.static_range(1, AHEAD):
        ptrs = advance(ptrs, steps)
        slots = slots + fetch(ptrs, length - i * BLOCK_T, t_x, t_n, n, real, SHAPE, GATED, HAS_C)
    left = length
    u0, z0, sums = prepare(
        slots[:5], ptrs, bias, left, t_x, real, (s_delta[0], s_du[0], s_B[0], s_C[0]), FORM, SHAPE,
        BLOCK,
    )  # fmt: skip
    ptrs = advance(ptrs, steps)
    slots = fetch(ptrs, left - AHEAD * BLOCK_T, t_x, t_n, n, real, SHAPE, GATED, HAS_C) + slots[5:]
    # Two blocks before the first, which nobody stores.
    p = gl.zeros([BLOCK_T, BLOCK_D, LANES], gl.float32, gl.SliceLayout(1, FULL))
    u1 = u0
    z1 = z0
    u2 = u0
    z2 = z0
    left1 = left * 0
    left2 = left1
    for _ in range(0, length, AHEAD * BLOCK_T):
        for i in gl.static_range(AHEAD):
            delta4 = s_delta[i % 2].load(STEP)[:, None, :, None]
            du4 = s_du[i % 2].load(STEP)[:, None, :, None]
            if SHAPE.PACKED:
                B, C = halves(s_B[i % 2].load(BC), start.B.dtype.element_ty)
            else:
                B = s_B[i % 2].load(BC)
                if HAS_C:
                    C = s_C[i % 2].load(BC)
            if not SUMMARY:
                y = s_y[(i + 1) % 2].load(X)
            u_new, z_new, delta = prepare(
                slots[5 * ((i + 1) % AHEAD) : 5 * ((i + 1) % AHEAD) + 5], ptrs, bias,
                left - BLOCK_T, t_x, real,
                (s_delta[(i + 1) % 2], s_du[(i + 1) % 2], s_B[(i + 1) % 2], s_C[(i + 1) % 2]),
                FORM, SHAPE, BLOCK,
            )  # fmt: skip
            ptrs = advance(ptrs, steps)
            slots = (
                slots[: 5 * ((i + 1) % AHEAD)]
                + fetch(ptrs, left - (AHEAD + 1) * BLOCK_T, t_x, t_n, n, real, SHAPE, GATED, HAS_C)
                + slots[5 * ((i + 1) % AHEAD) + 5 :]
            )
            if not SUMMARY:
                sum_lanes(p, s_y[i % 2], LANES)
                finish(y, u2, z2, skip, y_ptrs, left2, t_x, real, FORM, EVEN_D)

            a = gl.exp2(delta4 * A2[None, :, :, :])
            x = du4 * B[:, :, None, :]
            # The carried state enters with the first token. The time axis lies in registers, so
            # this costs one multiply-add, and the scan below is a plain chain of them.
            x = gl.where(first, gl.fma(a, gl.expand_dims(h, 0), x), x)
            _, hs = gl.associative_scan((a, x), 0, _compose)
            h = gl.reduce(hs, 0, _keep_last)
            if SUMMARY:
                sums += delta
            else:
                p = gl.sum(hs * C[:, :, None, :], 1)

            y_ptrs += BLOCK_T * y_steps.t
            left2 = left1
            left1 = left
            left -= BLOCK_T
            u2 = u1
            z2 = z1
            u1 = u0
            z1 = z0
            u0 = u_new
            z0 = z_new
    if SUMMARY:
        at = (row * PARTS + segment) * G * DG
        gl.store(parts.ends + (at + d3) * N + n3, h, mask=m3)
        gl.store(parts.sums + at + d, gl.sum(sums, 0), mask=real)
    else:
        finish(s_y[1].load(X), u2, z2, skip, y_ptrs, left2, t_x, real, FORM, EVEN_D)
        sum_lanes(p, s_y[0], LANES)
        y_ptrs += BLOCK_T * y_steps.t
        finish(s_y[0].load(X), u1, z1, skip, y_ptrs, left1, t_x, real, FORM, EVEN_D)
        if FORM.HT:
            last = m3 & (segment == SEGMENTS - 1)
            gl.store(hT_ptr + (row * G * DG + d3) * N + n3, h, mask=last)
