"""Device code of the grouped RMS norm: rows in registers, read once and written once.

Formula and shapes: `op`.
"""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from ssmprof_kernels.device.math import sigmoid_by_rsqrt, silu_by_rsqrt


class Rows(NamedTuple):
    """Strides of (outer, inner, D)."""

    o: int
    i: int
    d: int


class Form(NamedTuple):
    """Whether there is a gate, and the norm before it; a bias; a mean that is subtracted; whether
    the gate is the sigmoid."""

    Z: bool
    BEFORE: bool
    BIAS: bool
    MEAN: bool
    SIGMOID: bool


@triton.jit
def ssmprof_norm_gated_rms(
    x_ptr, z_ptr, w_ptr, bias_ptr, y_ptr, n_rows, inner, size, groups, eps, x_steps, z_steps,
    y_steps, w_step, bias_step, FORM: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # A row here is one group of one token; groups of a token are neighbours.
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    alive = r < n_rows
    token = r // groups
    outer = (token // inner)[:, None]
    within = (token % inner)[:, None]
    n = tl.arange(0, BLOCK)
    d = ((r % groups) * size)[:, None] + n[None, :]
    mask = alive[:, None] & (n < size)[None, :]
    x = tl.load(x_ptr + outer * x_steps.o + within * x_steps.i + d * x_steps.d, mask, 0.0)
    x = x.to(tl.float32)
    if FORM.Z:
        z = tl.load(z_ptr + outer * z_steps.o + within * z_steps.i + d * z_steps.d, mask, 0.0)
        gate = z.to(tl.float32)
        gate = sigmoid_by_rsqrt(gate) if FORM.SIGMOID else silu_by_rsqrt(gate)
        if not FORM.BEFORE:
            x *= gate
    if FORM.MEAN:
        x = tl.where(mask, x - (tl.sum(x, axis=1) / size)[:, None], 0.0)
    weight = tl.load(w_ptr + d * w_step, mask, 0.0).to(tl.float32)
    scale = tl.math.rsqrt(tl.sum(x * x, axis=1) / size + eps)
    y = x * scale[:, None] * weight
    if FORM.BIAS:
        y += tl.load(bias_ptr + d * bias_step, mask, 0.0).to(tl.float32)
    if FORM.Z:
        if FORM.BEFORE:
            y *= gate
    y_tile = y_ptr + outer * y_steps.o + within * y_steps.i + d * y_steps.d
    tl.store(y_tile, y.to(y_ptr.dtype.element_ty), mask)
