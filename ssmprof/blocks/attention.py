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
        self.prefill_op = ops["attention_prefill"]
        self.decode_op = ops["attention_decode"]

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """(B, L, d) -> (B, L, d); keys and values of the L tokens are left in the cache."""
        spec = self.spec
        length = x.shape[1]
        start = 0 if cache is None else cache.position.tokens
        turns = _turns(spec, cache, start, length, x)
        with scope("qkv_proj"):
            qkv = self.qkv_proj(x)
        q, k, v = self._heads(qkv, turns)
        del qkv  # a name held is memory held: each tensor dies at its last use
        if cache is not None:
            with scope("cache"):
                k, v = _extend(cache, k, v, spec.window)
        with scope("attention", "attention"):
            out = self.prefill_op(q, k, v, window=spec.window)
        del q, k, v
        with scope("out_proj"):
            return self.out_proj(out.flatten(2))

    def step(self, x: Tensor, cache: KVCache) -> Tensor:
        """(B, d) -> (B, d); the token's key and value are left in the cache."""
        spec = self.spec
        tokens = cache.position.tokens
        turns = _turns(spec, cache, tokens, 1, x)
        with scope("qkv_proj"):
            qkv = self.qkv_proj(x)
        q, k, v = self._heads(qkv[:, None], turns)
        with scope("cache"):
            row = tokens % cache.rows
            cache.k[:, row : row + 1].copy_(k)
            cache.v[:, row : row + 1].copy_(v)
        visible = min(tokens + 1, cache.rows)
        with scope("attention", "attention"):
            lengths = cache.position.lengths(cache.rows)
            out = self.decode_op(q.squeeze(1), cache.k, cache.v, lengths, visible)
        with scope("out_proj"):
            return self.out_proj(out.flatten(1))

    def _heads(
        self, qkv: Tensor, turns: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Split (B, L, (Hq + 2 Hk) dh) into heads and rotate queries and keys in one go."""
        spec = self.spec
        heads = qkv.unflatten(-1, (-1, spec.head_dim))
        rotated = spec.heads + spec.kv_heads
        qk, v = heads[:, :, :rotated], heads[:, :, rotated:]
        if turns is not None:
            with scope("rope", "rope"):
                qk = rope.rotate(qk, *turns)
        return qk[:, :, : spec.heads], qk[:, :, spec.heads :], v

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
    spec: AttentionSpec, cache: KVCache | None, start: int, length: int, x: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Cosine and sine of positions start .. start + length, (length, dh/2)."""
    if spec.rope_theta is None:
        return None
    if cache is None:
        return rope.tables(length, spec.head_dim, spec.rope_theta, x.device, x.dtype)
    assert cache.position.rope is not None
    cos, sin = cache.position.rope
    return cos[start : start + length], sin[start : start + length]


def _extend(cache: KVCache, k: Tensor, v: Tensor, window: int | None) -> tuple[Tensor, Tensor]:
    """Write new rows and return all keys and values the new tokens may see, in order."""
    start, length, rows = cache.position.tokens, k.shape[1], cache.rows
    if window is None:
        end = start + length
        cache.k[:, start:end].copy_(k)
        cache.v[:, start:end].copy_(v)
        return (k, v) if start == 0 else (cache.k[:, :end], cache.v[:, :end])
    seen = min(start, rows)
    order = [row % rows for row in range(start - seen, start)]
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
