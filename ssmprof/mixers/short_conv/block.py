"""The gated short convolution of LFM2 (arXiv:2511.23404, section 2): out(C conv(B x)).

Shape letters: B batch, L tokens, d model width, D width of the convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssmprof.mixers.building import Building
from ssmprof.mixers.cache import Position, StateCache
from ssmprof.mixers.conv.block import ShortConv as Taps
from ssmprof.mixers.short_conv.shape import ShortConv
from ssmprof.scopes import scope


class ShortConvBlock(nn.Module):
    """(B, L, d) -> (B, L, d); keeps the window of the convolution and no other state."""

    def __init__(self, part: ShortConv, building: Building) -> None:
        super().__init__()
        self.part = part
        weights, d_model = building.weights, building.d_model
        # Of a token B, C and x, in this order.
        self.in_proj = weights.linear(part.reads(d_model), 3 * part.width, bias=part.bias)
        self.conv = Taps(part.width, part.d_conv, building, bias=part.bias, activation=None)
        self.out_proj = weights.linear(part.width, d_model, bias=part.bias, scale=weights.branch)

    def forward(self, x: Tensor, cache: StateCache | None = None) -> Tensor:
        """(B, L, d) -> (B, L, d); the window after the last token is left in the cache."""
        gated, gate = self._project(x)
        out = self.conv(gated, cache)
        del gated  # a name held is memory held: each tensor dies at its last use
        return self._out(out, gate)

    def step(self, x: Tensor, cache: StateCache) -> Tensor:
        """(B, d) -> (B, d); the window is shifted in place."""
        gated, gate = self._project(x)
        return self._out(self.conv.step(gated, cache), gate)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is convolved, and what the result is multiplied with, both (..., D)."""
        with scope("in_proj"):
            before, gate, value = self.in_proj(x).chunk(3, dim=-1)
        with scope("gate"):
            return before * value, gate

    def _out(self, out: Tensor, gate: Tensor) -> Tensor:
        with scope("gate"):
            out *= gate
        del gate
        with scope("out_proj"):
            return self.out_proj(out)

    def new_cache(
        self, batch: int, max_context: int, dtype: torch.dtype, position: Position
    ) -> StateCache:
        """A zero window; its size does not depend on `max_context`."""
        part, device = self.part, self.out_proj.weight.device
        window = torch.zeros(batch, part.width, part.d_conv, dtype=dtype, device=device)
        return StateCache(window, torch.zeros(batch, 0, device=device), position)


BLOCKS = {"short_conv": ShortConvBlock}
