"""The gated memory unit (arXiv:2507.06607, section 2): out(memory silu(in(x)))."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ssmprof.mixers.building import Building, Memory
from ssmprof.mixers.gmu.shape import Gmu
from ssmprof.scopes import scope


class GmuBlock(nn.Module):
    """(..., d) -> (..., d); the stack says whose memory (..., m) it reads."""

    def __init__(self, part: Gmu, building: Building) -> None:
        super().__init__()
        self.part = part
        weights, d_model, width = building.weights, building.d_model, part.memory_width
        self.in_proj = weights.linear(part.reads(d_model), width, bias=part.bias)
        self.out_proj = weights.linear(width, d_model, bias=part.bias, scale=weights.branch)
        self.recalled = Memory()

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        memory = self.recalled.value
        assert memory is not None, "an earlier layer of the call has the memory"
        with scope("in_proj"):
            gate = self.in_proj(x)
        with scope("gate"):
            gate = F.silu(gate, inplace=True).mul_(memory)
        with scope("out_proj"):
            return self.out_proj(gate)


BLOCKS = {"gmu": GmuBlock}
