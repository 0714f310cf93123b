"""What stands around RWKV-7's rule in plain torch (arXiv:2503.14456, section 4).

Promises: the signatures and results of the kernels, in the dtype of the inputs; `_sequential` goes
token by token (fp64 capable).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def token_shift(x: Tensor, mix: Tensor, last: Tensor, *, resumed: bool) -> Tensor:
    """x + (before - x) mix of x (B, L, d) or (B, d); `last` (B, d) is overwritten."""
    if x.dim() == 2:
        before = last.to(x.dtype) - x if resumed else -x
    else:
        start = last[:, None].to(x.dtype) if resumed else torch.zeros_like(x[:, :1])
        before = torch.cat([start, x[:, :-1]], dim=1).sub_(x)
    last.copy_(x if x.dim() == 2 else x[:, -1])
    return torch.addcmul(x, before, mix.view(*mix.shape[:-1], *[1] * (x.dim() - 1), -1))


def token_shift_sequential(
    x: Tensor, mix: Tensor, last: Tensor, *, resumed: bool
) -> tuple[Tensor, Tensor]:
    """One token after the other: mixtures, and the last token."""
    tokens = x[:, None] if x.dim() == 2 else x
    before = last.to(x.dtype) if resumed else torch.zeros_like(tokens[:, 0])
    rows = []
    for token in tokens.unbind(1):
        rows.append([token + (before - token) * one for one in mix.view(-1, mix.shape[-1])])
        before = token
    mixed = torch.stack([torch.stack(row) for row in rows], dim=2)
    return mixed.view(*mix.shape[:-1], *x.shape), before


def rwkv7_keys(
    w: Tensor,
    k: Tensor,
    a: Tensor,
    v: Tensor,
    removed: Tensor,
    added: Tensor,
    *,
    v_first: Tensor | None = None,
    share: Tensor | None = None,
    heads: int,
    lowest: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Log decay, added key, values, removed key and step size, (..., H, K) of (..., H K)."""
    w, a = w.sigmoid().mul_(lowest), a.sigmoid()
    if v_first is not None and share is not None:
        v = torch.lerp(v, v_first, share.sigmoid())
    kk = (k * removed).unflatten(-1, (heads, -1))
    kk.div_(kk.norm(dim=-1, keepdim=True).clamp_(min=1e-12))
    k = torch.addcmul(k, (a - 1.0).mul_(k), added)
    w, k, v, a = (one.unflatten(-1, (heads, -1)) for one in (w, k, v, a))
    return w, k, v, kk, a


def rwkv7_keys_sequential(
    w: Tensor,
    k: Tensor,
    a: Tensor,
    v: Tensor,
    removed: Tensor,
    added: Tensor,
    *,
    v_first: Tensor | None = None,
    share: Tensor | None = None,
    heads: int,
    lowest: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Head by head, as the paper writes it."""
    step = 1 / (1 + torch.exp(-a))
    if v_first is not None and share is not None:
        v = v + (v_first - v) / (1 + torch.exp(-share))
    unit = []
    for head in (k * removed).unflatten(-1, (heads, -1)).unbind(-2):
        size = head.square().sum(-1, keepdim=True).sqrt()
        unit.append(head / torch.where(size < 1e-12, 1e-12, size))
    key = k + (step - 1) * k * added
    decay = lowest / (1 + torch.exp(-w))
    decay, key, v, step = (one.unflatten(-1, (heads, -1)) for one in (decay, key, v, step))
    return decay, key, v, torch.stack(unit, dim=-2), step


def rwkv7_output(
    y: Tensor,
    r: Tensor,
    k: Tensor,
    v: Tensor,
    gate: Tensor,
    weight: Tensor,
    bonus: Tensor,
    *,
    bias: Tensor | None = None,
    eps: float,
) -> Tensor:
    """Heads (..., H, K) normed, the present token's bonus added, gated: (..., H K)."""
    rows = y.flatten(-2).flatten(0, -2)
    out = F.group_norm(rows, y.shape[-2], weight, bias, eps).view(y.shape)
    shares = (r * k).mul_(bonus.view(y.shape[-2:])).sum(-1, keepdim=True)
    return out.addcmul_(shares, v).flatten(-2).mul_(gate)


def rwkv7_output_sequential(
    y: Tensor,
    r: Tensor,
    k: Tensor,
    v: Tensor,
    gate: Tensor,
    weight: Tensor,
    bonus: Tensor,
    *,
    bias: Tensor | None = None,
    eps: float,
) -> Tensor:
    """Head by head, as the paper writes it."""
    heads = []
    for h in range(y.shape[-2]):
        part = slice(h * y.shape[-1], (h + 1) * y.shape[-1])
        centred = y[..., h, :] - y[..., h, :].mean(-1, keepdim=True)
        normed = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * weight[part]
        if bias is not None:
            normed = normed + bias[part]
        share = (r[..., h, :] * k[..., h, :] * bonus[part]).sum(-1, keepdim=True)
        heads.append((normed + share * v[..., h, :]) * gate[..., part])
    return torch.cat(heads, dim=-1)
