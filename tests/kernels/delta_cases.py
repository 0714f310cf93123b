"""Inputs of the delta rules for the tests, small enough for Triton's interpreter."""

from __future__ import annotations

from typing import Any

import torch

#: Lengths of queries and keys, step sizes and decays as the mixers have them.
PUBLISHED: dict[str, Any] = {"qk_l2norm": True, "beta_sigmoid": True, "negative": True}


def inputs(
    op: str,
    length: int | None,
    *,
    batch: int = 1,
    heads: int = 2,
    key_heads: int = 1,
    key: int = 16,
    value: int = 19,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> dict[str, Any]:
    """Tensors of a call; those of a step without the axis of tokens where `length` is None."""
    g = torch.Generator(device).manual_seed(7)
    lead = (batch,) if length is None else (batch, length)
    per_head = (heads, key) if op.startswith("kda") else (heads,)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=g, device=device).to(dtype)

    return {
        "q": normal(*lead, key_heads, key),
        "k": normal(*lead, key_heads, key),
        "v": normal(*lead, heads, value),
        "g": normal(*lead, *per_head),
        "beta": normal(*lead, heads),
        "A_log": torch.rand(heads, generator=g, device=device) * 2.7,
        "dt_bias": torch.rand(per_head, generator=g, device=device) * 4.6 - 4.6,
    }


def state(
    op: str, sequences: int = 1, *, heads: int = 2, key: int = 16, value: int = 19
) -> torch.Tensor:
    """An initial state."""
    g = torch.Generator().manual_seed(8)
    return torch.randn(sequences, heads, key, value, generator=g)


def rms(got: torch.Tensor, want: torch.Tensor) -> float:
    """Relative error."""
    return float((got.double() - want.double()).norm() / want.double().norm().clamp(min=1e-30))
