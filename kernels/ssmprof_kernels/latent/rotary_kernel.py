"""Device code of `latent_rotary`: one program for a token's row, the others for its heads.

Promises: whoever stores an element has loaded all that it depends on, so that results may take the
place of the inputs; fp32 in registers. Formula and shapes: `rotary`.
"""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl


class Heads(NamedTuple):
    """Strides of (B, L, H, D)."""

    b: int
    l: int
    h: int
    d: int


class Rows(NamedTuple):
    """Strides of (B, L, r + dr)."""

    b: int
    l: int
    d: int


class Angles(NamedTuple):
    """Strides of (L, dr / 2)."""

    l: int
    d: int


@triton.jit
def _move(x, y, x_step, y_step, cos, sin, alive, HALF: tl.constexpr, TURN: tl.constexpr):
    """Pairs of features n and n + HALF from tile `x` to tile `y`, turned; else features alone."""
    low = tl.load(x, alive, 0.0)
    if TURN:
        low = low.to(tl.float32)
        high = tl.load(x + HALF * x_step, alive, 0.0).to(tl.float32)
        turned = low * cos - high * sin
        high = high * cos + low * sin
        tl.store(y, turned.to(y.dtype.element_ty), alive)
        tl.store(y + HALF * y_step, high.to(y.dtype.element_ty), alive)
    else:
        tl.store(y, low, alive)


@triton.jit(do_not_specialize=["length"])
def ssmprof_rope_latent(
    q_ptr, row_ptr, w_ptr, cos_ptr, sin_ptr, q_out_ptr, row_out_ptr, position_ptr, length, heads,
    eps, q_skip, q_out_skip, q_steps, row_steps, w_step, cos_steps, sin_steps, q_out_steps,
    row_out_steps, BLOCKS: tl.constexpr, RANK: tl.constexpr, HALF: tl.constexpr,
    TURN: tl.constexpr, EACH: tl.constexpr, HEADS: tl.constexpr, BLOCK_R: tl.constexpr,
    BLOCK_T: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0) // (BLOCKS + 1)
    part = tl.program_id(0) % (BLOCKS + 1)
    b = (token // length).to(tl.int64)
    t = (token % length).to(tl.int64)
    at = t
    if EACH:  # every sequence stands elsewhere
        at += tl.load(position_ptr + b)
    n = tl.arange(0, BLOCK_T)[None, :]
    cos = 1.0
    sin = 0.0
    if TURN:
        cos = tl.load(cos_ptr + at * cos_steps.l + n * cos_steps.d, n < HALF, 0.0).to(tl.float32)
        sin = tl.load(sin_ptr + at * sin_steps.l + n * sin_steps.d, n < HALF, 0.0).to(tl.float32)
    if part == BLOCKS:
        row = row_ptr + b * row_steps.b + t * row_steps.l
        out = row_out_ptr + b * row_out_steps.b + at * row_out_steps.l
        r = tl.arange(0, BLOCK_R)
        c = tl.load(row + r * row_steps.d, r < RANK, 0.0).to(tl.float32)
        weight = tl.load(w_ptr + r * w_step, r < RANK, 0.0).to(tl.float32)
        normed = c * tl.math.rsqrt(tl.sum(c * c, axis=0) / RANK + eps) * weight
        tl.store(out + r * row_out_steps.d, normed.to(row_out_ptr.dtype.element_ty), r < RANK)
        _move(
            row + (RANK + n) * row_steps.d, out + (RANK + n) * row_out_steps.d, row_steps.d,
            row_out_steps.d, cos, sin, n < HALF, HALF, TURN,
        )  # fmt: skip
    else:
        h = (part * HEADS + tl.arange(0, HEADS))[:, None].to(tl.int64)
        x = q_ptr + b * q_steps.b + t * q_steps.l + h * q_steps.h + (q_skip + n) * q_steps.d
        y = q_out_ptr + b * q_out_steps.b + t * q_out_steps.l + h * q_out_steps.h
        y += (q_out_skip + n) * q_out_steps.d
        _move(
            x, y, q_steps.d, q_out_steps.d, cos, sin, (h < heads) & (n < HALF), HALF, TURN
        )  # fmt: skip
