"""RMSNorm, LayerNorm, and those of an output that a gate multiplies."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmprof.mixers.building import Building
from ssmprof.mixers.ops import Op
from ssmprof.mixers.weights import frozen
from ssmprof.scopes import scope


class RMSNorm(nn.Module):
    """Root mean square norm over the last axis with a weight (d); arXiv:1910.07467."""

    def __init__(self, size: int, building: Building) -> None:
        super().__init__()
        self.weight = building.weights.ones(size)
        self.eps = building.norm_eps
        self.op: Op = building.ops["rms_norm"]
        self.add_op: Op = building.ops["add_rms_norm"]

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        with scope("norm", "norm"):
            return self.op(x, self.weight, eps=self.eps)

    def after(
        self, x: Tensor, update: Tensor, scale: float, *, in_place: bool
    ) -> tuple[Tensor, Tensor]:
        """x + scale * update (..., d), overwriting x if `in_place`, and the norm of that sum."""
        with scope("norm", "norm"):
            return self.add_op(x, update, self.weight, scale=scale, eps=self.eps, in_place=in_place)


class LayerNorm(nn.Module):
    """Norm by mean and variance over the last axis with weight and bias (d); arXiv:1607.06450."""

    def __init__(self, size: int, building: Building, *, bias: bool) -> None:
        super().__init__()
        self.weight = building.weights.ones(size)
        self.bias = frozen(torch.zeros_like(self.weight)) if bias else None
        self.eps = building.norm_eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        with scope("norm", "norm"):
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)

    def after(
        self, x: Tensor, update: Tensor, scale: float, *, in_place: bool
    ) -> tuple[Tensor, Tensor]:
        """x + scale * update (..., d), overwriting x if `in_place`, and the norm of that sum."""
        with scope("add"):
            total = x.add_(update, alpha=scale) if in_place else x.add(update, alpha=scale)
        return total, self(total)


class GatedRMSNorm(nn.Module):
    """norm(x * silu(z)) over groups of `group_size` channels, as Mamba-2 does after its scan.

    With `before_gate` it is norm(x) * silu(z); `eps` None is the model's.
    """

    def __init__(
        self,
        size: int,
        group_size: int,
        building: Building,
        *,
        before_gate: bool = False,
        eps: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = building.weights.ones(size)
        self.group_size = group_size
        self.before_gate = before_gate
        self.eps = eps or building.norm_eps
        self.op: Op = building.ops["gated_rmsnorm"]

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """x, z (..., D) -> (..., D)."""
        with scope("norm", "norm"):
            return self.op(
                x, self.weight, z=z, group_size=self.group_size,
                norm_before_gate=self.before_gate, eps=self.eps,
            )  # fmt: skip


class HeadNorm(nn.Module):
    """norm(x), times `act` of a gate where there is one, over the last axis: of one head or of all.

    `act` None is no gate; `eps` None is the model's.
    """

    OPS: ClassVar[dict[str, str]] = {"silu": "gated_rmsnorm", "sigmoid": "sigmoid_gated_rmsnorm"}

    def __init__(
        self,
        size: int,
        building: Building,
        *,
        act: Literal["silu", "sigmoid"] | None,
        eps: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = building.weights.ones(size)
        self.eps = eps or building.norm_eps
        self.op: Op = building.ops["rms_norm" if act is None else self.OPS[act]]
        self.options: dict[str, Any] = {}
        if act == "silu":
            self.options = {"group_size": size, "norm_before_gate": True}

    def forward(self, x: Tensor, gate: Tensor | None) -> Tensor:
        """x and gate (..., V) -> (..., V)."""
        with scope("norm", "norm"):
            if gate is None:
                return self.op(x, self.weight, eps=self.eps)
            return self.op(x, self.weight, z=gate, eps=self.eps, **self.options)
