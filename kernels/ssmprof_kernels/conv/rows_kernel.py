"""Device code of the short causal convolution where tokens are contiguous in memory.

Promises: reads and writes whole vectors of tokens; the results of `kernels`.
"""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportAssignmentType=false

from __future__ import annotations

import triton
import triton.language as tl

from ssmprof_kernels.conv.kernels import activate, final_state, load_weights


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
def ssmprof_conv_rows(
    x_ptr, w_ptr, bias_ptr, init_ptr, y_ptr, final_ptr, length, dim, n_main, n_sequences,
    x_steps, w_steps, init_steps, y_steps, FORM: tl.constexpr, TILE: tl.constexpr,
    LOG_U: tl.constexpr,
):  # fmt: skip
    """Tokens contiguous in memory: a thread takes 2**LOG_U of them as one vector, and the vector
    before for its halo, which its neighbour has just brought into the first cache."""
    W: tl.constexpr = FORM.W
    U: tl.constexpr = TILE.U
    tl.static_assert(U >= W - 1)
    pid = tl.program_id(0)
    if FORM.FINAL:
        if pid >= n_main:
            final_state(
                x_ptr, init_ptr, None, None, final_ptr, pid - n_main, length, dim, x_steps,
                init_steps, None, FORM, TILE.D,
            )  # fmt: skip
            return
    # Tokens run fastest over the grid, as they do in memory.
    n_l = tl.cdiv(length, TILE.L)
    n_d = tl.cdiv(dim, TILE.D)
    rest = pid // n_l
    row = (rest // n_d).to(tl.int64)
    d = (rest % n_d) * TILE.D + tl.arange(0, TILE.D)
    d64 = d.to(tl.int64)
    in_d = d < dim
    t = (pid % n_l) * TILE.L + tl.arange(0, TILE.L)
    x_tile = x_ptr + row * x_steps.b + d64[:, None] * x_steps.d + t[None, :]
    here = tl.load(x_tile, in_d[:, None] & (t < length)[None, :], 0.0)
    halo = tl.load(x_tile - U, in_d[:, None] & ((t >= U) & (t < length + U))[None, :], 0.0)
    values = _apart(halo, LOG_U)[U - (W - 1) :] + _apart(here, LOG_U)
    if FORM.INIT:
        # Only a row's first vector has taps before it.
        start = (pid % n_l) * TILE.L + tl.arange(0, TILE.L // U) * U == 0
        inits = ()
        for k in tl.static_range(W - 1):
            older = tl.load(
                init_ptr + row * init_steps.b + d64[:, None] * init_steps.d + k * init_steps.w
                + tl.zeros([1, TILE.L // U], tl.int32),
                in_d[:, None] & start[None, :], 0.0,
            )  # fmt: skip
            inits = inits + (tl.where(start[None, :], older.to(here.dtype), values[k]),)
        values = inits + values[W - 1 :]
    taps = load_weights(w_ptr, d64, in_d, w_steps, W)
    if FORM.BIAS:
        bias = tl.load(bias_ptr + d, in_d, 0.0).to(tl.float32)
    outputs = ()
    for u in tl.static_range(U):
        acc = values[u].to(tl.float32) * taps[0][:, None]
        if FORM.BIAS:
            acc += bias[:, None]
        for j in tl.static_range(1, W):
            acc += values[u + j].to(tl.float32) * taps[j][:, None]
        outputs = outputs + (activate(acc, FORM.SILU).to(y_ptr.dtype.element_ty),)
    y_tile = y_ptr + row * y_steps.b + d64[:, None] * y_steps.d + t[None, :]
    tl.store(y_tile, _together(outputs, LOG_U), in_d[:, None] & (t < length)[None, :])
