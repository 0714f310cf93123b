"""Causal attention: multi-head or grouped-query, rotary, optionally windowed, with a static cache.

Shape letters: B batch, L tokens, d model width, Hq query heads, Hk key-value heads, dh head width.
Queries, keys and values are one matrix, so that a layer has four matmul launches less.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssmprof.blocks import rope
from ssmprof.blocks.base import KVCache, Position
from ssmprof.blocks.providers import Ops
from ssmprof.blocks.weights import Weights
from ssmprof.scopes import scope
from ssmprof.spec import AttentionSpec


class Attention(nn.Module):
    """Softmax attention over all tokens before (arXiv:1706.03762; grouped: arXiv:2305.13245)."""

    def __init__(self, spec: AttentionSpec, d_model: int, weights: Weights, ops: Ops) -> None:
        super().__init__()
        if spec.heads % spec.kv_heads:
            raise ValueError(f"{spec.heads} heads do not divide into {spec.kv_heads} kv_heads")
        self.spec = spec
        width = (spec.heads + 2 * spec.kv_heads) * spec.head_dim
        self.qkv_proj = weights.linear(d_model, width, bias=spec.qkv_bias)
        self.out_proj = weights.linear(spec.heads * spec.head_dim, d_model, scale=weights.branch)
        self.rotary_op = ops["rotary"]
        self.prefill_op = ops["attention_prefill"]
        self.decode_op = ops["attention_decode"]

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """(B, L, d) -> (B, L, d); keys and values of the L tokens are left in the cache."""
        spec = self.spec
        with scope("qkv_proj"):
            qkv = self.qkv_proj(x).unflatten(-1, (-1, spec.head_dim))
        if cache is None or spec.window is not None:
            q, k, v = self._apart(qkv, cache)
        else:
            start = cache.position.tokens
            end = start + x.shape[1]
            q = self._rotary(qkv, cache, start, start)
            k, v = cache.k[:, :end], cache.v[:, :end]
        del qkv  # a name held is memory held: each tensor dies at its last use
        with scope("attention", "attention"):
            out = self.prefill_op(q, k, v, window=spec.window)
        del q, k, v
        with scope("out_proj"):
            return self.out_proj(out.flatten(2))

    def step(self, x: Tensor, cache: KVCache) -> Tensor:
        """(B, d) -> (B, d); the token's key and value are left in the cache."""
        tokens = cache.position.tokens
        with scope("qkv_proj"):
            qkv = self.qkv_proj(x)[:, None].unflatten(-1, (-1, self.spec.head_dim))
        q = self._rotary(qkv, cache, tokens, tokens % cache.rows)
        with scope("attention", "attention"):
            lengths = cache.position.lengths(cache.rows)
            visible = min(tokens + 1, cache.rows)
            out = self.decode_op(q.squeeze(1), cache.k, cache.v, lengths, visible)
        with scope("out_proj"):
            return self.out_proj(out.flatten(1))

    def _rotary(self, qkv: Tensor, cache: KVCache, first: int, row: int) -> Tensor:
        """Rotate tokens first, first + 1 ..., write keys and values from `row` on; the queries."""
        cos, sin = _turns(self.spec, cache, first, qkv)
        with scope("rope", "rope"):
            return self.rotary_op(qkv, cos, sin, cache.k, cache.v, row)

    def _apart(self, qkv: Tensor, cache: KVCache | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, and all keys and values the tokens may see; a ring is written in two pieces."""
        spec = self.spec
        rotated = spec.heads + spec.kv_heads
        qk, v = qkv[:, :, :rotated], qkv[:, :, rotated:]
        cos, sin = _turns(spec, cache, 0 if cache is None else cache.position.tokens, qkv)
        if cos is not None and sin is not None:
            with scope("rope", "rope"):
                qk = rope.rotate(qk, cos, sin)
        q, k = qk[:, :, : spec.heads], qk[:, :, spec.heads :]
        if cache is not None:
            with scope("cache"):
                k, v = _extend(cache, k, v)
        return q, k, v

    def new_cache(
        self, batch: int, max_context: int, dtype: torch.dtype, position: Position
    ) -> KVCache:
        """Empty keys and values for `max_context` tokens, or a ring of `window` of them."""
        spec = self.spec
        rows = min(max_context, spec.window or max_context)
        device = self.out_proj.weight.device
        k, v = (
            torch.zeros(batch, rows, spec.kv_heads, spec.head_dim, dtype=dtype, device=device)
            for _ in range(2)
        )
        return KVCache(k, v, position)


def _turns(
    spec: AttentionSpec, cache: KVCache | None, first: int, qkv: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Cosine and sine of the tokens' positions, (L, dh/2) each; None without positions."""
    if spec.rope_theta is None:
        return None, None
    last = first + qkv.shape[1]
    if cache is None or cache.position.rope is None:
        cos, sin = rope.tables(last, spec.head_dim, spec.rope_theta, qkv.device, qkv.dtype)
    else:
        cos, sin = cache.position.rope
    return cos[first:last], sin[first:last]


def _extend(cache: KVCache, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Write new rows into a ring; return those the new tokens may see, oldest first."""
    start, length, rows = cache.position.tokens, k.shape[1], cache.rows
    order = [row % rows for row in range(start - min(start, rows), start)]
    all_k, all_v = (
        torch.cat([old[:, order], new], dim=1) if order else new
        for old, new in ((cache.k, k), (cache.v, v))
    )
    kept = min(length, rows)
    first = (start + length - kept) % rows
    head = min(kept, rows - first)
    for ring, new in ((cache.k, k[:, -kept:]), (cache.v, v[:, -kept:])):
        ring[:, first : first + head].copy_(new[:, :head])
        ring[:, : kept - head].copy_(new[:, head:])
    return all_k, all_v
