"""RMSNorm and its gated form (mean square in float32 over groups of the last axis)."""

from __future__ import annotations

from torch import Tensor, nn

from ssmprof.blocks.providers import Op, Ops
from ssmprof.blocks.weights import Weights
from ssmprof.scopes import scope

EPS = 1e-5


class RMSNorm(nn.Module):
    """Root mean square norm over the last axis with a weight (d); arXiv:1910.07467."""

    def __init__(self, size: int, weights: Weights, ops: Ops) -> None:
        super().__init__()
        self.weight = weights.ones(size)
        self.op: Op = ops["rms_norm"]
        self.add_op: Op = ops["add_rms_norm"]

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        with scope("norm", "norm"):
            return self.op(x, self.weight, eps=EPS)

    def after(
        self, x: Tensor, update: Tensor, scale: float, *, in_place: bool
    ) -> tuple[Tensor, Tensor]:
        """x + scale * update (..., d), overwriting x if `in_place`, and the norm of that sum."""
        with scope("norm", "norm"):
            return self.add_op(x, update, self.weight, scale=scale, eps=EPS, in_place=in_place)


class GatedRMSNorm(nn.Module):
    """norm(x * silu(z)) over groups of `group_size` channels, as Mamba-2 does after its scan."""

    def __init__(self, size: int, group_size: int, weights: Weights, ops: Ops) -> None:
        super().__init__()
        self.weight = weights.ones(size)
        self.group_size = group_size
        self.op: Op = ops["gated_rmsnorm"]

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """x, z (..., D) -> (..., D)."""
        with scope("norm", "norm"):
            return self.op(
                x, self.weight, z=z, group_size=self.group_size, norm_before_gate=False, eps=EPS
            )
