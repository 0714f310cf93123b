"""Multi-head latent attention (arXiv:2405.04434, section 2.1).

Shape letters: B batch, L tokens, d width, H heads, r rank of the latent, dr width of the key that
all heads share and that is turned, dn width of the rest of a key, dv width of a value. The cache
holds a latent and a shared key per token. A prompt expands them to keys and values of every head;
a step does not: the expansion is absorbed into its queries and its output (section 2.1.2).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ssmprof.mixers.attention import rope
from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.building import Building
from ssmprof.mixers.cache import KVCache, Position
from ssmprof.mixers.mla.shape import Latent
from ssmprof.mixers.norm.block import RMSNorm
from ssmprof.scopes import scope


class LatentBlock(nn.Module):
    """(B, L, d) -> (B, L, d); rows of the cache are (r + dr): latent, then shared key."""

    def __init__(self, part: Latent, building: Building) -> None:
        super().__init__()
        self.part = part
        weights, d_model = building.weights, building.d_model
        reads, rank = part.reads(d_model), part.q_lora_rank
        inner = replace(building, norm_eps=part.norm_eps or building.norm_eps)
        self.q_down = self.q_norm = None
        if rank:
            self.q_down = weights.linear(reads, rank, bias=part.bias)
            self.q_norm = RMSNorm(rank, inner)
        self.q_proj = weights.linear(rank or reads, part.q_width)
        self.kv_down = weights.linear(reads, part.row, bias=part.bias)
        self.kv_norm = RMSNorm(part.kv_lora_rank, inner)
        # Of every head the rows of its key, then those of its value.
        self.kv_up = weights.linear(part.kv_lora_rank, part.expanded)
        self.out_proj = weights.linear(
            part.heads * part.v_head_dim, d_model, bias=part.bias, scale=weights.branch
        )
        self.scale = part.head_dim**-0.5
        self.turned = None
        if part.rope_theta is not None:
            self.turned = Attention(
                heads=1, kv_heads=1, head_dim=part.qk_rope_head_dim, rope_theta=part.rope_theta,
                rope_dim=part.qk_rope_head_dim, rope_scaling=part.rope_scaling,
            )  # fmt: skip
        self.turns = repr(part.table())
        self.rotary_op = building.ops["latent_rotary"]
        self.prefill_op = building.ops["attention_prefill"]
        self.decode_op = building.ops["latent_decode"]

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """(B, L, d) -> (B, L, d); latents and shared keys of the L tokens stay in the cache."""
        part = self.part
        q, row = self._project(x)
        self._rotary(q, row, cache)
        if cache is not None:
            row = cache.k[:, : cache.position.tokens + x.shape[1], 0]
        latent, shared = row.split((part.kv_lora_rank, part.qk_rope_head_dim), dim=-1)
        with scope("kv_up"):
            # As a matrix: a strided (B, L, r) would become a batched product.
            expanded = self.kv_up(latent.flatten(0, 1)).view(*latent.shape[:2], part.heads, -1)
            own, values = expanded.split((part.qk_nope_head_dim, part.v_head_dim), dim=-1)
            keys = torch.cat([own, shared[:, :, None].expand(-1, -1, part.heads, -1)], dim=-1)
        del row, latent, shared, expanded, own  # a name held is memory held
        with scope("attention", "attention"):
            out = self.prefill_op(q, keys, values, window=None)
        del q, keys, values
        with scope("out_proj"):
            return self.out_proj(out.flatten(2))

    def step(self, x: Tensor, cache: KVCache) -> Tensor:
        """(B, d) -> (B, d); the token's latent and shared key are left in the cache."""
        part, position = self.part, cache.position
        visible = position.tokens + 1 if position.each is None else cache.rows
        q, row = self._project(x[:, None])
        # What of a query is absorbed into the latent, and what is turned.
        absorbed = q.new_empty(len(x), part.heads, part.row)
        self._rotary(q, row, cache, absorbed[:, None])
        del row
        up = self.kv_up.weight.unflatten(0, (part.heads, -1))
        up_keys, up_values = up.split((part.qk_nope_head_dim, part.v_head_dim), dim=1)
        own = q[:, 0, :, : part.qk_nope_head_dim].transpose(0, 1)
        with scope("kv_up"):
            torch.bmm(own, up_keys, out=absorbed[..., : part.kv_lora_rank].transpose(0, 1))
        del q, own
        with scope("attention", "attention"):
            seen = self.decode_op(
                absorbed, cache.k[:, :, 0], position.lengths(cache.rows), visible,
                rank=part.kv_lora_rank, scale=self.scale,
            )  # fmt: skip
        del absorbed
        out = seen.new_empty(len(x), part.heads, part.v_head_dim)
        with scope("kv_up"):
            torch.bmm(seen.transpose(0, 1), up_values.transpose(1, 2), out=out.transpose(0, 1))
        with scope("out_proj"):
            return self.out_proj(out.flatten(1))

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (B, L, H, dn + dr), and latents with shared keys (B, L, r + dr)."""
        part = self.part
        with scope("q_proj"):
            if self.q_down is not None and self.q_norm is not None:
                q = self.q_proj(self.q_norm(self.q_down(x)))
            else:
                q = self.q_proj(x)
            q = q.unflatten(-1, (part.heads, part.head_dim))
        with scope("kv_down"):
            return q, self.kv_down(x)

    def _rotary(
        self, q: Tensor, row: Tensor, cache: KVCache | None, q_out: Tensor | None = None
    ) -> None:
        """Norm latents and turn keys and queries of the next tokens: rows go into the cache,
        queries to `q_out` (B, L, H, r + dr), both in place where there is none."""
        cos = sin = rows = each = position = None
        if cache is not None:
            position, each, rows = cache.position, cache.position.each, cache.k[:, :, 0]
            if each is None:
                rows = rows[:, position.tokens : position.tokens + row.shape[1]]
        if position is not None and each is not None:
            cos, sin = position.tables.get(self.turns, (None, None))
        elif self.turned is not None:
            cos, sin = rope.angles(self.turned, self.turns, position, row)
        with scope("rope", "rope"):
            self.rotary_op(
                q, row, self.kv_norm.weight, cos, sin, eps=self.kv_norm.eps, q_out=q_out,
                row_out=rows, positions=each,
            )  # fmt: skip

    def new_cache(
        self, batch: int, max_context: int, dtype: torch.dtype, position: Position
    ) -> KVCache:
        """Empty rows for `max_context` tokens, one head wide; values are part of them."""
        device = self.out_proj.weight.device
        if self.turned is not None and self.turns not in position.tables:
            position.tables[self.turns] = rope.tables(self.turned, max_context, device, dtype)
        rows = torch.zeros(batch, max_context, 1, self.part.row, dtype=dtype, device=device)
        return KVCache(rows, rows[..., :0], position)


BLOCKS = {"mla": LatentBlock}
