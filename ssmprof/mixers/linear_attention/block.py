"""Linear attention with a decay: projections, recurrence, norm, gate, output.

Gated linear attention: arXiv:2312.06635, section 4.4; retention: arXiv:2307.08621, section 2.2;
lightning attention: arXiv:2401.04658, section 3, as MiniMax-01 has it (arXiv:2501.08313, section
2.2). Shape letters: B batch, L tokens, d model width, H heads, Hk heads of keys and values, K and V
width of a key and a value.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from ssmprof_kernels.rotary.reference import rotate
from torch import Tensor, nn

from ssmprof.mixers.attention import rope
from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.building import Building
from ssmprof.mixers.cache import Position, StateCache
from ssmprof.mixers.conv.block import ShortConv
from ssmprof.mixers.linear_attention.base import LinearAttention
from ssmprof.mixers.linear_attention.shape import Gla, Lightning, RetNet
from ssmprof.mixers.norm.block import HeadNorm
from ssmprof.scopes import scope


class LinearBlock(nn.Module):
    """(B, L, d) -> (B, L, d) with a state of (H, K, V) per sequence.

    `in_proj` holds queries, keys, values and the gate. A kind says in `_read` what it makes of
    them, in `_decay` what decays the state.
    """

    ops = ("retention", "retention_step")
    act: Literal["silu", "sigmoid"] = "silu"

    def __init__(
        self, part: LinearAttention, building: Building, *, normed: int, eps: float | None = None
    ) -> None:
        super().__init__()
        self.part = part
        weights, d_model = building.weights, building.d_model
        self.sizes = (part.channels, part.value_width if part.gate else 0)
        self.in_proj = weights.linear(part.reads(d_model), sum(self.sizes))
        self.conv = None
        if part.d_conv:
            self.conv = ShortConv(part.channels, part.d_conv, building, bias=part.conv_bias)
        self.norm = HeadNorm(normed, building, act=self.act if part.gate else None, eps=eps)
        self.normed = normed
        self.out_proj = weights.linear(part.value_width, d_model, scale=weights.branch)
        self.state_dtype = getattr(torch, part.state_dtype)
        self.scale = part.key_dim**-0.5
        self.prefill_op, self.step_op = (building.ops[op] for op in self.ops)

    def forward(self, x: Tensor, cache: StateCache | None = None) -> Tensor:
        """(B, L, d) -> (B, L, d); the state after the last token is left in the cache."""
        qkv, gate = self._project(x)
        if self.conv is not None:
            qkv = self.conv(qkv, cache)
        q, k, v = self._read(qkv, None if cache is None else cache.position)
        del qkv  # a name held is memory held: each tensor dies at its last use
        decay = self._decay(x)
        state = None if cache is None or cache.position.tokens == 0 else cache.ssm
        with scope("scan", "scan"):
            y = self.prefill_op(
                q,
                k,
                v,
                decay,
                scale=self.scale,
                initial_state=state,
                return_final_state=False if cache is None else self.state_dtype,
            )
        del q, k, v, decay
        if cache is not None:
            y, cache.ssm = y
        y = self._gated(y, gate)
        del gate
        with scope("out_proj"):
            return self.out_proj(y)

    def step(self, x: Tensor, cache: StateCache) -> Tensor:
        """(B, d) -> (B, d); the state is overwritten in place."""
        qkv, gate = self._project(x)
        if self.conv is not None:
            qkv = self.conv.step(qkv, cache)
        q, k, v = (heads.squeeze(1) for heads in self._read(qkv[:, None], cache.position))
        decay = self._decay(x)
        with scope("scan", "scan"):
            y = self.step_op(cache.ssm, q, k, v, decay, scale=self.scale)
        y = self._gated(y, gate)
        with scope("out_proj"):
            return self.out_proj(y)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Queries, keys and values (..., channels), and the gate (..., H V)."""
        with scope("in_proj"):
            qkv, gate = self.in_proj(x).split(self.sizes, dim=-1)
        return qkv, gate if gate.shape[-1] else None

    def _read(self, qkv: Tensor, position: Position | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L, channels) -> q (B, L, H, K), k (B, L, Hk, K), v (B, L, Hk, V), views."""
        part = self.part
        sizes = (part.heads * part.key_dim, part.key_width, part.kv_value_width)
        q, k, v = qkv.split(sizes, dim=-1)
        return (
            q.unflatten(-1, (-1, part.key_dim)),
            k.unflatten(-1, (-1, part.key_dim)),
            v.unflatten(-1, (-1, part.value_dim)),
        )

    def _decay(self, x: Tensor) -> Tensor:
        """Log decays (H), or logits of gates (..., Hk, K)."""
        raise NotImplementedError

    def _gated(self, y: Tensor, gate: Tensor | None) -> Tensor:
        """(..., H, V) -> (..., H V), normed and gated."""
        y, rows = y.flatten(-2), (-1, self.normed)
        heads = None if gate is None else gate.unflatten(-1, rows)
        return self.norm(y.unflatten(-1, rows), heads).flatten(-2)

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


class GlaBlock(LinearBlock):
    """A gate per key feature, of low rank: its sigmoid to the power 1 / 16."""

    ops = ("gla", "gla_step")

    def __init__(self, part: Gla, building: Building) -> None:
        super().__init__(part, building, normed=part.value_dim)
        weights = building.weights
        self.decay_down = weights.linear(part.reads(building.d_model), part.gate_rank)
        self.decay_up = weights.linear(part.gate_rank, part.key_width, bias=True)

    def _decay(self, x: Tensor) -> Tensor:
        with scope("decay_proj"):
            return self.decay_up(self.decay_down(x)).unflatten(-1, (-1, self.part.key_dim))


class RetNetBlock(LinearBlock):
    """Decays of 1 - 2^(-5 - h); queries and keys are turned by their position."""

    log_decay: Tensor

    def __init__(self, part: RetNet, building: Building) -> None:
        super().__init__(part, building, normed=part.value_dim)
        heads = torch.arange(part.heads, dtype=torch.float32, device=building.weights.device)
        self.register_buffer("log_decay", torch.log1p(-torch.exp2(-5.0 - heads)))
        self.turned = Attention(
            heads=part.heads,
            kv_heads=part.kv_heads_or_all,
            head_dim=part.key_dim,
            rope_theta=part.rope_theta,
        )
        self.turns = f"retnet {part.table()}"

    def _decay(self, x: Tensor) -> Tensor:
        return self.log_decay

    def _read(self, qkv: Tensor, position: Position | None) -> tuple[Tensor, Tensor, Tensor]:
        part = self.part
        turned = part.heads * part.key_dim + part.key_width
        qk, v = qkv.split((turned, part.kv_value_width), dim=-1)
        cos, sin = rope.angles(self.turned, self.turns, position, qkv)
        with scope("rope", "rope"):
            qk = rotate(qk.unflatten(-1, (-1, part.key_dim)), cos, sin)
        q, k = qk.split((part.heads, part.kv_heads_or_all), dim=2)
        return q, k, v.unflatten(-1, (-1, part.value_dim))

    def new_cache(
        self, batch: int, max_context: int, dtype: torch.dtype, position: Position
    ) -> StateCache:
        """As every kind's; tables of the positions are made once."""
        if self.turns not in position.tables:
            device = self.out_proj.weight.device
            position.tables[self.turns] = rope.tables(self.turned, max_context, device, dtype)
        return super().new_cache(batch, max_context, dtype, position)


class LightningBlock(LinearBlock):
    """Decays of exp(-2^(-8 h / H)) to a power that falls with the layer; SiLU, one norm of all."""

    log_decay: Tensor
    act = "sigmoid"

    def __init__(self, part: Lightning, building: Building) -> None:
        super().__init__(part, building, normed=part.value_width, eps=part.norm_eps)
        self.scale = 1.0  # the norm takes it away
        heads = torch.arange(1, part.heads + 1, dtype=torch.float32, device=building.weights.device)
        power = 1.0 - building.layer / (building.layers - 1 + 1e-5) + 1e-5
        self.register_buffer("log_decay", -torch.exp2(-8.0 / part.heads * heads) * power)

    def _decay(self, x: Tensor) -> Tensor:
        return self.log_decay

    def _read(self, qkv: Tensor, position: Position | None) -> tuple[Tensor, Tensor, Tensor]:
        with scope("act"):
            qkv = F.silu(qkv)
        return super()._read(qkv, position)


BLOCKS = {"gla": GlaBlock, "retnet": RetNetBlock, "lightning": LightningBlock}
