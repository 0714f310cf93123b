"""Device code of the rotary embedding and the write into a cache; shapes and formula: `op`."""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl


class Heads(NamedTuple):
    """Strides of (B,L,H,dh) or of a cache, but for the last, which is 1."""

    b: int
    l: int
    h: int


class Form(NamedTuple):
    """Query heads, KV heads, half a head; whether anything is rotated."""

    HQ: int
    HK: int
    HALF: int
    TURN: bool


@triton.jit(do_not_specialize=["length", "start"])
def ssmprof_rope_rotary(
    qkv_ptr, cos_ptr, sin_ptr, q_ptr, k_ptr, v_ptr, position_ptr, length, start, blocks, x_steps,
    table_step, k_steps, v_steps, FORM: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr,
    EACH: tl.constexpr,
):  # fmt: skip
    HQ: tl.constexpr = FORM.HQ
    HK: tl.constexpr = FORM.HK
    HALF: tl.constexpr = FORM.HALF
    token = tl.program_id(0) // blocks
    b = (token // length).to(tl.int64)
    t = (token % length).to(tl.int64)
    h = (tl.program_id(0) % blocks) * HEADS + tl.arange(0, HEADS)
    if not FORM.TURN:
        h += HQ  # queries stay where they are
    n = tl.arange(0, WIDTH)[None, :]
    inside = (h[:, None] < HQ + 2 * HK) & (n < HALF)
    row = t + start
    turn = t
    if EACH:  # every sequence stands elsewhere
        row = t + tl.load(position_ptr + b)
        turn = row
    x = qkv_ptr + b * x_steps.b + t * x_steps.l + h[:, None] * x_steps.h + n
    low = tl.load(x, inside, 0.0).to(tl.float32)
    high = tl.load(x + HALF, inside, 0.0).to(tl.float32)
    if FORM.TURN:
        cos = tl.load(cos_ptr + turn * table_step + n, n < HALF, 0.0).to(tl.float32)
        sin = tl.load(sin_ptr + turn * table_step + n, n < HALF, 0.0).to(tl.float32)
        turned = h[:, None] < HQ + HK
        cos = tl.where(turned, cos, 1.0)
        sin = tl.where(turned, sin, 0.0)
        rotated = low * cos - high * sin
        high = high * cos + low * sin
        low = rotated
        query = inside & (h[:, None] < HQ)
        q = q_ptr + ((b * length + t) * HQ + h[:, None]) * (2 * HALF) + n
        tl.store(q, low.to(q_ptr.dtype.element_ty), query)
        tl.store(q + HALF, high.to(q_ptr.dtype.element_ty), query)
    kh = (h - HQ)[:, None]
    k = k_ptr + b * k_steps.b + row * k_steps.l + kh * k_steps.h + n
    key = inside & (kh >= 0) & (kh < HK)
    tl.store(k, low.to(k_ptr.dtype.element_ty), key)
    tl.store(k + HALF, high.to(k_ptr.dtype.element_ty), key)
    vh = (h - HQ - HK)[:, None]
    v = v_ptr + b * v_steps.b + row * v_steps.l + vh * v_steps.h + n
    value = inside & (vh >= 0)
    tl.store(v, low.to(v_ptr.dtype.element_ty), value)
    tl.store(v + HALF, high.to(v_ptr.dtype.element_ty), value)
