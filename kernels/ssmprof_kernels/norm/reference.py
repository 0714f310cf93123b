"""RMS normalisation with an optional gate in plain torch (Zhang and Sennrich, arXiv:1910.07467).

Promises: y = x / sqrt(mean(x^2) + eps) * weight over groups of `group_size` channels; with a gate,
times silu(z) or sigmoid(z) after the norm (`norm_before_gate`) or before it; with `subtract_mean`
of x less its mean; plus a bias where there is one. `_sequential` goes row by row and group by group
in the dtype of `x` (fp64 capable); the other computes in fp32, so many rows at once that what it
holds between does not grow with their number.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F

Gate = Literal["silu", "sigmoid"]

#: Numbers of one piece of rows: 16 MiB in fp32.
PIECE = 1 << 22


def gated_rmsnorm_sequential(
    x: torch.Tensor,
    weight: torch.Tensor,
    *,
    z: torch.Tensor | None = None,
    group_size: int | None = None,
    norm_before_gate: bool = False,
    eps: float = 1e-5,
    bias: torch.Tensor | None = None,
    subtract_mean: bool = False,
    activation: Gate = "silu",
) -> torch.Tensor:
    """Row by row and group by group; the oracle of the tests."""
    dim = x.shape[-1]
    size = group_size or dim
    rows = x.reshape(-1, dim)
    gates = None if z is None else z.reshape(-1, dim).to(x.dtype)
    y = torch.empty_like(rows)
    for r in range(rows.shape[0]):
        for first in range(0, dim, size):
            part = slice(first, first + size)
            value = rows[r, part]
            gate = None if gates is None else 1 / (1 + torch.exp(-gates[r, part]))
            if gate is not None and gates is not None and activation == "silu":
                gate = gate * gates[r, part]
            if gate is not None and not norm_before_gate:
                value = value * gate
            if subtract_mean:
                value = value - value.sum() / size
            value = value / ((value * value).sum() / size + eps).sqrt()
            value = value * weight[part].to(x.dtype)
            if bias is not None:
                value = value + bias[part].to(x.dtype)
            if gate is not None and norm_before_gate:
                value = value * gate
            y[r, part] = value
    return y.reshape(x.shape)


def gated_rmsnorm(
    x: torch.Tensor,
    weight: torch.Tensor,
    *,
    z: torch.Tensor | None = None,
    group_size: int | None = None,
    norm_before_gate: bool = False,
    eps: float = 1e-5,
    bias: torch.Tensor | None = None,
    subtract_mean: bool = False,
    activation: Gate = "silu",
) -> torch.Tensor:
    """Many rows at once; the signature and result of the kernel."""
    dim = x.shape[-1]
    # Heads stay apart: joined with the tokens, those of a slice of a projection would be copied.
    heads = x.shape[-2:] if x.dim() > 3 else (dim,)
    rows = x.reshape(-1, *heads)
    gates = None if z is None else z.reshape(-1, *heads)
    most = max(1, PIECE // math.prod(heads))
    options = (weight, bias, group_size or dim, norm_before_gate, eps, subtract_mean, activation)
    if len(rows) <= most:
        return _rows(rows, gates, *options).view(x.shape)
    y = torch.empty(rows.shape, dtype=x.dtype, device=x.device)
    for first in range(0, len(rows), most):
        some = slice(first, first + most)
        y[some] = _rows(rows[some], None if gates is None else gates[some], *options)
    return y.view(x.shape)


def _rows(
    x: torch.Tensor,
    z: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    size: int,
    norm_before_gate: bool,
    eps: float,
    subtract_mean: bool,
    activation: Gate,
) -> torch.Tensor:
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    value = x.to(wide)
    act = F.silu if activation == "silu" else torch.sigmoid
    gate = None if z is None else act(z.to(wide))
    if gate is not None and not norm_before_gate:
        value = value * gate
    groups = value.unflatten(-1, (-1, size))
    if subtract_mean:
        groups = groups - groups.mean(-1, keepdim=True)
    groups = groups * torch.rsqrt(groups.square().mean(-1, keepdim=True) + eps)
    value = groups.flatten(-2) * weight.to(wide)
    if bias is not None:
        value = value + bias.to(wide)
    if gate is not None and norm_before_gate:
        value = value * gate
    return value.to(x.dtype)
