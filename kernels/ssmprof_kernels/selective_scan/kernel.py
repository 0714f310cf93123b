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

from ssmprof_kernels.device.math import LOG2E, finite_rate, silu, softplus, widen, widen_words


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
    u_ptr = given.u
    dt_ptr = given.dt
    B_ptr = given.B
    C_ptr = given.C
    z_ptr = given.z
    pid = tl.program_id(0)
    tile = pid % TILES
    segment = (pid // TILES) % PARTS
    group = (pid // (TILES * PARTS)) % G
    row = (pid // (TILES * PARTS * G)).to(tl.int64)
    if FORM.VARLEN:
        # What ends behind the tokens there are ends with them.
        begin = tl.minimum(tl.load(given.cu + row), L).to(tl.int64)
        end = tl.minimum(tl.load(given.cu + row + 1), L)
        length = (end - begin).to(tl.int32)
        # The last sequence also owns the tokens behind it.
        if pid + TILES * G >= tl.num_programs(0):
            _blank(y_ptr, end, L, tile, group, DG, y_steps.t, y_steps.d, BLOCK_T, BLOCK_D)
    else:
        begin = (segment * SPAN).to(tl.int64)
        length = tl.minimum(L - segment * SPAN, SPAN)
        u_ptr += row * u_steps.b
        dt_ptr += row * dt_steps.b
        B_ptr += row * B_steps.b
        C_ptr += row * C_steps.b
        y_ptr += row * y_steps.b
        if FORM.Z:
            z_ptr += row * z_steps.b
    u_ptr += begin * u_steps.t
    dt_ptr += begin * dt_steps.t
    B_ptr += begin * B_steps.t
    C_ptr += begin * C_steps.t
    y_ptr += begin * y_steps.t
    if FORM.Z:
        z_ptr += begin * z_steps.t

    # A tile never crosses a group, so one B and one C serve all its channels.
    in_group = tile * BLOCK_D + tl.arange(0, BLOCK_D)
    real = in_group < DG
    d = (group * DG + in_group).to(tl.int64)
    # Each lane owns REGS neighbouring states of one channel: (REGS, BLOCK_D, LANES).
    n3 = (tl.arange(0, REGS)[:, None] + tl.arange(0, LANES)[None, :] * REGS)[:, None, :]
    m3 = real[None, :, None] & (n3 < N)
    A2 = tl.load(given.A + d[None, :, None] * A_steps.d + n3 * A_steps.n, mask=m3, other=0.0)
    A2 = finite_rate(A2.to(tl.float32) * LOG2E)
    if FORM.H0:
        h = tl.load(
            given.h0 + row * h0_steps.b + d[None, :, None] * h0_steps.d + n3 * h0_steps.n,
            mask=m3,
            other=0.0,
        ).to(tl.float32)
    else:
        h = tl.zeros([REGS, BLOCK_D, LANES], tl.float32)
    if not SUMMARY:
        for s in tl.static_range(SEGMENTS - 1):
            # All loads can be in flight at once; a segment that is not before this one is no step.
            at = ((row * (SEGMENTS - 1) + s) * G * DG + d)[None, :, None]
            past = real[None, :, None] & (s < segment)
            sums = tl.load(parts.sums + at, mask=past, other=0.0)
            ends = tl.load(parts.ends + at * N + n3, mask=m3 & past, other=0.0)
            h = tl.fma(tl.exp2(sums * A2), h, ends)
    if FORM.BIAS:
        bias = tl.load(given.bias + d, mask=real, other=0.0).to(tl.float32)
    if FORM.D:
        skip = tl.load(given.D + d, mask=real, other=0.0).to(tl.float32)

    t = tl.arange(0, BLOCK_T)
    n = tl.arange(0, LANES * REGS)
    first = (t == 0)[:, None, None, None]
    t64 = t.to(tl.int64)[:, None]
    if SHAPE.X_WORDS:
        origin = group * DG + tile * BLOCK_D
        pair = tl.arange(0, BLOCK_D // 2)[None, :]
        u_ptrs = _words(u_ptr + t64 * u_steps.t + origin) + pair
        dt_ptrs = _words(dt_ptr + t64 * dt_steps.t + origin) + pair
        z_ptrs = u_ptrs
        if GATED:
            z_ptrs = _words(z_ptr + t64 * z_steps.t + origin) + pair
    else:
        u_ptrs = u_ptr + t64 * u_steps.t + d[None, :] * u_steps.d
        dt_ptrs = dt_ptr + t64 * dt_steps.t + d[None, :] * dt_steps.d
        z_ptrs = u_ptrs
        if GATED:
            z_ptrs = z_ptr + t64 * z_steps.t + d[None, :] * z_steps.d
    if SHAPE.BC_WORDS:
        n_pair = tl.arange(0, LANES * REGS // 2)[None, :]
        B_ptrs = _words(B_ptr + group * B_steps.g + t64 * B_steps.t) + n_pair
        C_ptrs = _words(C_ptr + group * C_steps.g + t64 * C_steps.t) + n_pair
    else:
        B_ptrs = B_ptr + group * B_steps.g + t64 * B_steps.t + n[None, :] * B_steps.n
        C_ptrs = C_ptr + group * C_steps.g + t64 * C_steps.t + n[None, :] * C_steps.n
    y_ptrs = y_ptr + t64 * y_steps.t + d[None, :] * y_steps.d
    X: tl.constexpr = 2 if SHAPE.X_WORDS else 1
    BC: tl.constexpr = 2 if SHAPE.BC_WORDS else 1
    z_dtype: tl.constexpr = z_ptr.dtype.element_ty if GATED else u_ptr.dtype.element_ty
    steps = (
        BLOCK_T * u_steps.t // X,
        BLOCK_T * dt_steps.t // X,
        BLOCK_T * (z_steps.t if GATED else u_steps.t) // X,
        BLOCK_T * B_steps.t // BC,
        BLOCK_T * C_steps.t // BC,
    )
    ptrs = (u_ptrs, dt_ptrs, z_ptrs, B_ptrs, C_ptrs)

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
            if SHAPE.X_WORDS:
                u = widen_words(slots[5 * i], u_ptr.dtype.element_ty)
                dt = widen_words(slots[5 * i + 1], dt_ptr.dtype.element_ty)
                z = widen_words(slots[5 * i + 2], z_dtype)
            else:
                u = widen(slots[5 * i])
                dt = widen(slots[5 * i + 1])
                z = widen(slots[5 * i + 2])
            if SHAPE.BC_WORDS:
                B = widen_words(slots[5 * i + 3], B_ptr.dtype.element_ty)
                C = widen_words(slots[5 * i + 4], C_ptr.dtype.element_ty)
            else:
                B = widen(slots[5 * i + 3])
                C = widen(slots[5 * i + 4])
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
            B4 = tl.permute(tl.reshape(B, [BLOCK_T, LANES, REGS]), [0, 2, 1])[:, :, None, :]
            C4 = tl.permute(tl.reshape(C, [BLOCK_T, LANES, REGS]), [0, 2, 1])[:, :, None, :]
            a = tl.exp2(delta[:, None, :, None] * A2[None])
            x = du[:, None, :, None] * B4
            # The carried state enters with the first token. The time axis lies in registers, so
            # this costs one multiply-add, and the scan below is a plain chain of them.
            x = tl.where(first, tl.fma(a, h[None], x), x)
            _decays, hs = tl.associative_scan((a, x), 0, _compose)
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
        at = (row * PARTS + segment) * G * DG + d
        tl.store(parts.ends + at[None, :, None] * N + n3, h, mask=m3)
        tl.store(parts.sums + at, tl.sum(sums, 0), mask=real)
    elif FORM.HT:
        hT_offsets = (row * G * DG + d[None, :, None]) * N + n3
        tl.store(hT_ptr + hT_offsets, h, mask=m3 & (segment == SEGMENTS - 1))
