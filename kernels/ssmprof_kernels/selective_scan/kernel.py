"""Device code of the Mamba-1 selective scan: one pass over the inputs, or two over segments.

Promises: nothing per token but y goes to memory, two runs give equal bits, no length is special.
Time is sequential inside a program; the N states of a channel are spread over LANES lanes of a
warp, so that narrow models still fill the GPU. BLOCK_T tokens are taken at once: their exponentials
and their delta * u * B are independent, only one multiply-add per state and token is a chain.

Recurrence and notation: Mamba, arXiv:2312.00752, algorithm 2.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportAssignmentType=false, reportOperatorIssue=false, reportReturnType=false

import triton
import triton.language as tl

from ssmprof_kernels.device.math import silu, softplus, widen, widen_words
from ssmprof_kernels.selective_scan.parts import (
    Cells,
    Steps,
    place_of,
    rates,
    start_of,
    start_state,
)


@triton.jit
def _compose(a1, x1, a2, x2):
    # Fused like this the chain over tokens is one instruction long; the compiler, left alone,
    # fuses x2's own product instead and leaves two.
    return a1 * a2, tl.fma(a2, x1, x2)


@triton.jit
def _keep_last(x, y):
    return y


@triton.jit
def _fetch(
    ptrs, left, t, n, real, N: tl.constexpr, EVEN_D: tl.constexpr, EVEN_N: tl.constexpr,
    HAS_Z: tl.constexpr, HAS_C: tl.constexpr,
):  # fmt: skip
    """Raw u, dt, z (BLOCK_T, BLOCK_D) and B, C (BLOCK_T, LANES * REGS) of one block; 0 past the
    end. Where there is no z or C, u or B stands in its place."""
    m_t = (t < left)[:, None]
    m_td = m_t if EVEN_D else m_t & real[None, :]
    m_tn = m_t if EVEN_N else m_t & (n < N)[None, :]
    u = tl.load(ptrs[0], mask=m_td, other=0.0)
    dt = tl.load(ptrs[1], mask=m_td, other=0.0)
    z = tl.load(ptrs[2], mask=m_td, other=0.0) if HAS_Z else u
    B = tl.load(ptrs[3], mask=m_tn, other=0.0)
    C = tl.load(ptrs[4], mask=m_tn, other=0.0) if HAS_C else B
    return u, dt, z, B, C


@triton.jit
def _words(ptrs):
    """The same addresses, to be read as int32."""
    return ptrs.to(tl.pointer_type(tl.int32), bitcast=True)


@triton.jit
def _advance(ptrs, steps):
    return (
        ptrs[0] + steps[0],
        ptrs[1] + steps[1],
        ptrs[2] + steps[2],
        ptrs[3] + steps[3],
        ptrs[4] + steps[4],
    )


@triton.jit
def _blank(
    y_ptr, low, high, tile, group, DG, s_yt, s_yd, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    """y is 0 for the tokens low .. high of one tile of channels."""
    d = tile * BLOCK_D + tl.arange(0, BLOCK_D)[None, :]
    t = tl.arange(0, BLOCK_T)[:, None]
    for token in range(low, high, BLOCK_T):
        y_at = y_ptr + (token + t).to(tl.int64) * s_yt + (group * DG + d).to(tl.int64) * s_yd
        blank = tl.zeros([BLOCK_T, BLOCK_D], y_ptr.dtype.element_ty)
        tl.store(y_at, blank, mask=(token + t < high) & (d < DG))


@triton.jit
def _tiles(
    start, by, group, tile, d, t, n, DG, SHAPE: tl.constexpr, BLOCK: tl.constexpr,
    GATED: tl.constexpr,
):  # fmt: skip
    """Addresses of the first block, of y and of what `_fetch` takes."""
    t64 = t.to(tl.int64)[:, None]
    if SHAPE.X_WORDS:
        origin = group * DG + tile * BLOCK.D
        pair = tl.arange(0, BLOCK.D // 2)[None, :]
        u = _words(start.u + t64 * by.u.t + origin) + pair
        dt = _words(start.dt + t64 * by.dt.t + origin) + pair
        z = u
        if GATED:
            z = _words(start.z + t64 * by.z.t + origin) + pair
    else:
        u = start.u + t64 * by.u.t + d[None, :] * by.u.d
        dt = start.dt + t64 * by.dt.t + d[None, :] * by.dt.d
        z = u
        if GATED:
            z = start.z + t64 * by.z.t + d[None, :] * by.z.d
    if SHAPE.BC_WORDS:
        n_pair = tl.arange(0, BLOCK.LANES * BLOCK.REGS // 2)[None, :]
        B = _words(start.B + group * by.B.g + t64 * by.B.t) + n_pair
        C = _words(start.C + group * by.C.g + t64 * by.C.t) + n_pair
    else:
        B = start.B + group * by.B.g + t64 * by.B.t + n[None, :] * by.B.n
        C = start.C + group * by.C.g + t64 * by.C.t + n[None, :] * by.C.n
    y = start.y + t64 * by.y.t + d[None, :] * by.y.d
    return y, (u, dt, z, B, C)


@triton.jit
def _widened(raw, start, SHAPE: tl.constexpr, GATED: tl.constexpr):
    """What `_fetch` has brought, in fp32."""
    z_dtype: tl.constexpr = start.z.dtype.element_ty if GATED else start.u.dtype.element_ty
    if SHAPE.X_WORDS:
        u = widen_words(raw[0], start.u.dtype.element_ty)
        dt = widen_words(raw[1], start.dt.dtype.element_ty)
        z = widen_words(raw[2], z_dtype)
    else:
        u = widen(raw[0])
        dt = widen(raw[1])
        z = widen(raw[2])
    if SHAPE.BC_WORDS:
        B = widen_words(raw[3], start.B.dtype.element_ty)
        C = widen_words(raw[4], start.C.dtype.element_ty)
    else:
        B = widen(raw[3])
        C = widen(raw[4])
    return u, dt, z, B, C


@triton.jit
def _by_lane(v, BLOCK: tl.constexpr):
    """B or C (BLOCK_T, LANES * REGS) as the states lie: (BLOCK_T, REGS, 1, LANES)."""
    v = tl.reshape(v, [BLOCK.T, BLOCK.LANES, BLOCK.REGS])
    return tl.permute(v, [0, 2, 1])[:, :, None, :]


@triton.jit
def _recur(h, A2, delta, du, B4, first):
    """The states behind each token of a block."""
    a = tl.exp2(delta[:, None, :, None] * A2[None])
    x = du[:, None, :, None] * B4
    # The carried state enters with the first token. The time axis lies in registers, so
    # this costs one multiply-add, and the scan below is a plain chain of them.
    x = tl.where(first, tl.fma(a, h[None], x), x)
    _decays, hs = tl.associative_scan((a, x), 0, _compose)
    return hs


@triton.jit(do_not_specialize=["L", "TILES", "SPAN"])
def ssmprof_scan_selective(
    given, parts, hT_ptr, y_ptr, L, DG, G, TILES, SPAN, u_steps, dt_steps, A_steps, B_steps,
    C_steps, z_steps, h0_steps, y_steps, FORM: tl.constexpr, SHAPE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """y and the final state; of a sequence in SEGMENTS the first of two launches is the SUMMARY:
    each segment's end state from a zero start, and the sum of its step sizes."""
    N: tl.constexpr = SHAPE.N
    EVEN_D: tl.constexpr = SHAPE.EVEN_D
    EVEN_N: tl.constexpr = SHAPE.EVEN_N
    BLOCK_T: tl.constexpr = BLOCK.T
    BLOCK_D: tl.constexpr = BLOCK.D
    LANES: tl.constexpr = BLOCK.LANES
    REGS: tl.constexpr = BLOCK.REGS
    AHEAD: tl.constexpr = BLOCK.AHEAD
    SEGMENTS: tl.constexpr = BLOCK.SEGMENTS
    SUMMARY: tl.constexpr = BLOCK.SUMMARY
    HAS_C: tl.constexpr = not SUMMARY
    GATED: tl.constexpr = FORM.Z and not SUMMARY
    # The last segment's end is nobody's start.
    PARTS: tl.constexpr = SEGMENTS - 1 if SUMMARY else SEGMENTS
    pid = tl.program_id(0)
    place = place_of(pid, given.cu, L, G, TILES, SPAN, PARTS, FORM.VARLEN)
    tile = place.tile
    segment = place.segment
    group = place.group
    length = place.length
    if FORM.VARLEN:
        # The last sequence also owns the tokens behind it.
        if pid + TILES * G >= tl.num_programs(0):
            _blank(y_ptr, place.end, L, tile, group, DG, y_steps.t, y_steps.d, BLOCK_T, BLOCK_D)
    by = Steps(u_steps, dt_steps, z_steps, B_steps, C_steps, y_steps)
    start = start_of(given, y_ptr, place, by, FORM)

    # A tile never crosses a group, so one B and one C serve all its channels.
    in_group = tile * BLOCK_D + tl.arange(0, BLOCK_D)
    real = in_group < DG
    d = (group * DG + in_group).to(tl.int64)
    # Each lane owns REGS neighbouring states of one channel: (REGS, BLOCK_D, LANES).
    n3 = (tl.arange(0, REGS)[:, None] + tl.arange(0, LANES)[None, :] * REGS)[:, None, :]
    m3 = real[None, :, None] & (n3 < N)
    cells = Cells(d[None, :, None], n3, real[None, :, None], m3)
    A2 = rates(given.A, cells, A_steps)
    h = tl.zeros([REGS, BLOCK_D, LANES], tl.float32)
    h = start_state(h, A2, given.h0, parts, place, cells, h0_steps, G, DG, FORM, N, BLOCK)
    if FORM.BIAS:
        bias = tl.load(given.bias + d, mask=real, other=0.0).to(tl.float32)
    if FORM.D:
        skip = tl.load(given.D + d, mask=real, other=0.0).to(tl.float32)

    t = tl.arange(0, BLOCK_T)
    n = tl.arange(0, LANES * REGS)
    first = (t == 0)[:, None, None, None]
    y_ptrs, ptrs = _tiles(start, by, group, tile, d, t, n, DG, SHAPE, BLOCK, GATED)
    X: tl.constexpr = 2 if SHAPE.X_WORDS else 1
    BC: tl.constexpr = 2 if SHAPE.BC_WORDS else 1
    steps = (
        BLOCK_T * u_steps.t // X,
        BLOCK_T * dt_steps.t // X,
        BLOCK_T * (z_steps.t if GATED else u_steps.t) // X,
        BLOCK_T * B_steps.t // BC,
        BLOCK_T * C_steps.t // BC,
    )

    # Memory takes longer than a block: the raw inputs of AHEAD blocks wait in registers. The loop
    # is unrolled that often, because moving a value from slot to slot would wait for its load.
    slots = _fetch(ptrs, length, t, n, real, N, EVEN_D, EVEN_N, GATED, HAS_C)
    for i in tl.static_range(1, AHEAD):
        ptrs = _advance(ptrs, steps)
        slots = slots + _fetch(
            ptrs, length - i * BLOCK_T, t, n, real, N, EVEN_D, EVEN_N, GATED, HAS_C
        )
    sums = tl.zeros([BLOCK_T, BLOCK_D], tl.float32)
    left = length
    for _ in range(0, length, AHEAD * BLOCK_T):
        for i in tl.static_range(AHEAD):
            u, dt, z, B, C = _widened(slots[5 * i : 5 * i + 5], start, SHAPE, GATED)
            ptrs = _advance(ptrs, steps)
            slots = (
                slots[: 5 * i]
                + _fetch(ptrs, left - AHEAD * BLOCK_T, t, n, real, N, EVEN_D, EVEN_N, GATED, HAS_C)
                + slots[5 * i + 5 :]
            )
            m_now = (t < left)[:, None]
            if not EVEN_D:
                m_now = m_now & real[None, :]
            left -= BLOCK_T

            if FORM.BIAS:
                dt += bias[None, :]
            if FORM.SOFTPLUS:
                dt = softplus(dt)
            # A step of size 0 leaves the state alone: past the end nothing happens.
            delta = tl.where(m_now, dt, 0.0)
            du = delta * u
            B4 = _by_lane(B, BLOCK)
            C4 = _by_lane(C, BLOCK)
            hs = _recur(h, A2, delta, du, B4, first)
            h = tl.reduce(hs, 0, _keep_last)
            if SUMMARY:
                sums += delta
            else:
                y = tl.sum(tl.sum(hs * C4, 1), 2)
                if FORM.D:
                    y += skip[None, :] * u
                if FORM.Z:
                    y *= silu(z)
                tl.store(y_ptrs, y.to(y_ptr.dtype.element_ty), mask=m_now)
                y_ptrs += BLOCK_T * y_steps.t

    if SUMMARY:
        at = (place.row * PARTS + segment) * G * DG + d
        tl.store(parts.ends + at[None, :, None] * N + n3, h, mask=m3)
        tl.store(parts.sums + at, tl.sum(sums, 0), mask=real)
    elif FORM.HT:
        hT_offsets = (place.row * G * DG + d[None, :, None]) * N + n3
        tl.store(hT_ptr + hT_offsets, h, mask=m3 & (segment == SEGMENTS - 1))
