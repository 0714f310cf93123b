"""A mixture of experts (arXiv:1701.06538, section 2; shared experts: arXiv:2401.06066).

Shape letters: T tokens of the call, d width, E experts, k of them per token, R = T k rows, one per
token and expert, f width of an expert. Rows are sorted by expert, so that both products run over
all experts at once; their shapes depend on T alone, and nothing waits for the device.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmprof.mixers.building import Building
from ssmprof.mixers.mlp.block import Activate
from ssmprof.mixers.moe.router import Router, Sent
from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.weights import Weights, frozen
from ssmprof.scopes import scope

# Slope of the sigmoid in gpt-oss's bounded activation.
ALPHA = 1.702


class SharedExpert(nn.Module):
    """The expert of every token, its output weighted by a sigmoid of its own where it is gated."""

    def __init__(self, part: Moe, building: Building) -> None:
        super().__init__()
        weights, d_model = building.weights, building.d_model
        reads = part.reads(d_model)
        self.up = weights.linear(reads, part.up_width(part.shared_d_ff))
        self.down = weights.linear(part.shared_d_ff, d_model, scale=weights.branch)
        self.gate = weights.linear(reads, 1) if part.shared_gate else None

    def forward(self, x: Tensor, routed: Tensor, act: Clamped | Activate) -> Tensor:
        """routed (T, d), overwritten, and what this expert makes of x (T, d)."""
        with scope("shared_up"):
            hidden = self.up(x)
        with scope("shared_act"):
            hidden = act(hidden)
        with scope("shared_down"):
            hidden = self.down(hidden)
        if self.gate is None:
            with scope("shared_add"):
                return routed.add_(hidden)
        with scope("shared_gate"):
            share = self.gate(x).sigmoid_()
        with scope("shared_add"):
            return routed.addcmul_(hidden, share)


class Clamped:
    """gpt-oss's gated activation (arXiv:2508.10925): (..., 2f) -> (..., f), gates before values."""

    def __init__(self, bound: float) -> None:
        self.bound = bound

    def __call__(self, hidden: Tensor) -> Tensor:
        gate, value = hidden.chunk(2, dim=-1)
        gate.clamp_(max=self.bound)
        value.clamp_(-self.bound, self.bound).add_(1)
        return torch.sigmoid(ALPHA * gate).mul_(gate).mul_(value)


class MoeBlock(nn.Module):
    """(..., d) -> (..., d); `up` (E, up, d) holds gates and values of an expert in one matrix."""

    def __init__(self, part: Moe, building: Building) -> None:
        super().__init__()
        weights, d_model = building.weights, building.d_model
        reads = part.reads(d_model)
        inside, outside = part.latent or reads, part.latent or d_model
        wide = part.up_width(part.d_ff)
        self.router = Router(part, building)
        self.latent_in = self.latent_out = None
        if part.latent:
            self.latent_in = weights.linear(reads, part.latent)
            self.latent_out = weights.linear(part.latent, d_model, scale=weights.branch)
        last = 1.0 if part.latent else weights.branch
        self.up = _experts(weights, part.experts, wide, inside)
        self.down = _experts(weights, part.experts, outside, part.d_ff, last)
        self.up_bias = self.down_bias = None
        if part.bias:
            self.up_bias = _biases(weights, part.experts, wide)
            self.down_bias = _biases(weights, part.experts, outside)
        self.act = Clamped(part.clamp) if part.clamp else Activate(part.act, building.ops)
        self.shared = SharedExpert(part, building) if part.shared_d_ff else None
        self.op = building.ops["grouped_mm"]

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        tokens = x.flatten(0, -2)
        with scope("router"):
            sent = self.router(tokens)
        out = self._routed(tokens, sent)
        del sent  # a name held is memory held: each tensor dies at its last use
        if self.shared is not None:
            out = self.shared(tokens, out, self.act)
        return out.view(*x.shape[:-1], -1)

    def _routed(self, x: Tensor, sent: Sent) -> Tensor:
        """What the chosen experts make of x (T, d), weighted and summed."""
        if self.latent_in is not None:
            with scope("latent_in"):
                x = self.latent_in(x)
        with scope("up"):
            rows = x.index_select(0, sent.token)
            del x
            hidden = self.op(rows, self.up, sent.ends)
            del rows
            if self.up_bias is not None:
                hidden += self.up_bias.index_select(0, sent.expert)
        with scope("act"):
            hidden = self.act(hidden)
        with scope("down"):
            out = self.op(hidden, self.down, sent.ends)
            del hidden
            if self.down_bias is not None:
                out += self.down_bias.index_select(0, sent.expert)
        with scope("combine"):
            out = F.embedding_bag(sent.rows, out, per_sample_weights=sent.weights, mode="sum")
        if self.latent_out is None:
            return out
        with scope("latent_out"):
            return self.latent_out(out)


def _experts(
    weights: Weights, experts: int, outputs: int, inputs: int, scale: float = 1.0
) -> nn.Parameter:
    """(E, outputs, inputs) with standard deviation scale / sqrt(inputs)."""
    bound = scale * (3.0 / inputs) ** 0.5
    return frozen(weights.uniform(experts, outputs, inputs, low=-bound, high=bound))


def _biases(weights: Weights, experts: int, outputs: int) -> nn.Parameter:
    return frozen(weights.uniform(experts, outputs, low=-0.03, high=0.03))


BLOCKS = {"moe": MoeBlock}
