"""Causal attention: multi-head or grouped-query, rotary, optionally windowed, with a static cache.

Shape letters: B batch, L tokens, d model width, Hq query heads, Hk key-value heads, dh head width.
Queries, keys and values (and a gate) are one matrix, so that a layer has fewer matmul launches.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from ssmprof_kernels.rotary.reference import rotate
from torch import Tensor, nn

from ssmprof.errors import ConfigError
from ssmprof.mixers.attention import rope
from ssmprof.mixers.attention.differential import Difference
from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.building import Adapts, Building
from ssmprof.mixers.cache import KVCache, LayerCache, Position
from ssmprof.scopes import scope


class AttentionBlock(nn.Module):
    """Softmax attention over all tokens before (arXiv:1706.03762; grouped: arXiv:2305.13245).

    Where keys and values are shared, the cache handed to it is that of the layer that has them.
    """

    def __init__(self, part: Attention, building: Building) -> None:
        super().__init__()
        _refuse(part)
        self.part = part
        weights, ops = building.weights, building.ops
        width = part.reads(building.d_model)
        self.qkv_proj = weights.linear(width, part.qkv_width, bias=part.qkv_bias)
        self.out_proj = weights.linear(
            part.q_width, building.d_model, bias=part.out_bias, scale=weights.branch
        )
        self.shared = part.kv_from == "shared"
        self.eps = building.norm_eps
        self.q_norm = self.k_norm = None
        if part.qk_norm != "none":
            wide = part.qk_norm != "head"
            self.q_norm = weights.ones(part.q_width if wide else part.head_dim)
            if not self.shared:
                self.k_norm = weights.ones(part.kv_width // 2 if wide else part.head_dim)
            self.norm_op = ops["rms_norm"]
        self.options: dict[str, Any] = {}
        if part.sinks:
            self.sinks = weights.zeros(part.heads)
            self.options["sinks"] = self.sinks
        self.difference = Difference(part, building) if part.differential else None
        self.turns = repr(part.table())
        self.rotary_op = ops["rotary"]
        self.prefill_op = ops["attention_prefill"]
        self.decode_op = ops["attention_decode"]

    def forward(
        self, x: Tensor, cache: KVCache | None = None, adapter: Adapts | None = None
    ) -> Tensor:
        """(B, L, d) -> (B, L, d); keys and values of the L tokens are left in the cache.

        `adapter` adds to queries, keys and values (shared weights).
        """
        part = self.part
        qkv, gate = self._project(x, adapter)
        if self.shared:
            assert cache is not None, "an earlier layer has the keys and values"
            end = cache.position.tokens + x.shape[1]
            q = self._turned(qkv, cache)
            k, v = cache.k[:, :end], cache.v[:, :end]
        elif cache is None or part.window is not None:
            q, k, v = self._apart(qkv, cache)
        else:
            start = cache.position.tokens
            end = start + x.shape[1]
            q = self._rotary(qkv, cache, start)
            k, v = cache.k[:, :end], cache.v[:, :end]
        del qkv  # a name held is memory held: each tensor dies at its last use
        out = self._attend(q, k, v)
        del q, k, v
        if gate is not None:
            self._gate(out, gate)
            del gate
        with scope("out_proj"):
            return self.out_proj(out)

    def step(self, x: Tensor, cache: KVCache, adapter: Adapts | None = None) -> Tensor:
        """(B, d) -> (B, d); the token's key and value are left in the cache."""
        qkv, gate = self._project(x[:, None], adapter)
        if self.shared:
            q = self._turned(qkv, cache)
        else:
            q = self._rotary(qkv, cache, cache.position.tokens % cache.rows)
        out = self._look_back(q.squeeze(1), cache)
        if gate is not None:
            self._gate(out, gate.squeeze(1))
        with scope("out_proj"):
            return self.out_proj(out)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Tokens of a prompt, (B, L, H, dh) each -> (B, L, Hq dh)."""

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return self.prefill_op(q, k, v, window=self.part.window, **self.options)

        if self.difference is not None:
            return self.difference(attend, q, k, v)
        with scope("attention", "attention"):
            return attend(q, k, v).flatten(2)

    def _look_back(self, q: Tensor, cache: KVCache) -> Tensor:
        """One token (B, Hq, dh) against the cache -> (B, Hq dh)."""
        lengths = cache.position.lengths(cache.rows)
        visible = min(cache.position.tokens + 1, cache.rows)
        if cache.position.each is not None:
            visible = cache.rows

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return self.decode_op(q, k, v, lengths, visible, **self.options)

        if self.difference is not None:
            return self.difference(attend, q, cache.k, cache.v)
        with scope("attention", "attention"):
            return attend(q, cache.k, cache.v).flatten(1)

    def _project(self, x: Tensor, adapter: Adapts | None) -> tuple[Tensor, Tensor | None]:
        """Queries, keys and values (B, L, Hq + 2 Hk, dh), normed, and the gate (B, L, Hq dh)."""
        part = self.part
        with scope("qkv_proj"):
            projected, gate = self.qkv_proj(x), None
            if adapter is not None:
                adapter.add(x, projected)
            if part.gate:
                projected, gate = projected.split(
                    (part.qkv_width - part.q_width, part.q_width), dim=-1
                )
            qkv = projected.unflatten(-1, (-1, part.head_dim))
        if self.q_norm is not None:
            with scope("qk_norm", "norm"):
                self._normed(qkv[:, :, : part.heads], self.q_norm)
                if self.k_norm is not None:
                    keys = qkv[:, :, part.heads : part.heads + part.kv_heads]
                    self._normed(keys, self.k_norm)
        return qkv, gate

    def _normed(self, heads: Tensor, weight: Tensor) -> None:
        """Norm heads (B, L, H, dh) in place, one by one or all of a token together."""
        if self.part.qk_norm == "heads":  # with weights (H dh)
            normed = F.rms_norm(heads, heads.shape[-1:], eps=self.eps)
            heads.copy_(normed.mul_(weight.view(heads.shape[2:])))
            return
        flat = heads.flatten(2) if self.part.qk_norm == "width" else heads
        heads.copy_(self.norm_op(flat, weight, eps=self.eps).view_as(heads))

    def _gate(self, out: Tensor, gate: Tensor) -> None:
        """Multiply (..., Hq dh) in place with the sigmoid of the gate."""
        with scope("gate"):
            out *= gate.sigmoid()

    def _rotary(self, qkv: Tensor, cache: KVCache, row: int) -> Tensor:
        """Rotate the next tokens, write keys and values from `row` on; the queries."""
        each = cache.position.each
        with scope("rope", "rope"):
            if each is not None:
                cos, sin = cache.position.tables.get(self.turns, (None, None))
                return self.rotary_op(qkv, cos, sin, cache.k, cache.v, 0, positions=each)
            cos, sin = self._angles(cache, qkv)
            return self.rotary_op(qkv, cos, sin, cache.k, cache.v, row)

    def _turned(self, heads: Tensor, cache: KVCache | None) -> Tensor:
        """Heads (B, L, H, dh) of the next tokens, turned."""
        cos, sin = self._angles(cache, heads)
        if cos is None or sin is None:
            return heads
        with scope("rope", "rope"):
            return rotate(heads, cos, sin)

    def _apart(self, qkv: Tensor, cache: KVCache | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, and all keys and values the tokens may see; a ring is written in two pieces."""
        part = self.part
        rotated = part.heads + part.kv_heads
        qk, v = qkv[:, :, :rotated], qkv[:, :, rotated:]
        qk = self._turned(qk, cache)
        q, k = qk[:, :, : part.heads], qk[:, :, part.heads :]
        if cache is not None:
            with scope("cache"):
                k, v = _extend(cache, k, v)
        return q, k, v

    def _angles(self, cache: KVCache | None, heads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Cosine and sine of the next tokens' positions; None without positions."""
        if self.part.rope_theta is None:
            return None, None
        return rope.angles(self.part, self.turns, None if cache is None else cache.position, heads)

    def new_cache(
        self, batch: int, max_context: int, dtype: torch.dtype, position: Position
    ) -> KVCache | None:
        """Empty keys and values for `max_context` tokens, or a ring of `window` of them.

        None where an earlier layer has them.
        """
        part, device = self.part, self.out_proj.weight.device
        if part.rope_theta is not None and self.turns not in position.tables:
            position.tables[self.turns] = rope.tables(part, max_context, device, dtype)
        if self.shared:
            return None
        rows = min(max_context, part.window or max_context)
        k, v = (
            torch.zeros(batch, rows, part.kv_heads, part.head_dim, dtype=dtype, device=device)
            for _ in range(2)
        )
        return KVCache(k, v, position)

    def borrowed(self, cache: LayerCache, max_context: int) -> KVCache:
        """The keys and values of an earlier layer. Raises ConfigError where they do not fit."""
        part = self.part
        if not isinstance(cache, KVCache) or cache.rows < max_context:
            raise ConfigError("attention: keys and values of a window cannot be shared yet")
        if cache.k.shape[2:] != (part.kv_heads, part.head_dim):
            heads, width = cache.k.shape[2:]
            raise ConfigError(
                f"attention: shared keys have {heads} heads of {width}, but "
                f"{part.kv_heads} of {part.head_dim} are read"
            )
        return cache


def _refuse(part: Attention) -> None:
    """Raise ConfigError for what is counted but cannot be run yet."""
    missing = {
        "values of another width than keys (v_head_dim)": part.v_dim != part.head_dim,
        "a bound on scores (score_cap)": part.score_cap is not None,
        "a convolution of queries, keys and values (d_conv)": part.d_conv > 0,
        "tokens before the window (prefix)": part.prefix > 0,
        "a window on shared keys": part.kv_from == "shared" and part.window is not None,
    }
    for what, wanted in missing.items():
        if wanted:
            raise ConfigError(f"attention: {what} cannot be run yet, only counted and planned")


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


BLOCKS = {"attention": AttentionBlock}
