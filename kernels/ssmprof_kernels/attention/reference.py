"""Attention of one new token over a key-value cache in plain torch.

Promises: o = softmax(scale * q k^T) v over the last `window` of the first `lengths[b]` cached
tokens; query head h reads KV head h // (Hq/Hk); a length of 0 yields zeros, and a page below 0 is
padding that holds no tokens; a sink is one more logit of each softmax, which reads nothing.
`_sequential` walks the cache token by token with a running maximum in the dtype of `q` (fp64
capable); the other computes in fp32.
Shapes: q (B,Hq,dh), caches (B,Lmax,Hk,dh), or pages (n,page,Hk,dh) with block_table (B,m).
"""

from __future__ import annotations

import torch


def _cached(
    cache: torch.Tensor, block_table: torch.Tensor | None, row: int, first: int, end: int
) -> torch.Tensor:
    """(tokens,Hk,dh) of one row from token `first` to `end`, gathered from its pages where there
    are any; tokens of pages below 0 are left out."""
    if block_table is None:
        return cache[row, first:end]
    page = cache.shape[1]
    at = torch.arange(first, end, device=cache.device)
    ids = block_table[row].long()[at // page]
    return cache[ids[ids >= 0], (at % page)[ids >= 0]]


def _bounds(
    q: torch.Tensor, capacity: int, lengths: torch.Tensor | None, window: int | None
) -> list[tuple[int, int]]:
    ends = [capacity] * q.shape[0] if lengths is None else lengths.clamp(0, capacity).tolist()
    return [(0 if window is None else max(0, end - window), end) for end in ends]


def attention_decode_sequential(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    lengths: torch.Tensor | None = None,
    *,
    window: int | None = None,
    scale: float | None = None,
    block_table: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Token by token with a running maximum; the oracle of the tests."""
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    share = q.shape[1] // k_cache.shape[2]
    pages = 1 if block_table is None else block_table.shape[1]
    out = q.new_zeros(*q.shape[:2], v_cache.shape[3])
    for row, (first, end) in enumerate(_bounds(q, pages * k_cache.shape[1], lengths, window)):
        keys = _cached(k_cache, block_table, row, first, end).to(q.dtype)
        values = _cached(v_cache, block_table, row, first, end).to(q.dtype)
        for head in range(q.shape[1]):
            top = q.new_full((), float("-inf"))
            total, acc = q.new_zeros(()), q.new_zeros(v_cache.shape[3])
            for t in range(len(keys)):
                score = factor * (q[row, head] * keys[t, head // share]).sum()
                new_top = torch.maximum(top, score)
                fade, weight = torch.exp(top - new_top), torch.exp(score - new_top)
                total = total * fade + weight
                acc = acc * fade + weight * values[t, head // share]
                top = new_top
            if len(keys):
                sink = 0.0 if sinks is None else torch.exp(sinks[head].to(q.dtype) - top)
                out[row, head] = acc / (total + sink)
    return out


def attention_decode(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    lengths: torch.Tensor | None = None,
    *,
    window: int | None = None,
    scale: float | None = None,
    block_table: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Row by row, all tokens and heads at once; the signature and result of the kernel."""
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    heads = k_cache.shape[2]
    pages = 1 if block_table is None else block_table.shape[1]
    out = q.new_zeros(*q.shape[:2], v_cache.shape[3])
    for row, (first, end) in enumerate(_bounds(q, pages * k_cache.shape[1], lengths, window)):
        keys = _cached(k_cache, block_table, row, first, end).to(wide)
        values = _cached(v_cache, block_table, row, first, end).to(wide)
        if not len(keys):
            continue
        packed = q[row].unflatten(0, (heads, -1)).to(wide)
        scores = torch.einsum("hgd,lhd->hgl", packed, keys) * factor
        if sinks is not None:
            logit = sinks.to(wide).view(heads, -1, 1)
            shares = torch.cat([scores, logit], -1).softmax(-1)[..., :-1]
        else:
            shares = scores.softmax(-1)
        mixed = torch.einsum("hgl,lhd->hgd", shares, values)
        out[row] = mixed.flatten(0, 1).to(q.dtype)
    return out
