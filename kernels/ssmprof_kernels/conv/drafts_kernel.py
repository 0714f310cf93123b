"""Device code of several tokens per sequence for the short convolution's decode step.

Promises: each channel of a slot belongs to one thread, which reads ahead of what it writes. Meaning
of the arguments: `drafts`.
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
    """Taps, columns of a slot; what is given. PACKED: sequences of their own lengths; EACH: the
    history ends with the last draft that was accepted."""

    W: int
    ROOM: int
    SILU: bool
    BIAS: bool
    OLD: bool
    NEW: bool
    PACKED: bool
    EACH: bool
    EARLY: bool


@triton.jit
def ssmprof_conv_drafts(
    x_ptr, state_ptr, w_ptr, bias_ptr, old_ptr, new_ptr, cu_ptr, accepted_ptr, y_ptr, length, dim,
    pad_index, x_steps, state_steps, w_steps, y_steps, FORM: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    let_next_start(FORM.EARLY)
    W: tl.constexpr = FORM.W
    ROOM: tl.constexpr = FORM.ROOM
    pid = tl.program_id(0)
    n_d = tl.cdiv(dim, BLOCK_D)
    sequence = (pid // n_d).to(tl.int64)
    d = (pid % n_d) * BLOCK_D + tl.arange(0, BLOCK_D)
    mask = d < dim
    d = d.to(tl.int64)
    x_row = x_ptr + d * x_steps.d
    y_row = y_ptr + d * y_steps.d
    count = length
    if FORM.PACKED:
        first = tl.load(cu_ptr + sequence).to(tl.int64)
        count = tl.load(cu_ptr + sequence + 1).to(tl.int32) - first.to(tl.int32)
        x_row += first * x_steps.l
        y_row += first * y_steps.l
    else:
        x_row += sequence * x_steps.b
        y_row += sequence * y_steps.b
    old = sequence
    if FORM.OLD:
        old = tl.load(old_ptr + sequence).to(tl.int64)
        if (old < 0) | (old == pad_index):
            for t in range(count):
                tl.store(y_row + t * y_steps.l, tl.zeros_like(d).to(y_ptr.dtype.element_ty), mask)
            return
    new = old
    kept = count > 0
    if FORM.NEW:
        new = tl.load(new_ptr + sequence).to(tl.int64)
        kept = kept & (new >= 0) & (new != pad_index)
    source = state_ptr + old * state_steps.b + d * state_steps.d
    target = state_ptr + new * state_steps.b + d * state_steps.d
    # The column behind the history.
    behind = tl.full((), ROOM, tl.int32)
    if FORM.EACH:
        behind = tl.maximum(tl.load(accepted_ptr + sequence).to(tl.int32), 1) + W - 2
    taps = load_weights(w_ptr, d, mask, w_steps, W)
    if FORM.BIAS:
        bias = tl.load(bias_ptr + d, mask, 0.0).to(tl.float32)
    for t in range(count):
        acc = tl.zeros((BLOCK_D,), tl.float32)
        for j in tl.static_range(W):
            at = t - (W - 1) + j
            column = source + (behind + at) * state_steps.w
            from_state = tl.load(column, mask & (at < 0), 0.0).to(tl.float32)
            from_x = tl.load(x_row + at * x_steps.l, mask & (at >= 0), 0.0).to(tl.float32)
            acc += (from_state + from_x) * taps[j]
        if FORM.BIAS:
            acc += bias
        y = activate(acc, FORM.SILU).to(y_ptr.dtype.element_ty)
        tl.store(y_row + t * y_steps.l, y, mask)
    # Columns that stay, from the end of the history; then the new inputs.
    stay = ROOM - count
    if FORM.EACH:
        stay = tl.full((), W - 2, tl.int32)
    for s in range(ROOM):
        at = s - stay
        here = mask & kept & (at < count)
        from_state = tl.load(source + (behind + at) * state_steps.w, here & (at < 0), 0.0)
        from_x = tl.load(x_row + at * x_steps.l, here & (at >= 0), 0.0)
        value = tl.where(at < 0, from_state, from_x.to(state_ptr.dtype.element_ty))
        tl.store(target + s * state_steps.w, value, here)
