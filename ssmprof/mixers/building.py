"""What a sub-layer is built from: the model's width, its weights, its ops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ssmprof.mixers.ops import Ops
from ssmprof.mixers.weights import Weights


@dataclass(frozen=True)
class Building:
    """Handed to every sub-layer with its part; `norm_eps` is that of all norms of the model.

    `layer` of `layers` is where it stands, as the model's authors count: some decays depend on it.
    """

    d_model: int
    weights: Weights
    ops: Ops
    norm_eps: float = 1e-5
    layer: int = 0
    layers: int = 1


class Adapts(Protocol):
    """What one user of shared weights adds to a projection of theirs."""

    def add(self, x: Tensor, projected: Tensor) -> None:
        """Add to `projected` (..., width), in place, what is made of its input x (..., d)."""
        ...


@dataclass
class Memory:
    """What a layer made of the tokens of a call, for later layers of the same call."""

    value: Tensor | None = None
