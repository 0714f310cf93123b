"""Rotary embedding in plain torch (arXiv:2104.09864, the half-split form); shapes: `op`."""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x (B, L, heads, dh) by cos, sin (L, dh/2), or (B, L, dh/2) where sequences differ;
    three element-wise passes, no copies."""
    halves = x.unflatten(-1, (2, -1))
    cos, sin = cos[..., None, :], sin[..., None, :]
    out = halves * cos[..., None, :]
    out[..., 0, :].addcmul_(halves[..., 1, :], sin, value=-1)
    out[..., 1, :].addcmul_(halves[..., 0, :], sin)
    return out.flatten(-2)


def rotary(
    qkv: Tensor,
    cos: Tensor | None,
    sin: Tensor | None,
    k_cache: Tensor,
    v_cache: Tensor,
    start: int,
    *,
    positions: Tensor | None = None,
) -> Tensor:
    """Rotate queries and keys of qkv (B, L, Hq + 2 Hk, dh) and cache keys and values.

    Keys and values go to rows start .. start + L of the caches (B, rows, Hk, dh). With `positions`
    (B) the tokens of each sequence stand there, in tables of all positions. Returns the queries
    (B, L, Hq, dh).
    """
    length, kv_heads = qkv.shape[1], k_cache.shape[2]
    rows = (slice(None), slice(start, start + length))
    if positions is not None:
        at = positions.long()[:, None] + torch.arange(length, device=qkv.device)
        rows = (torch.arange(len(at), device=at.device)[:, None], at)
        if cos is not None and sin is not None:
            cos, sin = cos[at], sin[at]
    qk, v = qkv.split((qkv.shape[2] - kv_heads, kv_heads), dim=2)
    if cos is not None and sin is not None:
        qk = rotate(qk, cos, sin)
    q, k = qk.split((qk.shape[2] - kv_heads, kv_heads), dim=2)
    k_cache[rows], v_cache[rows] = k, v
    return q
