"""Delta-rule mixers: projections, short convolution, the rule, norm of heads, gate, output.

DeltaNet: arXiv:2406.06484, section 3.4; gated DeltaNet: arXiv:2412.06464, section 3.4; Kimi delta
attention: arXiv:2510.26692, section 4. Shape letters: B batch, L tokens, d model width, H heads,
Hk heads of queries and keys, K and V width of a key and a value.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmprof.mixers.building import Building
from ssmprof.mixers.cache import Position, StateCache
from ssmprof.mixers.conv.block import ShortConv
from ssmprof.mixers.delta.base import DeltaRule
from ssmprof.mixers.delta.shape import GatedDelta, Kda
from ssmprof.mixers.norm.block import HeadNorm
from ssmprof.mixers.weights import frozen
from ssmprof.scopes import scope

# Decay rates of the published initialisation: exp(A_log) in [1, 16].
LOG_RATES = (0.0, math.log(16.0))


class DeltaBlock(nn.Module):
    """(B, L, d) -> (B, L, d) with a state of (H, K, V) per sequence.

    `in_proj` holds queries, keys and values, then the gate, step sizes and decays that the kind
    takes from the same matrix.
    """

    ops = ("delta_rule", "delta_step")
    act: Literal["silu", "sigmoid"] = "silu"

    def __init__(self, part: DeltaRule, building: Building) -> None:
        super().__init__()
        self.part = part
        weights, d_model = building.weights, building.d_model
        self.sizes = part.fused()
        self.in_proj = weights.linear(part.reads(d_model), sum(self.sizes))
        self.conv = None
        if part.d_conv:
            self.conv = ShortConv(part.channels, part.d_conv, building, bias=part.conv_bias)
        self.norm = HeadNorm(
            part.value_dim, building, act=self.act if part.gate else None, eps=part.norm_eps
        )
        self.out_proj = weights.linear(part.value_width, d_model, scale=weights.branch)
        self.state_dtype = getattr(torch, part.state_dtype)
        self.prefill_op, self.step_op = (building.ops[op] for op in self.ops)

    def forward(self, x: Tensor, cache: StateCache | None = None) -> Tensor:
        """(B, L, d) -> (B, L, d); the state after the last token is left in the cache."""
        qkv, gate, inputs = self._project(x)
        qkv = self._activated(qkv) if self.conv is None else self.conv(qkv, cache)
        inputs = self._inputs(x, inputs)
        state = None if cache is None or cache.position.tokens == 0 else cache.ssm
        with scope("scan", "scan"):
            y = self.prefill_op(
                *self._heads(qkv),
                *inputs,
                negative=self.part.negative_eigenvalues,
                initial_state=state,
                return_final_state=False if cache is None else self.state_dtype,
            )
        del qkv, inputs  # a name held is memory held: each tensor dies at its last use
        if cache is not None:
            y, cache.ssm = y
        y = self._normed(y, gate, x)
        del gate
        with scope("out_proj"):
            return self.out_proj(y)

    def step(self, x: Tensor, cache: StateCache) -> Tensor:
        """(B, d) -> (B, d); the state is overwritten in place."""
        qkv, gate, inputs = self._project(x)
        qkv = self._activated(qkv) if self.conv is None else self.conv.step(qkv, cache)
        inputs = self._inputs(x, inputs)
        with scope("scan", "scan"):
            y = self.step_op(
                cache.ssm, *self._heads(qkv), *inputs, negative=self.part.negative_eigenvalues
            )
        y = self._normed(y, gate, x)
        del gate
        with scope("out_proj"):
            return self.out_proj(y)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        """Queries, keys and values (..., channels), the gate, further inputs of the rule."""
        with scope("in_proj"):
            qkv, gate, *inputs = self.in_proj(x).split(self.sizes, dim=-1)
        return qkv, gate if gate.shape[-1] else None, inputs

    def _activated(self, qkv: Tensor) -> Tensor:
        with scope("act"):
            return F.silu(qkv)

    def _heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., channels) -> q and k (..., Hk, K), v (..., H, V), all views."""
        part = self.part
        q, k, v = qkv.split((part.key_width, part.key_width, part.value_width), dim=-1)
        return (
            q.unflatten(-1, (-1, part.key_dim)),
            k.unflatten(-1, (-1, part.key_dim)),
            v.unflatten(-1, (-1, part.value_dim)),
        )

    def _inputs(self, x: Tensor, projected: list[Tensor]) -> list[Tensor]:
        """What the rule takes beside queries, keys and values: logits of step sizes (..., H)."""
        return projected

    def _gate(self, gate: Tensor | None, x: Tensor) -> Tensor | None:
        """Logits of the gate (..., H V), None where there is none."""
        return gate

    def _normed(self, y: Tensor, gate: Tensor | None, x: Tensor) -> Tensor:
        """(..., H, V) -> (..., H V), each head normed and gated."""
        gate = self._gate(gate, x)
        heads = None if gate is None else gate.unflatten(-1, (-1, self.part.value_dim))
        return self.norm(y, heads).flatten(-2)

    def new_cache(
        self, batch: int, max_context: int, dtype: torch.dtype, position: Position
    ) -> StateCache:
        """Zero window and state; their size does not depend on `max_context`."""
        part, device = self.part, self.out_proj.weight.device
        size = (batch, part.heads, part.key_dim, part.value_dim)
        return StateCache(
            torch.zeros(batch, part.channels, part.d_conv, dtype=dtype, device=device),
            torch.zeros(size, dtype=self.state_dtype, device=device),
            position,
        )


class GatedDeltaBlock(DeltaBlock):
    """A decay per head: -exp(A_log) softplus(a + dt_bias), as Mamba-2 has it."""

    ops = ("gated_delta_rule", "gated_delta_step")

    def __init__(self, part: GatedDelta, building: Building) -> None:
        super().__init__(part, building)
        low, high = LOG_RATES
        weights = building.weights
        self.A_log = frozen(weights.uniform(part.heads, low=low, high=high, float32=True))
        self.dt_bias = weights.step_bias(part.heads)

    def _inputs(self, x: Tensor, projected: list[Tensor]) -> list[Tensor]:
        """Logits of decays and of step sizes (..., H), rates and biases (H)."""
        steps, decays = projected
        return [decays, steps, self.A_log, self.dt_bias]


class KdaBlock(DeltaBlock):
    """A decay per key feature; decay and gate are of low rank, and the gate is a sigmoid."""

    ops = ("kda", "kda_step")
    act = "sigmoid"

    def __init__(self, part: Kda, building: Building) -> None:
        super().__init__(part, building)
        low, high = LOG_RATES
        weights, reads = building.weights, part.reads(building.d_model)
        self.decay_down = weights.linear(reads, part.low_rank)
        self.decay_up = weights.linear(part.low_rank, part.heads * part.key_dim)
        self.A_log = frozen(weights.uniform(part.heads, low=low, high=high, float32=True))
        self.dt_bias = weights.step_bias(part.heads * part.key_dim)
        if part.gate:
            self.gate_down = weights.linear(reads, part.low_rank)
            self.gate_up = weights.linear(part.low_rank, part.value_width, bias=part.gate_bias)

    def _inputs(self, x: Tensor, projected: list[Tensor]) -> list[Tensor]:
        """Logits of decays (..., H, K) and of step sizes (..., H), rates (H), biases (H, K)."""
        (steps,) = projected
        heads = (self.part.heads, self.part.key_dim)
        with scope("decay_proj"):
            decays = self.decay_up(self.decay_down(x)).unflatten(-1, heads)
        return [decays, steps, self.A_log, self.dt_bias.view(heads)]

    def _gate(self, gate: Tensor | None, x: Tensor) -> Tensor | None:
        if not self.part.gate:
            return None
        with scope("gate_proj"):
            return self.gate_up(self.gate_down(x))


BLOCKS = {"delta": DeltaBlock, "gated_delta": GatedDeltaBlock, "kda": KdaBlock}
