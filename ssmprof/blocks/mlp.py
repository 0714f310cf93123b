"""Feed-forward sub-layer: SwiGLU (arXiv:2002.05202), GELU or squared ReLU."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ssmprof.blocks.weights import Weights
from ssmprof.scopes import scope
from ssmprof.spec import MlpSpec


class Mlp(nn.Module):
    """(B, L, d) -> (B, L, d); `up` holds gate and up projection of SwiGLU in one matrix."""

    def __init__(self, spec: MlpSpec, d_model: int, weights: Weights) -> None:
        super().__init__()
        self.kind = spec.kind
        rows = 2 * spec.d_ff if spec.kind == "swiglu" else spec.d_ff
        self.up = weights.linear(d_model, rows)
        self.down = weights.linear(spec.d_ff, d_model, scale=weights.branch)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        with scope("up"):
            hidden = self.up(x)
        with scope("act"):
            hidden = self._activate(hidden)
        with scope("down"):
            return self.down(hidden)

    def _activate(self, hidden: Tensor) -> Tensor:
        if self.kind == "swiglu":
            gate, value = hidden.chunk(2, dim=-1)
            return F.silu(gate).mul_(value)
        if self.kind == "gelu":
            return F.gelu(hidden)
        return F.relu(hidden).square_()
