"""Rotary position embedding (arXiv:2104.09864), the half-split form of Llama, in plain torch.

Tables of cosine and sine, (positions, dh/2) in the activations' dtype, are made once per cache.
"""

from __future__ import annotations

import torch
from torch import Tensor


def tables(
    positions: int, head_dim: int, theta: float, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of position * theta^(-2i/dh), both (positions, dh/2)."""
    exponents = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
    angles = torch.outer(
        torch.arange(positions, device=device, dtype=torch.float32), theta**-exponents
    )
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x (B, L, heads, dh) by cos, sin (L, dh/2); three element-wise passes, no copies."""
    halves = x.unflatten(-1, (2, -1))
    cos, sin = cos[:, None, :], sin[:, None, :]
    out = halves * cos[:, :, None, :]
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
) -> Tensor:
    """Rotate queries and keys of qkv (B, L, Hq + 2 Hk, dh) and cache keys and values.

    Keys and values go to rows start .. start + L of the caches (B, rows, Hk, dh). Returns the
    queries (B, L, Hq, dh). The plain form of `ssmprof_kernels.rotary`.
    """
    kv_heads = k_cache.shape[2]
    qk, v = qkv.split((qkv.shape[2] - kv_heads, kv_heads), dim=2)
    if cos is not None and sin is not None:
        qk = rotate(qk, cos, sin)
    q, k = qk.split((qk.shape[2] - kv_heads, kv_heads), dim=2)
    end = start + qkv.shape[1]
    k_cache[:, start:end].copy_(k)
    v_cache[:, start:end].copy_(v)
    return q
