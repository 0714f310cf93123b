"""Cost of an attention sub-layer, grouped-query, with an optional window.

Shape letters: B batch, L context, Hq query heads, Hk key-value heads, dh head width, w window.
Causal halves are taken: a prefill looks at L(L+1)/2 pairs, or w(w+1)/2 + (L-w)w with a window.
"""

from __future__ import annotations

from ssmprof.costs.pieces import Parts, elementwise, matmul, total, work
from ssmprof.records import Cost, Point
from ssmprof.spec import DTYPE_BYTES, AttentionSpec, BlockSpec


def pairs(context: int, window: int | None) -> int:
    """(query, key) pairs of a causal prefill of `context` tokens."""
    if window is None or window >= context:
        return context * (context + 1) // 2
    return window * (window + 1) // 2 + (context - window) * window


def rows(spec: AttentionSpec, point: Point) -> int:
    """Tokens a KV cache holds during the call; a decode step adds its own."""
    held = point.context + (1 if point.phase == "decode" else 0)
    return min(held, spec.window or held)


def attention(spec: BlockSpec, point: Point) -> Parts:
    """Projections, rotary embedding with the cache write, scores and output of one sub-layer."""
    assert spec.attention is not None
    a, b = spec.attention, DTYPE_BYTES[point.dtype]
    tokens = point.batch * (1 if point.phase == "decode" else point.context)
    q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
    parts = {
        "qkv_proj": matmul(tokens, spec.d_model, q + 2 * kv, b, bias=a.qkv_bias),
        "attention": _decode(a, point, b) if point.phase == "decode" else _prefill(a, point, b),
        "out_proj": matmul(tokens, q, spec.d_model, b),
    }
    # Keys and values are written into the cache on the way, whether or not anything is rotated.
    turned = q + kv if a.rope_theta is not None else 0
    parts["rope"] = elementwise(tokens * (turned or kv), b, reads=1, flops=3 if turned else 0)
    parts["rope"] = total((parts["rope"], elementwise(tokens * kv, b, reads=1, flops=0)))
    return parts


def _prefill(a: AttentionSpec, point: Point, b: int) -> Cost:
    looked = pairs(point.context, a.window) * point.batch
    tokens = point.context * point.batch
    return work(
        flops=4 * looked * a.heads * a.head_dim,
        read=tokens * (a.heads + 2 * a.kv_heads) * a.head_dim * b,
        written=tokens * a.heads * a.head_dim * b,
        exps=a.heads * looked,
    )


def _decode(a: AttentionSpec, point: Point, b: int) -> Cost:
    seen = rows(a, point) * point.batch
    return work(
        flops=4 * seen * a.heads * a.head_dim,
        read=(2 * seen * a.kv_heads + point.batch * a.heads) * a.head_dim * b,
        written=point.batch * a.heads * a.head_dim * b,
        exps=a.heads * seen,
    )
