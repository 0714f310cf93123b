"""The Triton kernels of the short causal convolution, and the pieces its update shares.

Promises: one program per tile of tokens and channels; with U > 1 a thread takes U tokens in a row
and reads each input once for all of them. Shapes and formula: `op`.
"""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportAssignmentType=false

from __future__ import annotations

import triton
import triton.language as tl

_LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def activate(acc, SILU: tl.constexpr):
    """silu(acc) in fp32, or acc itself."""
    if SILU:
        # sigmoid(v) = rsqrt(1 + 2^(-v log2 e))^2: two fast instructions, no division.
        half = tl.math.rsqrt(1.0 + tl.exp2(acc * -_LOG2E))
        acc = acc * half * half
    return acc


@triton.jit
def load_weights(w_ptr, d, mask, stride_d, stride_w, W: tl.constexpr):
    """The W columns of a (D,W) filter for channels `d`, as fp32."""
    taps = ()
    for j in tl.static_range(W):
        taps = taps + (tl.load(w_ptr + d * stride_d + j * stride_w, mask, 0.0).to(tl.float32),)
    return taps


@triton.jit
def _sequence_of(cu_ptr, t, n_sequences, SEARCH: tl.constexpr):
    """Index n with cu[n] <= t < cu[n+1], per token; empty sequences are stepped over."""
    low = tl.zeros_like(t).to(tl.int32)
    high = low + n_sequences
    for _ in tl.static_range(SEARCH):
        middle = (low + high) // 2
        right = tl.load(cu_ptr + middle) <= t
        low = tl.where(right, middle, low)
        high = tl.where(right, high, middle)
    return low


@triton.jit
def _end_of_last(ids_ptr, first, end, stride, BLOCK: tl.constexpr):
    """First token behind the last one of first .. end whose id is no padding; `first` if none."""
    at = end
    found = first
    while (at > first) & (found == first):
        at -= BLOCK
        t = at + tl.arange(0, BLOCK)
        ids = tl.load(ids_ptr + t.to(tl.int64) * stride, (t >= first) & (t < end), -1)
        found = tl.maximum(first, tl.max(tl.where(ids >= 0, t + 1, first), 0))
    return found


@triton.jit
def _final_state(
    x_ptr, init_ptr, ids_ptr, cu_ptr, final_ptr, pid, length, dim,
    stride_xb, stride_xl, stride_xd, stride_ib, stride_id, stride_iw,
    stride_sb, stride_sl,
    W: tl.constexpr, HAS_INIT: tl.constexpr, HAS_IDS: tl.constexpr, PACKED: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    n_d = tl.cdiv(dim, BLOCK_D)
    n = (pid // n_d).to(tl.int64)
    d = (pid % n_d) * BLOCK_D + tl.arange(0, BLOCK_D)
    in_d = d < dim
    if PACKED:
        first = tl.minimum(tl.load(cu_ptr + n), length)
        end = tl.minimum(tl.load(cu_ptr + n + 1), length)
        row = n * 0
    else:
        first = 0
        end = length
        row = n
    d64 = d.to(tl.int64)
    if HAS_IDS:
        end = _end_of_last(ids_ptr + row * stride_sb, first, end, stride_sl, 256)
    keep = end > first
    for behind in tl.static_range(W - 1):
        t = end - 1 - behind
        inside = t >= first
        value = tl.load(
            x_ptr + row * stride_xb + t.to(tl.int64) * stride_xl + d64 * stride_xd,
            in_d & inside, 0.0,
        )  # fmt: skip
        if HAS_INIT:
            older = tl.load(
                init_ptr + n * stride_ib + d64 * stride_id + (t - first + W - 1) * stride_iw,
                in_d & (t < first), 0.0,
            )  # fmt: skip
            value = tl.where(inside, value, older.to(value.dtype))
        if HAS_IDS:
            last = ids_ptr + row * stride_sb + (end - 1) * stride_sl
            this = ids_ptr + row * stride_sb + tl.maximum(t, first) * stride_sl
            some = end > first
            keep = keep & (tl.load(this, some, 0) == tl.load(last, some, 0))
            value = tl.where(keep | (end == first), value, 0.0)
        tl.store(final_ptr + (n * dim + d64) * (W - 1) + (W - 2 - behind), value, in_d)


@triton.jit
def _conv_kernel(
    x_ptr, w_ptr, bias_ptr, init_ptr, ids_ptr, cu_ptr, y_ptr, final_ptr,
    length, dim, n_main, n_sequences,
    stride_xb, stride_xl, stride_xd, stride_wd, stride_ww,
    stride_ib, stride_id, stride_iw, stride_sb, stride_sl,
    stride_yb, stride_yl, stride_yd,
    W: tl.constexpr, SILU: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_INIT: tl.constexpr,
    HAS_IDS: tl.constexpr, PACKED: tl.constexpr, HAS_FINAL: tl.constexpr,
    SEARCH: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_D: tl.constexpr, U: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    if HAS_FINAL:
        if pid >= n_main:
            _final_state(
                x_ptr, init_ptr, ids_ptr, cu_ptr, final_ptr, pid - n_main, length, dim,
                stride_xb, stride_xl, stride_xd, stride_ib, stride_id, stride_iw,
                stride_sb, stride_sl, W, HAS_INIT, HAS_IDS, PACKED, BLOCK_D,
            )  # fmt: skip
            return
    # Channels run fastest over the grid: neighbours in time of launch are neighbours in memory.
    n_d = tl.cdiv(dim, BLOCK_D)
    n_l = tl.cdiv(length, BLOCK_L)
    d = (pid % n_d) * BLOCK_D + tl.arange(0, BLOCK_D)
    rest = pid // n_d
    row = (rest // n_l).to(tl.int64)
    ROWS: tl.constexpr = BLOCK_L // U
    t = (rest % n_l) * BLOCK_L + tl.arange(0, ROWS) * U
    in_d = d < dim
    d64 = d.to(tl.int64)
    t64 = t.to(tl.int64)
    x_tile = x_ptr + row * stride_xb + t64[:, None] * stride_xl + d64[None, :] * stride_xd
    y_tile = y_ptr + row * stride_yb + t64[:, None] * stride_yl + d64[None, :] * stride_yd

    first = tl.zeros_like(t)
    n = row
    if PACKED:
        n = _sequence_of(cu_ptr, tl.minimum(t, length - 1), n_sequences, SEARCH)
        first = tl.load(cu_ptr + n)
        n = n.to(tl.int64)[:, None]
    same = t < length
    # Whether a token has a y; one outside of all sequences and padding have 0.
    counts = same
    if PACKED:
        counts = (t >= first) & (t < tl.load(cu_ptr + n_sequences))
    if HAS_IDS:
        mine = tl.load(ids_ptr + row * stride_sb + t64 * stride_sl, same, 0)
        counts = counts & (mine >= 0)

    # Rows of the tile: inputs -(W-1) .. U-1 relative to each thread's first token.
    values = ()
    for k in tl.static_range(U + W - 1):
        at = t - (W - 1 - k)
        if U == 1 and HAS_IDS and k < W - 1:
            # An id that differs anywhere on the way to this tap cuts it off; the walk goes from
            # the far tap to the near one, so each tap checks every token between.
            for s in tl.static_range(1, W - k):
                other = tl.load(
                    ids_ptr + row * stride_sb + tl.maximum(t64 - s, first) * stride_sl,
                    t < length, 0,
                )  # fmt: skip
                if s == 1:
                    same = other == mine
                else:
                    same = same & (other == mine)
        alive = (at >= first) & (at < length)
        if U == 1 and HAS_IDS and k < W - 1:
            alive = alive & same
        value = tl.load(x_tile - (W - 1 - k) * stride_xl, alive[:, None] & in_d[None, :], 0.0)
        if HAS_INIT and k < W - 1:
            early = (at < first) & (t < length)
            if U == 1 and HAS_IDS:
                early = early & same
            older = tl.load(
                init_ptr + n * stride_ib + d64[None, :] * stride_id
                + (at - first + W - 1)[:, None] * stride_iw,
                early[:, None] & in_d[None, :], 0.0,
            )  # fmt: skip
            value = tl.where(early[:, None], older.to(value.dtype), value)
        values = values + (value.to(tl.float32),)

    taps = load_weights(w_ptr, d64, in_d, stride_wd, stride_ww, W)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + d, in_d, 0.0).to(tl.float32)
    for u in tl.static_range(U):
        acc = values[u] * taps[0][None, :]
        if HAS_BIAS:
            acc += bias[None, :]
        for j in tl.static_range(1, W):
            acc += values[u + j] * taps[j][None, :]
        acc = activate(acc, SILU)
        if PACKED or HAS_IDS:
            acc = tl.where(counts[:, None], acc, 0.0)
        mask = (t + u < length)[:, None] & in_d[None, :]
        tl.store(y_tile + u * stride_yl, acc.to(y_ptr.dtype.element_ty), mask)


@triton.jit
def _apart(tile, LOG: tl.constexpr):
    """(R, C) as 2**LOG tensors (R, C / 2**LOG): columns c with the same c % 2**LOG, in order."""
    ROWS: tl.constexpr = tile.shape[0]
    FEW: tl.constexpr = tile.shape[1] >> LOG
    shape: tl.constexpr = [ROWS, FEW] + [2] * LOG
    parts = (tl.reshape(tile, shape),)
    # Bit by bit from the lowest; what is split off last counts most.
    for level in tl.static_range(LOG):
        zeros = ()
        ones = ()
        for i in tl.static_range(2**level):
            zero, one = tl.split(parts[i])
            zeros = zeros + (zero,)
            ones = ones + (one,)
        parts = zeros + ones
    return parts


@triton.jit
def _together(parts, LOG: tl.constexpr):
    """The inverse of `_apart`."""
    for level in tl.static_range(LOG):
        joined = ()
        for i in tl.static_range(2 ** (LOG - 1 - level)):
            joined = joined + (tl.join(parts[i], parts[i + 2 ** (LOG - 1 - level)]),)
        parts = joined
    tile = parts[0]
    return tl.reshape(tile, [tile.shape[0], tile.shape[1] * 2**LOG])


@triton.jit
def _causal_conv_rows_kernel(
    x_ptr, w_ptr, bias_ptr, init_ptr, y_ptr, final_ptr, length, dim, n_main, n_sequences,
    stride_xb, stride_xd, stride_wd, stride_ww, stride_ib, stride_id, stride_iw,
    stride_yb, stride_yd,
    W: tl.constexpr, SILU: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_INIT: tl.constexpr,
    HAS_FINAL: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_D: tl.constexpr, LOG_U: tl.constexpr,
):  # fmt: skip
    """Tokens contiguous in memory: a thread takes 2**LOG_U of them as one vector, and the vector
    before for its halo, which its neighbour has just brought into the first cache."""
    U: tl.constexpr = 2**LOG_U
    tl.static_assert(U >= W - 1)
    pid = tl.program_id(0)
    if HAS_FINAL:
        if pid >= n_main:
            _final_state(
                x_ptr, init_ptr, None, None, final_ptr, pid - n_main, length, dim,
                stride_xb, 1, stride_xd, stride_ib, stride_id, stride_iw, 0, 0,
                W, HAS_INIT, False, False, BLOCK_D,
            )  # fmt: skip
            return
    # Tokens run fastest over the grid, as they do in memory.
    n_l = tl.cdiv(length, BLOCK_L)
    n_d = tl.cdiv(dim, BLOCK_D)
    rest = pid // n_l
    row = (rest // n_d).to(tl.int64)
    d = (rest % n_d) * BLOCK_D + tl.arange(0, BLOCK_D)
    d64 = d.to(tl.int64)
    in_d = d < dim
    t = (pid % n_l) * BLOCK_L + tl.arange(0, BLOCK_L)
    x_tile = x_ptr + row * stride_xb + d64[:, None] * stride_xd + t[None, :]
    here = tl.load(x_tile, in_d[:, None] & (t < length)[None, :], 0.0)
    halo = tl.load(x_tile - U, in_d[:, None] & ((t >= U) & (t < length + U))[None, :], 0.0)
    values = _apart(halo, LOG_U)[U - (W - 1) :] + _apart(here, LOG_U)
    if HAS_INIT:
        # Only a row's first vector has taps before it.
        start = (pid % n_l) * BLOCK_L + tl.arange(0, BLOCK_L // U) * U == 0
        inits = ()
        for k in tl.static_range(W - 1):
            older = tl.load(
                init_ptr + row * stride_ib + d64[:, None] * stride_id + k * stride_iw
                + tl.zeros([1, BLOCK_L // U], tl.int32),
                in_d[:, None] & start[None, :], 0.0,
            )  # fmt: skip
            inits = inits + (tl.where(start[None, :], older.to(here.dtype), values[k]),)
        values = inits + values[W - 1 :]
    taps = load_weights(w_ptr, d64, in_d, stride_wd, stride_ww, W)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + d, in_d, 0.0).to(tl.float32)
    outputs = ()
    for u in tl.static_range(U):
        acc = values[u].to(tl.float32) * taps[0][:, None]
        if HAS_BIAS:
            acc += bias[:, None]
        for j in tl.static_range(1, W):
            acc += values[u + j].to(tl.float32) * taps[j][:, None]
        outputs = outputs + (activate(acc, SILU).to(y_ptr.dtype.element_ty),)
    y_tile = y_ptr + row * stride_yb + d64[:, None] * stride_yd + t[None, :]
    tl.store(y_tile, _together(outputs, LOG_U), in_d[:, None] & (t < length)[None, :])
