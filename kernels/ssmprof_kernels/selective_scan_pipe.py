"""The selective scan with explicit layouts (Gluon): the twin's algorithm, fewer instructions.

Promises: the call, the results and the bits of freedom of `selective_scan_kernel`; lengths, masks
and states work the same way. What explicit layouts buy: the sum over the lanes of a channel also
transposes, so that each lane ends with other tokens (4 instructions for what a butterfly does in
2 log2 LANES), and y, u, z and dt share one layout in which a lane owns what it loads.

A warp is BLOCK_D / warps channels wide; lane = channel * LANES + l. Needs BLOCK_T to be a multiple
of LANES.
"""

import triton
from triton.experimental import gluon
from triton.experimental.gluon import language as gl


@triton.constexpr_function
def transposing_sum(tokens, lanes):
    """PTX and constraints: `tokens` values per lane in, sums over `lanes` neighbouring lanes out.

    Output k (k < tokens / lanes) of lane l is the sum for token k * lanes + l; the rest is 0.
    """
    body = ["{ .reg .b32 lane, bit, send, keep, got;", "mov.u32 lane, %laneid;"]
    body += [f".reg .b32 v{i}; mov.b32 v{i}, ${tokens + i};" for i in range(tokens)]
    mask = lanes // 2
    while mask:
        body.append(f".reg .pred p{mask}; and.b32 bit, lane, {mask}; setp.ne.b32 p{mask}, bit, 0;")
        for first in range(0, tokens, lanes):
            for j in range(first, first + mask):
                body.append(
                    f"selp.b32 send, v{j}, v{j + mask}, p{mask};"
                    f"selp.b32 keep, v{j + mask}, v{j}, p{mask};"
                    f"shfl.sync.bfly.b32 got, send, {mask}, 31, -1;"
                    f"add.f32 v{j}, keep, got;"
                )
        mask //= 2
    groups = tokens // lanes
    body += [f"mov.b32 ${i}, v{i * lanes};" for i in range(groups)]
    body += [f"mov.b32 ${i}, 0;" for i in range(groups, tokens)]
    return "\n".join([*body, "}"])


@triton.constexpr_function
def transposing_constraints(tokens):
    return ",".join(["=f"] * tokens + ["f"] * tokens)


@triton.constexpr_function
def words_per_lane(tokens, states):
    return min(4, max(1, tokens * states // 64))


@gluon.jit
def _compose(a1, x1, a2, x2):
    return a1 * a2, a2 * x1 + x2


@gluon.jit
def _keep_last(x, y):
    return y


@gluon.jit
def _keep_first(x, y):
    return x


@gluon.jit
def _widen(x):
    return x.to(gl.float32)


@gluon.jit
def _unpack(x, like: gl.constexpr):
    if like == gl.bfloat16:
        low, high = gl.inline_asm_elementwise(
            "shl.b32 $0, $2, 16; and.b32 $1, $2, 0xffff0000;",
            "=f,=f,r", [x], dtype=(gl.float32, gl.float32), is_pure=True, pack=1,
        )  # fmt: skip
    else:
        low, high = gl.inline_asm_elementwise(
            "{ .reg .b16 l, h; mov.b32 {l, h}, $2; cvt.f32.f16 $0, l; cvt.f32.f16 $1, h; }",
            "=f,=f,r", [x], dtype=(gl.float32, gl.float32), is_pure=True, pack=1,
        )  # fmt: skip
    return gl.join(low, high).reshape([x.shape[0], 2 * x.shape[1]])


@gluon.jit
def _unary(x, asm: gl.constexpr):
    return gl.inline_asm_elementwise(asm, "=f,f", [x], dtype=gl.float32, is_pure=True, pack=1)


@gluon.jit
def _softplus(x):
    e = gl.exp2(x * 1.4426950408889634)
    small = e * (1.0 - e * (0.5 - e * (0.3333333333333333 - e * 0.25)))
    large = _unary(1.0 + e, "lg2.approx.ftz.f32 $0, $1;") * 0.6931471805599453
    return gl.where(x > 20.0, x, gl.where(e < 0.03125, small, large))


@gluon.jit
def _silu(x):
    return x * _unary(1.0 + gl.exp2(x * -1.4426950408889634), "rcp.approx.ftz.f32 $0, $1;")


@gluon.jit
def _words(ptrs):
    return ptrs.to(gl.pointer_type(gl.int32), bitcast=True)


@gluon.jit
def _fetch(
    ptrs, left, t_x, t_n, n, real, N: gl.constexpr, EVEN_D: gl.constexpr, EVEN_N: gl.constexpr
):
    m_x = (t_x < left)[:, None]
    m_n = (t_n < left)[:, None]
    if not EVEN_D:
        m_x = m_x & real[None, :]
    if not EVEN_N:
        m_n = m_n & (n < N)[None, :]
    return (
        gl.load(ptrs[0], mask=m_x, other=0.0),
        gl.load(ptrs[1], mask=m_x, other=0.0),
        gl.load(ptrs[2], mask=m_x, other=0.0),
        gl.load(ptrs[3], mask=m_n, other=0),
        gl.load(ptrs[4], mask=m_n, other=0),
    )


@gluon.jit
def _advance(ptrs, steps):
    return (
        ptrs[0] + steps[0],
        ptrs[1] + steps[1],
        ptrs[2] + steps[2],
        ptrs[3] + steps[3],
        ptrs[4] + steps[4],
    )


@gluon.jit
def _prepare(
    u, dt, z, B, C, bias, left, t_x, real,
    b_dtype: gl.constexpr, c_dtype: gl.constexpr, LANES: gl.constexpr, REGS: gl.constexpr,
    HAS_BIAS: gl.constexpr, SOFTPLUS: gl.constexpr, EVEN_D: gl.constexpr, BC_WORDS: gl.constexpr,
):  # fmt: skip
    """Raw inputs of a block to u, z, delta, delta * u (BLOCK_T, BLOCK_D), B, C (., REGS, LANES)."""
    u = _widen(u)
    dt = _widen(dt)
    z = _widen(z)
    if BC_WORDS:
        B = _unpack(B, b_dtype)
        C = _unpack(C, c_dtype)
    else:
        B = _widen(B)
        C = _widen(C)
    if HAS_BIAS:
        dt += bias[None, :]
    if SOFTPLUS:
        dt = _softplus(dt)
    m = (t_x < left)[:, None]
    if not EVEN_D:
        m = m & real[None, :]
    delta = gl.where(m, dt, 0.0)
    B = gl.permute(gl.reshape(B, [B.shape[0], LANES, REGS]), [0, 2, 1])
    C = gl.permute(gl.reshape(C, [C.shape[0], LANES, REGS]), [0, 2, 1])
    return u, z, delta, delta * u, B, C


@gluon.jit
def _finish(
    p, u, z, skip, y_ptrs, left, t_x, real, OWN: gl.constexpr,
    LANES: gl.constexpr, HAS_D: gl.constexpr, HAS_Z: gl.constexpr, EVEN_D: gl.constexpr,
):  # fmt: skip
    """Sum over the lanes, skip, gate, store."""
    T: gl.constexpr = p.shape[0]
    BD: gl.constexpr = p.shape[1]
    y = gl.inline_asm_elementwise(
        transposing_sum(T, LANES), transposing_constraints(T),
        [p], dtype=gl.float32, is_pure=False, pack=T,
    )  # fmt: skip
    y = gl.reduce(gl.reshape(y, [LANES, T // LANES, BD, LANES]), 0, _keep_first)
    y = gl.convert_layout(gl.reshape(gl.permute(y, [0, 2, 1]), [T, BD]), OWN)
    if HAS_D:
        y += skip[None, :] * u
    if HAS_Z:
        y *= _silu(z)
    m = (t_x < left)[:, None]
    if not EVEN_D:
        m = m & real[None, :]
    gl.store(y_ptrs, y.to(y_ptrs.dtype.element_ty), mask=m)


@gluon.jit(do_not_specialize=["L", "TILES"])
def selective_scan_pipe_kernel(
    u_ptr, dt_ptr, A_ptr, B_ptr, C_ptr, D_ptr, z_ptr, bias_ptr, h0_ptr, hT_ptr, y_ptr, cu_ptr,
    L, DG, G, TILES,
    s_ub, s_ut, s_ud,
    s_tb, s_tt, s_td,
    s_ad, s_an,
    s_bb, s_bt, s_bg, s_bn,
    s_cb, s_ct, s_cg, s_cn,
    s_zb, s_zt, s_zd,
    s_hb, s_hd, s_hn,
    s_yb, s_yt, s_yd,
    HAS_D: gl.constexpr, HAS_Z: gl.constexpr, HAS_BIAS: gl.constexpr, SOFTPLUS: gl.constexpr,
    HAS_H0: gl.constexpr, HAS_HT: gl.constexpr, VARLEN: gl.constexpr, ASM: gl.constexpr,
    N: gl.constexpr, EVEN_D: gl.constexpr, EVEN_N: gl.constexpr,
    X_WORDS: gl.constexpr, BC_WORDS: gl.constexpr,
    BLOCK_T: gl.constexpr, BLOCK_D: gl.constexpr, LANES: gl.constexpr, REGS: gl.constexpr,
    AHEAD: gl.constexpr,
):  # fmt: skip
    W: gl.constexpr = BLOCK_D * LANES // 32
    NP: gl.constexpr = LANES * REGS
    # (BLOCK_T, REGS, BLOCK_D, LANES): time and REGS states in registers.
    FULL: gl.constexpr = gl.BlockedLayout(
        [BLOCK_T, REGS, 1, 1], [1, 1, 32 // LANES, LANES], [1, 1, W, 1], [3, 2, 1, 0]
    )
    STATE: gl.constexpr = gl.SliceLayout(0, FULL)
    # (BLOCK_T, BLOCK_D): lane l of a channel owns tokens l, l + LANES, ...
    OWN: gl.constexpr = gl.BlockedLayout([1, 1], [LANES, 32 // LANES], [1, W], [0, 1])
    # (BLOCK_T, NP or NP / 2): B and C as loaded, the same in every warp.
    BC: gl.constexpr = 2 if BC_WORDS else 1
    V: gl.constexpr = words_per_lane(BLOCK_T, NP) if BC_WORDS else 1
    ACROSS: gl.constexpr = min(32, NP // BC // V)
    RAW: gl.constexpr = gl.BlockedLayout([1, V], [32 // ACROSS, ACROSS], [1, W], [1, 0])

    ALL: gl.constexpr = gl.SliceLayout(1, gl.SliceLayout(3, FULL))
    BCL: gl.constexpr = gl.SliceLayout(2, FULL)

    pid = gl.program_id(0)
    tile = pid % TILES
    group = (pid // TILES) % G
    row = (pid // (TILES * G)).to(gl.int64)
    if VARLEN:
        begin = gl.load(cu_ptr + row).to(gl.int64)
        length = (gl.load(cu_ptr + row + 1) - begin).to(gl.int32)
        u_ptr += begin * s_ut
        dt_ptr += begin * s_tt
        B_ptr += begin * s_bt
        C_ptr += begin * s_ct
        y_ptr += begin * s_yt
        if HAS_Z:
            z_ptr += begin * s_zt
    else:
        length = L
        u_ptr += row * s_ub
        dt_ptr += row * s_tb
        B_ptr += row * s_bb
        C_ptr += row * s_cb
        y_ptr += row * s_yb
        if HAS_Z:
            z_ptr += row * s_zb

    r3 = gl.arange(0, REGS, layout=gl.SliceLayout(1, gl.SliceLayout(2, STATE)))[:, None, None]
    l3 = gl.arange(0, LANES, layout=gl.SliceLayout(0, gl.SliceLayout(1, STATE)))[None, None, :]
    d3 = gl.arange(0, BLOCK_D, layout=gl.SliceLayout(0, gl.SliceLayout(2, STATE)))[None, :, None]
    d3 = d3 + tile * BLOCK_D
    n3 = l3 * REGS + r3
    m3 = (d3 < DG) & (n3 < N)
    d3 = (group * DG + d3).to(gl.int64)
    A2 = gl.load(A_ptr + d3 * s_ad + n3 * s_an, mask=m3, other=0.0).to(gl.float32)
    A2 = A2 * 1.4426950408889634
    if HAS_H0:
        h = gl.load(h0_ptr + row * s_hb + d3 * s_hd + n3 * s_hn, mask=m3, other=0.0)
        h = h.to(gl.float32)
    else:
        h = gl.zeros([REGS, BLOCK_D, LANES], gl.float32, STATE)

    in_group = tile * BLOCK_D + gl.arange(0, BLOCK_D, layout=gl.SliceLayout(0, OWN))
    real = in_group < DG
    d = (group * DG + in_group).to(gl.int64)
    if HAS_BIAS:
        bias = gl.load(bias_ptr + d, mask=real, other=0.0).to(gl.float32)
    skip = gl.zeros([BLOCK_D], gl.float32, gl.SliceLayout(0, OWN))
    if HAS_D:
        skip = gl.load(D_ptr + d, mask=real, other=0.0).to(gl.float32)

    t4 = gl.arange(0, BLOCK_T, layout=gl.SliceLayout(1, gl.SliceLayout(2, gl.SliceLayout(3, FULL))))
    first = (t4 == 0)[:, None, None, None]
    t_x = gl.arange(0, BLOCK_T, layout=gl.SliceLayout(1, OWN))
    t_n = gl.arange(0, BLOCK_T, layout=gl.SliceLayout(1, RAW))
    n = gl.arange(0, NP // BC, layout=gl.SliceLayout(0, RAW))
    tx64 = t_x.to(gl.int64)[:, None]
    tn64 = t_n.to(gl.int64)[:, None]
    u_ptrs = u_ptr + tx64 * s_ut + d[None, :] * s_ud
    dt_ptrs = dt_ptr + tx64 * s_tt + d[None, :] * s_td
    y_ptrs = y_ptr + tx64 * s_yt + d[None, :] * s_yd
    z_ptrs = u_ptrs
    if HAS_Z:
        z_ptrs = z_ptr + tx64 * s_zt + d[None, :] * s_zd
    if BC_WORDS:
        B_ptrs = _words(B_ptr + group * s_bg + tn64 * s_bt) + n[None, :]
        C_ptrs = _words(C_ptr + group * s_cg + tn64 * s_ct) + n[None, :]
    else:
        B_ptrs = B_ptr + group * s_bg + tn64 * s_bt + n[None, :] * s_bn
        C_ptrs = C_ptr + group * s_cg + tn64 * s_ct + n[None, :] * s_cn
    ptrs = (u_ptrs, dt_ptrs, z_ptrs, B_ptrs, C_ptrs)
    steps = (
        BLOCK_T * s_ut,
        BLOCK_T * s_tt,
        BLOCK_T * (s_zt if HAS_Z else s_ut),
        BLOCK_T * s_bt // BC,
        BLOCK_T * s_ct // BC,
    )

    # What a block's recurrence reads passes through shared memory, one block ahead of its use.
    X_SHARED: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0, 1])
    if REGS >= 4:
        BC_SHARED: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [1, 2, 0])
    else:
        BC_SHARED: gl.constexpr = gl.SwizzledSharedLayout(
            4, max(1, 32 // BLOCK_T), max(1, min(8, BLOCK_T // 4)), [0, 2, 1]
        )
    s_delta = (
        gl.allocate_shared_memory(gl.float32, [BLOCK_T, BLOCK_D], X_SHARED),
        gl.allocate_shared_memory(gl.float32, [BLOCK_T, BLOCK_D], X_SHARED),
    )
    s_du = (
        gl.allocate_shared_memory(gl.float32, [BLOCK_T, BLOCK_D], X_SHARED),
        gl.allocate_shared_memory(gl.float32, [BLOCK_T, BLOCK_D], X_SHARED),
    )
    s_B = (
        gl.allocate_shared_memory(gl.float32, [BLOCK_T, REGS, LANES], BC_SHARED),
        gl.allocate_shared_memory(gl.float32, [BLOCK_T, REGS, LANES], BC_SHARED),
    )
    s_C = (
        gl.allocate_shared_memory(gl.float32, [BLOCK_T, REGS, LANES], BC_SHARED),
        gl.allocate_shared_memory(gl.float32, [BLOCK_T, REGS, LANES], BC_SHARED),
    )

    slots = _fetch(ptrs, length, t_x, t_n, n, real, N, EVEN_D, EVEN_N)
    for i in gl.static_range(1, AHEAD):
        ptrs = _advance(ptrs, steps)
        slots = slots + _fetch(ptrs, length - i * BLOCK_T, t_x, t_n, n, real, N, EVEN_D, EVEN_N)
    if not HAS_BIAS:
        bias = gl.zeros([BLOCK_D], gl.float32, gl.SliceLayout(0, OWN))
    left = length
    u, z, delta, du, B, C = _prepare(
        slots[0], slots[1], slots[2], slots[3], slots[4], bias, left, t_x, real,
        B_ptr.dtype.element_ty, C_ptr.dtype.element_ty, LANES, REGS,
        HAS_BIAS, SOFTPLUS, EVEN_D, BC_WORDS,
    )  # fmt: skip
    s_delta[0].store(delta)
    s_du[0].store(du)
    s_B[0].store(B)
    s_C[0].store(C)
    ptrs = _advance(ptrs, steps)
    slots = _fetch(ptrs, left - AHEAD * BLOCK_T, t_x, t_n, n, real, N, EVEN_D, EVEN_N) + slots[5:]
    # Block -1, which nobody stores.
    p_done = gl.zeros([BLOCK_T, BLOCK_D, LANES], gl.float32, gl.SliceLayout(1, FULL))
    u_done = u
    z_done = z
    left_done = left * 0
    y_ptrs -= BLOCK_T * s_yt
    for _ in range(0, length, AHEAD * BLOCK_T):
        for i in gl.static_range(AHEAD):
            delta4 = s_delta[i % 2].load(ALL)[:, None, :, None]
            du4 = s_du[i % 2].load(ALL)[:, None, :, None]
            B4 = s_B[i % 2].load(BCL)[:, :, None, :]
            C4 = s_C[i % 2].load(BCL)[:, :, None, :]
            u_new, z_new, delta, du, B, C = _prepare(
                slots[5 * ((i + 1) % AHEAD)],
                slots[5 * ((i + 1) % AHEAD) + 1],
                slots[5 * ((i + 1) % AHEAD) + 2],
                slots[5 * ((i + 1) % AHEAD) + 3],
                slots[5 * ((i + 1) % AHEAD) + 4],
                bias, left - BLOCK_T, t_x, real,
                B_ptr.dtype.element_ty, C_ptr.dtype.element_ty, LANES, REGS,
                HAS_BIAS, SOFTPLUS, EVEN_D, BC_WORDS,
            )  # fmt: skip
            s_delta[(i + 1) % 2].store(delta)
            s_du[(i + 1) % 2].store(du)
            s_B[(i + 1) % 2].store(B)
            s_C[(i + 1) % 2].store(C)
            ptrs = _advance(ptrs, steps)
            slots = (
                slots[: 5 * ((i + 1) % AHEAD)]
                + _fetch(ptrs, left - (AHEAD + 1) * BLOCK_T, t_x, t_n, n, real, N, EVEN_D, EVEN_N)
                + slots[5 * ((i + 1) % AHEAD) + 5 :]
            )

            a = gl.exp2(delta4 * A2[None, :, :, :])
            x = du4 * B4
            x = gl.where(first, a * h[None, :, :, :] + x, x)
            _, hs = gl.associative_scan((a, x), 0, _compose)
            h = gl.reduce(hs, 0, _keep_last)
            p = gl.sum(hs * C4, 1)

            _finish(
                p_done, u_done, z_done, skip, y_ptrs, left_done, t_x, real, OWN,
                LANES, HAS_D, HAS_Z, EVEN_D,
            )  # fmt: skip
            y_ptrs += BLOCK_T * s_yt
            left_done = left
            left -= BLOCK_T
            p_done = p
            u_done = u
            z_done = z
            u = u_new
            z = z_new
    _finish(
        p_done, u_done, z_done, skip, y_ptrs, left_done, t_x, real, OWN,
        LANES, HAS_D, HAS_Z, EVEN_D,
    )  # fmt: skip

    if HAS_HT:
        gl.store(hT_ptr + (row * G * DG + d3) * N + n3, h, mask=m3)
