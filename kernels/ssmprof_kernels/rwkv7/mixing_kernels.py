"""Device code of what stands around RWKV-7's rule: shift, keys, output.

Promises: each input is read from memory once, each output written once; fp32 in registers. A
program works on one token (the shift: on a few) and some of its heads or features. Formulas and
shapes: `shift`, `keys`, `output`.
"""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from ssmprof_kernels.device.math import sigmoid_by_rsqrt


class Row(NamedTuple):
    """Strides of (B, d)."""

    b: int
    d: int


class Features(NamedTuple):
    """Strides of (B, L, H K), heads side by side."""

    b: int
    l: int
    d: int


def features(tensor: Tensor | None) -> Features:
    """Strides of (B, L, H K) or (B, H K); zeros where there is none."""
    if tensor is None:
        return Features(0, 0, 0)
    between = tensor.stride(1) if tensor.dim() == 3 else 0
    return Features(tensor.stride(0), between, tensor.stride(-1))


@triton.jit
def ssmprof_elementwise_token_shift(
    x_ptr, mix_ptr, last_ptr, out_ptr, length, tokens, width, blocks, x_steps, mix_steps,
    last_steps, M: tl.constexpr, RESUMED: tl.constexpr, TOKENS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    tiles = (length + TOKENS - 1) // TOKENS
    n = ((pid % blocks) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    tile = (pid // blocks) % tiles
    b = (pid // blocks // tiles).to(tl.int64)
    t = (tile * TOKENS + tl.arange(0, TOKENS)).to(tl.int64)[:, None]
    inside = n < width
    mine = (t < length) & inside[None, :]
    columns = x_ptr + b * x_steps.b + n * x_steps.d
    at = columns[None, :] + t * x_steps.l
    x = tl.load(at, mine, 0.0).to(tl.float32)
    before = tl.load(at - x_steps.l, mine & (t > 0), 0.0).to(tl.float32)
    if tile == 0:
        # Who reads the token before is the one who overwrites it.
        row = last_ptr + b * last_steps.b + n * last_steps.d
        if RESUMED:
            kept = tl.load(row, inside, 0.0).to(tl.float32)
            before = tl.where(t == 0, kept[None, :], before)
        final = tl.load(columns + tl.cast(length - 1, tl.int64) * x_steps.l, inside, 0.0)
        tl.store(row, final.to(last_ptr.dtype.element_ty), inside)
    before -= x
    for m in tl.static_range(M):
        mix = tl.load(mix_ptr + m * mix_steps.b + n * mix_steps.d, inside, 0.0).to(tl.float32)
        mixed = x + before * mix[None, :]
        out = out_ptr + (b * length + t + m * tokens) * width + n[None, :]
        tl.store(out, mixed.to(out_ptr.dtype.element_ty), mine)


@triton.jit
def ssmprof_elementwise_rwkv7_keys(
    w_ptr, k_ptr, a_ptr, v_ptr, v_first_ptr, share_ptr, removed_ptr, added_ptr, out_ptr, length,
    tokens, blocks, lowest, w_steps, k_steps, a_steps, v_steps, v_first_steps, share_steps,
    removed_step, added_step, H: tl.constexpr, K: tl.constexpr, HEADS: tl.constexpr,
    BK: tl.constexpr, MIXED: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0) // blocks
    h = (tl.program_id(0) % blocks) * HEADS + tl.arange(0, HEADS)
    j = tl.arange(0, BK)
    mine = (h < H)[:, None] & (j < K)[None, :]
    n = (h[:, None] * K + j[None, :]).to(tl.int64)
    b, t = (token // length).to(tl.int64), (token % length).to(tl.int64)
    k = tl.load(k_ptr + b * k_steps.b + t * k_steps.l + n * k_steps.d, mine, 0.0).to(tl.float32)
    w = tl.load(w_ptr + b * w_steps.b + t * w_steps.l + n * w_steps.d, mine, 0.0).to(tl.float32)
    a = tl.load(a_ptr + b * a_steps.b + t * a_steps.l + n * a_steps.d, mine, 0.0).to(tl.float32)
    removed = tl.load(removed_ptr + n * removed_step, mine, 0.0).to(tl.float32)
    added = tl.load(added_ptr + n * added_step, mine, 0.0).to(tl.float32)
    kk = k * removed
    size = tl.sqrt(tl.sum(kk * kk, axis=1))
    kk = kk / tl.maximum(size, 1e-12, propagate_nan=tl.PropagateNan.ALL)[:, None]
    a = sigmoid_by_rsqrt(a)
    k += (a - 1.0) * k * added
    to = out_ptr.dtype.element_ty
    every = tokens * tl.cast(H * K, tl.int64)  # elements of one output
    out = out_ptr + token.to(tl.int64) * (H * K) + n
    tl.store(out, (lowest * sigmoid_by_rsqrt(w)).to(to), mine)
    tl.store(out + every, k.to(to), mine)
    tl.store(out + 2 * every, kk.to(to), mine)
    tl.store(out + 3 * every, a.to(to), mine)
    if MIXED:
        first = v_first_ptr + b * v_first_steps.b + t * v_first_steps.l + n * v_first_steps.d
        share = share_ptr + b * share_steps.b + t * share_steps.l + n * share_steps.d
        v = tl.load(v_ptr + b * v_steps.b + t * v_steps.l + n * v_steps.d, mine, 0.0)
        v = v.to(tl.float32)
        towards = tl.load(first, mine, 0.0).to(tl.float32) - v
        v += towards * sigmoid_by_rsqrt(tl.load(share, mine, 0.0).to(tl.float32))
        tl.store(out + 4 * every, v.to(to), mine)


@triton.jit
def ssmprof_norm_rwkv7_output(
    y_ptr, r_ptr, k_ptr, v_ptr, gate_ptr, weight_ptr, bonus_ptr, bias_ptr, out_ptr, length, blocks,
    eps, y_steps, r_steps, k_steps, v_steps, gate_steps, weight_step, bonus_step, bias_step,
    H: tl.constexpr, K: tl.constexpr, HEADS: tl.constexpr, BK: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0) // blocks
    h = (tl.program_id(0) % blocks) * HEADS + tl.arange(0, HEADS)[:, None]
    j = tl.arange(0, BK)[None, :]
    mine = (h < H) & (j < K)
    n = (h * K + j).to(tl.int64)
    h, j = h.to(tl.int64), j.to(tl.int64)
    b, t = (token // length).to(tl.int64), (token % length).to(tl.int64)
    y_at = y_ptr + b * y_steps.b + t * y_steps.l + h * y_steps.h + j * y_steps.k
    r_at = r_ptr + b * r_steps.b + t * r_steps.l + h * r_steps.h + j * r_steps.k
    k_at = k_ptr + b * k_steps.b + t * k_steps.l + h * k_steps.h + j * k_steps.k
    v_at = v_ptr + b * v_steps.b + t * v_steps.l + h * v_steps.h + j * v_steps.k
    gate_at = gate_ptr + b * gate_steps.b + t * gate_steps.l + n * gate_steps.d
    y = tl.load(y_at, mine, 0.0).to(tl.float32)
    bonus = tl.load(r_at, mine, 0.0).to(tl.float32) * tl.load(k_at, mine, 0.0).to(tl.float32)
    bonus *= tl.load(bonus_ptr + n * bonus_step, mine, 0.0).to(tl.float32)
    v = tl.load(v_at, mine, 0.0).to(tl.float32)
    gate = tl.load(gate_at, mine, 0.0).to(tl.float32)
    y = tl.where(mine, y - (tl.sum(y, axis=1) / K)[:, None], 0.0)
    y *= tl.math.rsqrt(tl.sum(y * y, axis=1) / K + eps)[:, None]
    y *= tl.load(weight_ptr + n * weight_step, mine, 0.0).to(tl.float32)
    if BIAS:
        y += tl.load(bias_ptr + n * bias_step, mine, 0.0).to(tl.float32)
    y = (y + tl.sum(bonus, axis=1)[:, None] * v) * gate
    out = out_ptr + token.to(tl.int64) * (H * K) + n
    tl.store(out, y.to(out_ptr.dtype.element_ty), mine)
