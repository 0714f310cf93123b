"""Angles of the rotary position embedding (arXiv:2104.09864), the half-split form of Llama.

Tables of cosine and sine, (positions, dh/2) in the activations' dtype, are made once per cache.
Features that are not turned stand in the tables with an angle of 0: which features those are is a
matter of the order of a head's weights, and scores do not depend on it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssmprof.mixers.attention.shape import Attention, RopeScaling
from ssmprof.mixers.cache import Position


def angles(
    part: Attention, name: str, position: Position | None, like: Tensor
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the next tokens, as many as `like` (B, L, ...) has: (L, dh/2) each, or
    (B, 1, dh/2) of sequences that stand apart. `name` is that of tables the position keeps."""
    first = 0 if position is None else position.tokens
    last = first + like.shape[1]
    known = None if position is None else position.tables.get(name)
    cos, sin = known or tables(part, last, like.device, like.dtype)
    if position is not None and position.each is not None:
        at = position.each.long()[:, None]
        return cos[at], sin[at]
    return cos[first:last], sin[first:last]


def tables(
    part: Attention, positions: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of position * frequency, both (positions, dh/2); the first are turned."""
    assert part.rope_theta is not None
    half = part.rotated // 2
    exponents = torch.arange(half, device=device, dtype=torch.float32) * 2 / part.rotated
    frequencies = part.rope_theta**-exponents
    factor = 1.0
    if part.rope_scaling is not None:
        frequencies, factor = _scaled(frequencies, part, part.rope_scaling, positions)
    angles = torch.outer(torch.arange(positions, device=device, dtype=torch.float32), frequencies)
    cos, sin = angles.cos() * factor, angles.sin() * factor
    still = part.head_dim // 2 - half
    if still:
        cos = torch.cat([cos, torch.ones(positions, still, device=device)], dim=1)
        sin = torch.cat([sin, torch.zeros(positions, still, device=device)], dim=1)
    return cos.to(dtype), sin.to(dtype)


def _scaled(
    frequencies: Tensor, part: Attention, scaling: RopeScaling, positions: int
) -> tuple[Tensor, float]:
    """Stretched frequencies, and what cosine and sine are multiplied with."""
    original = scaling.original_tokens or positions
    if scaling.kind == "linear":
        return frequencies / scaling.factor, scaling.attention_factor or 1.0
    if scaling.kind == "llama3":
        return _llama3(frequencies, scaling, original), scaling.attention_factor or 1.0
    if scaling.kind == "yarn":
        told = scaling.attention_factor or (
            0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0
        )
        return _yarn(frequencies, part, scaling, original), told
    factors = scaling.long_factors if positions > original else scaling.factors
    stretch = torch.tensor(factors, device=frequencies.device, dtype=torch.float32)
    told = scaling.attention_factor or (
        math.sqrt(1 + math.log(scaling.factor) / math.log(original)) if scaling.factor > 1 else 1.0
    )
    return frequencies / stretch, told


def _llama3(frequencies: Tensor, scaling: RopeScaling, original: int) -> Tensor:
    """Long waves are stretched, short ones kept, those between mixed (Llama 3.1)."""
    waves = 2 * math.pi / frequencies
    share = (original / waves - scaling.low) / (scaling.high - scaling.low)
    share = share.clamp(0.0, 1.0)
    return (1 - share) * frequencies / scaling.factor + share * frequencies


def _yarn(frequencies: Tensor, part: Attention, scaling: RopeScaling, original: int) -> Tensor:
    """Interpolated and extrapolated frequencies, mixed by a ramp (arXiv:2309.00071, 3.2)."""
    assert part.rope_theta is not None

    def place(turns: float) -> float:
        inside = math.log(original / (turns * 2 * math.pi))
        return part.rotated * inside / (2 * math.log(part.rope_theta or 1.0))

    low, high = place(scaling.beta_fast), place(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, part.rotated - 1)
    steps = torch.arange(len(frequencies), device=frequencies.device, dtype=torch.float32)
    ramp = ((steps - low) / max(high - low, 1e-3)).clamp(0.0, 1.0)
    return ramp * frequencies / scaling.factor + (1 - ramp) * frequencies
