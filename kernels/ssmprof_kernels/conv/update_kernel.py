"""Device code of one decode step of the short convolution.

Promises: each channel of a slot belongs to one thread, which reads all taps before it writes any.
Formula and shapes: `update`.
"""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportIndexIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from ssmprof_kernels.conv.kernels import activate, load_weights
from ssmprof_kernels.device.overlap import let_next_start


class Form(NamedTuple):
    """Taps, columns of a slot; what is given. ONE: a single new token per row."""

    W: int
    ROOM: int
    SILU: bool
    BIAS: bool
    GATHERED: bool
    RING: bool
    ONE: bool
    EARLY: bool


@triton.jit
def ssmprof_conv_update(
    x_ptr, state_ptr, w_ptr, bias_ptr, index_ptr, at_ptr, y_ptr, length, dim, pad_index, x_steps,
    state_steps, w_steps, y_steps, FORM: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    let_next_start(FORM.EARLY)
    W: tl.constexpr = FORM.W
    ROOM: tl.constexpr = FORM.ROOM
    pid = tl.program_id(0)
    n_d = tl.cdiv(dim, BLOCK_D)
    row = (pid // n_d).to(tl.int64)
    d = (pid % n_d) * BLOCK_D + tl.arange(0, BLOCK_D)
    mask = d < dim
    d = d.to(tl.int64)
    x_row = x_ptr + row * x_steps.b + d * x_steps.d
    y_row = y_ptr + row * y_steps.b + d * y_steps.d
    slot = row
    if FORM.GATHERED:
        slot = tl.load(index_ptr + row).to(tl.int64)
        if (slot < 0) | (slot == pad_index):
            for t in range(length):
                tl.store(y_row + t * y_steps.l, tl.zeros_like(d).to(y_ptr.dtype.element_ty), mask)
            return
    state = state_ptr + slot * state_steps.b + d * state_steps.d
    start = tl.zeros((), tl.int32)
    if FORM.RING:
        start = tl.load(at_ptr + row).to(tl.int32)
    taps = load_weights(w_ptr, d, mask, w_steps, W)
    if FORM.BIAS:
        bias = tl.load(bias_ptr + d, mask, 0.0).to(tl.float32)
    if FORM.ONE and not FORM.RING:
        kept = ()
        for s in tl.static_range(ROOM):
            kept = kept + (tl.load(state + s * state_steps.w, mask, 0.0),)
        only = tl.load(x_row, mask, 0.0)
        acc = only.to(tl.float32) * taps[W - 1]
        for j in tl.static_range(W - 1):
            acc += kept[ROOM - W + 1 + j].to(tl.float32) * taps[j]
        if FORM.BIAS:
            acc += bias
        tl.store(y_row, activate(acc, FORM.SILU).to(y_ptr.dtype.element_ty), mask)
        for s in tl.static_range(ROOM - 1):
            tl.store(state + s * state_steps.w, kept[s + 1], mask)
        tl.store(state + (ROOM - 1) * state_steps.w, only.to(state_ptr.dtype.element_ty), mask)
        return
    for t in range(length):
        acc = tl.zeros((BLOCK_D,), tl.float32)
        for j in tl.static_range(W):
            at = t - (W - 1) + j
            old = ROOM + at
            if FORM.RING:
                old = (start + at + ROOM) % ROOM
            from_state = tl.load(state + old * state_steps.w, mask & (at < 0), 0.0).to(tl.float32)
            from_x = tl.load(x_row + at * x_steps.l, mask & (at >= 0), 0.0).to(tl.float32)
            acc += (from_state + from_x) * taps[j]
        if FORM.BIAS:
            acc += bias
        tl.store(y_row + t * y_steps.l, activate(acc, FORM.SILU).to(y_ptr.dtype.element_ty), mask)
    # Only now is the state overwritten: every tap above has been read, and each channel belongs to
    # one thread, so ascending order shifts safely in place.
    if FORM.RING:
        for t in range(length):
            new = tl.load(x_row + t * x_steps.l, mask, 0.0).to(state_ptr.dtype.element_ty)
            tl.store(state + ((start + t) % ROOM) * state_steps.w, new, mask)
    else:
        for s in range(ROOM):
            at = s + length
            from_state = tl.load(state + at * state_steps.w, mask & (at < ROOM), 0.0)
            from_x = tl.load(x_row + (at - ROOM) * x_steps.l, mask & (at >= ROOM), 0.0)
            new = tl.where(at < ROOM, from_state, from_x.to(state_ptr.dtype.element_ty))
            tl.store(state + s * state_steps.w, new, mask)
