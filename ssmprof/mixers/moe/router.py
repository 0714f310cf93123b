"""Which experts a token is sent to, and how much they count (arXiv:2412.19437, section 2.1.2).

Shape letters: T tokens of the call, d width, E experts, k of them per token, G groups of experts.
Nothing here waits for the device, and no shape depends on what tokens say.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ssmprof.mixers.building import Building
from ssmprof.mixers.moe.shape import Moe

# Keeps a sum of sigmoids that are all 0 from dividing by it.
TINY = 1e-20


class Sent(NamedTuple):
    """R = T k rows, one per token and expert, in the order of the experts.

    `expert` and `token` (R) say whose each row is, `ends` (E), int32, where the rows of each expert
    end; `rows` (T, k) is where the rows of a token stand, `weights` (T, k) what they count.
    """

    expert: Tensor
    token: Tensor
    ends: Tensor
    rows: Tensor
    weights: Tensor


class Router(nn.Module):
    """(T, d) -> which experts, by their scores in float32."""

    def __init__(self, part: Moe, building: Building) -> None:
        super().__init__()
        self.part = part
        weights = building.weights
        reads = part.reads(building.d_model)
        self.proj = weights.linear(reads, part.experts, bias=part.router_bias)
        self.selection_bias: Tensor | None
        near = None
        if part.selection_bias:
            near = weights.uniform(part.experts, low=-0.1, high=0.1, float32=True)
        self.register_buffer("selection_bias", near)
        self.experts = torch.arange(part.experts, device=weights.device)

    def forward(self, x: Tensor) -> Sent:
        """x (T, d)."""
        chosen, weights = self.choose(self.proj(x).float())
        expert, order = chosen.flatten().sort()
        ends = torch.searchsorted(expert, self.experts, right=True, out_int32=True)
        rows = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=x.device))
        token = order.div_(chosen.shape[1], rounding_mode="floor")
        return Sent(expert, token, ends, rows.view_as(chosen), weights.to(x.dtype))

    def choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (T, E), float32 -> experts, int64, and their weights, float32, both (T, k)."""
        part = self.part
        scores = logits.softmax(-1) if part.score == "softmax" else logits.sigmoid()
        ranked = scores if self.selection_bias is None else scores + self.selection_bias
        if part.top_groups < part.groups:
            ranked = self._of_best_groups(ranked)
        chosen = ranked.topk(part.experts_per_token, dim=-1).indices
        weights = scores.gather(1, chosen)
        if part.renormalise:
            weights = weights / weights.sum(-1, keepdim=True).clamp_min(TINY)
        return chosen, weights * part.scale

    def _of_best_groups(self, ranked: Tensor) -> Tensor:
        """(T, E), with -inf for the experts of all groups but the best."""
        part = self.part
        groups = ranked.unflatten(-1, (part.groups, -1))
        best = min(1 if part.group_score == "best" else 2, groups.shape[-1])
        among = groups.topk(best, dim=-1).values.sum(-1).topk(part.top_groups, dim=-1).indices
        left_out = torch.ones_like(groups[..., 0], dtype=torch.bool).scatter_(1, among, False)
        return groups.masked_fill(left_out[..., None], -torch.inf).flatten(1)
