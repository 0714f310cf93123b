"""The recurrent block of Griffin (arXiv:2402.19427, sections 2.3 and 2.4).

Shape letters: B batch, L tokens, d model width, D = H*P width of the recurrence, H blocks of its
gates. One branch is a GELU, the other a convolution and the recurrence; their product goes out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmprof.mixers.building import Building
from ssmprof.mixers.cache import Position, StateCache
from ssmprof.mixers.conv.block import ShortConv
from ssmprof.mixers.rglru.shape import RgLru
from ssmprof.mixers.weights import Weights, frozen
from ssmprof.scopes import scope

# An open gate decays by exp(-8 softplus(rate)), 0.9 to 0.999 at these (section 2.4).
RATES = (-9.0, -4.3)


class Gate(nn.Module):
    """A block-diagonal product: weight (H, P, P), input index first, and bias (H, P)."""

    def __init__(self, heads: int, size: int, weights: Weights) -> None:
        super().__init__()
        bound = (3.0 / size) ** 0.5
        self.weight = frozen(weights.uniform(heads, size, size, low=-bound, high=bound))
        self.bias = frozen(weights.uniform(heads, size, low=-0.03, high=0.03))

    def forward(self, x: Tensor) -> Tensor:
        """(T, H, P) -> (T, H, P), before the sigmoid; heads stand outermost in memory."""
        return torch.baddbmm(self.bias[:, None], x.transpose(0, 1), self.weight).transpose(0, 1)


class RgLruBlock(nn.Module):
    """(B, L, d) -> (B, L, d) with one number of state per feature."""

    def __init__(self, part: RgLru, building: Building) -> None:
        super().__init__()
        self.part = part
        weights, d_model = building.weights, building.d_model
        reads, width, size = part.reads(d_model), part.width, part.width // part.heads
        self.y_proj = weights.linear(reads, width, bias=True)
        self.x_proj = weights.linear(reads, width, bias=True)
        self.conv = ShortConv(width, part.d_conv, building, activation=None)
        self.input_gate = Gate(part.heads, size, weights)
        self.decay_gate = Gate(part.heads, size, weights)
        low, high = RATES
        self.rate = frozen(weights.uniform(part.heads, size, low=low, high=high, float32=True))
        self.out_proj = weights.linear(width, d_model, bias=True, scale=weights.branch)
        self.state_dtype = getattr(torch, part.state_dtype)
        self.scan_op = building.ops["rglru_scan"]
        self.step_op = building.ops["rglru_step"]

    def forward(self, x: Tensor, cache: StateCache | None = None) -> Tensor:
        """(B, L, d) -> (B, L, d); the state after the last token is left in the cache."""
        with scope("in_proj"):
            y, u = self.y_proj(x), self.x_proj(x)
        u = self.conv(u, cache).unflatten(-1, (self.part.heads, -1))
        gates = self._gates(u)
        state = None if cache is None or cache.position.tokens == 0 else cache.ssm
        with scope("scan", "scan"):
            h = self.scan_op(
                u,
                *gates,
                self.rate,
                initial_state=None if state is None else state.view(-1, *u.shape[2:]),
                return_final_state=False if cache is None else self.state_dtype,
            )
        del u, gates  # a name held is memory held: each tensor dies at its last use
        if cache is not None:
            h, state = h
            cache.ssm = state.flatten(1)
        return self._out(y, h.flatten(-2))

    def step(self, x: Tensor, cache: StateCache) -> Tensor:
        """(B, d) -> (B, d); the state is overwritten in place."""
        with scope("in_proj"):
            y, u = self.y_proj(x), self.x_proj(x)
        u = self.conv.step(u, cache).unflatten(-1, (self.part.heads, -1))
        gates = self._gates(u)
        with scope("scan", "scan"):
            # Sequences that stand apart have read a prompt.
            first = cache.position.tokens == 0 and cache.position.each is None
            h = self.step_op(cache.ssm.view_as(u), u, *gates, self.rate, first=first)
        return self._out(y, h.flatten(-2))

    def _gates(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Of the input and of the decay, as u (..., H, P), before their sigmoids."""
        flat = u.flatten(0, -3)
        with scope("gates"):
            inputs = self.input_gate(flat).unflatten(0, u.shape[:-2])
            return inputs, self.decay_gate(flat).unflatten(0, u.shape[:-2])

    def _out(self, y: Tensor, h: Tensor) -> Tensor:
        with scope("gelu"):
            y = F.gelu(y, approximate="tanh").mul_(h)
        del h
        with scope("out_proj"):
            return self.out_proj(y)

    def new_cache(
        self, batch: int, max_context: int, dtype: torch.dtype, position: Position
    ) -> StateCache:
        """Zero window and state; their size does not depend on `max_context`."""
        part, device = self.part, self.rate.device
        return StateCache(
            torch.zeros(batch, part.width, part.d_conv, dtype=dtype, device=device),
            torch.zeros(batch, part.width, dtype=self.state_dtype, device=device),
            position,
        )


BLOCKS = {"rglru": RgLruBlock}
