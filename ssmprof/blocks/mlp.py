"""Feed-forward sub-layer: SwiGLU (arXiv:2002.05202), GELU or squared ReLU."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ssmprof.blocks.providers import Ops
from ssmprof.blocks.weights import Weights
from ssmprof.scopes import scope
from ssmprof.spec import MlpSpec


class Mlp(nn.Module):
    """(B, L, d) -> (B, L, d); `up` holds gate and up projection of SwiGLU in one matrix."""

    def __init__(self, spec: MlpSpec, d_model: int, weights: Weights, ops: Ops) -> None:
        super().__init__()
        self.kind = spec.kind
        self.swiglu_op = ops["swiglu"] if spec.kind == "swiglu" else None
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
        if self.swiglu_op is not None:
            return self.swiglu_op(hidden)
        if self.kind == "gelu":
            return F.gelu(hidden)
        return F.relu(hidden).square_()
