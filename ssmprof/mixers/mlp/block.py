"""The dense feed-forward sub-layer: SwiGLU (arXiv:2002.05202), GELU or squared ReLU."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ssmprof.mixers.building import Adapts, Building
from ssmprof.mixers.mlp.shape import GATED, Activation, Mlp
from ssmprof.mixers.ops import Ops
from ssmprof.scopes import scope


class Activate:
    """(..., up) -> (..., f): what stands between the two products, gates before values.

    A squared rectifier overwrites what it is given.
    """

    def __init__(self, act: Activation, ops: Ops) -> None:
        self.gated = act in GATED
        self.approximate = "tanh" if act.endswith("_tanh") else "none"
        self.op = ops[act] if act in ("swiglu", "relu2") else None

    def __call__(self, hidden: Tensor) -> Tensor:
        if self.op is not None:
            return self.op(hidden)
        if self.gated:
            gate, value = hidden.chunk(2, dim=-1)
            return F.gelu(gate, approximate=self.approximate).mul_(value)
        return F.gelu(hidden, approximate=self.approximate)


class MlpBlock(nn.Module):
    """(B, L, d) -> (B, L, d); `up` holds gate and value of a gated activation in one matrix."""

    def __init__(self, part: Mlp, building: Building) -> None:
        super().__init__()
        weights, d_model = building.weights, building.d_model
        self.act = Activate(part.act, building.ops)
        self.up = weights.linear(part.reads(d_model), part.up_width, bias=part.bias)
        self.down = weights.linear(part.d_ff, d_model, bias=part.bias, scale=weights.branch)

    def forward(self, x: Tensor, adapter: Adapts | None = None) -> Tensor:
        """(..., d) -> (..., d); `adapter` adds to the first product (shared weights)."""
        with scope("up"):
            hidden = self.up(x)
            if adapter is not None:
                adapter.add(x, hidden)
        with scope("act"):
            hidden = self.act(hidden)
        with scope("down"):
            return self.down(hidden)


BLOCKS = {"mlp": MlpBlock}
