"""Attention of one new token over a key-value cache, split over the cache, in Triton.

Promises: every key and value is read once (the Hq/Hk query heads of a KV head share a tile); the
grid comes from shapes only, while each split takes an equal part of the *actual* length read on the
device, so that a captured graph stays valid as lengths grow; at most two launches; no atomics. The
running softmax follows FlashAttention-2 (arXiv:2307.08691, section 3.1), the split over the cache
Flash-Decoding; exponentials are base 2.
"""

from __future__ import annotations

from typing import Any

import torch

from ssmprof_kernels import door, launch
from ssmprof_kernels.attention import plan, reference
from ssmprof_kernels.launch import recorded

_recordings: recorded.Recordings = {}
_lookups = launch.lookups()
_INPUTS = ("q", "k_cache", "v_cache", "lengths", "block_table", "sinks")


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
    """softmax(scale * q k^T) v over the cached tokens of each row.

    Args:
        q: (B,Hq,dh) fp32, fp16 or bf16, any strides.
        k_cache: (B,Lmax,Hk,dh) with Hk a divisor of Hq, or pages (n,page,Hk,dh); any strides.
        v_cache: like k_cache; its head width may differ.
        lengths: (B) int32 on the device, cached tokens per row; None means all Lmax; 0 yields
            zeros.
        window: attend to the last `window` tokens only.
        scale: factor of the scores, dh^-0.5 by default.
        block_table: (B,m) int32, page of each block of tokens; makes the caches paged. A page below
            0 is padding: its tokens do not count.
        sinks: (Hq) floating point, contiguous: one more logit of every softmax of a head, which
            reads nothing (gpt-oss, arXiv:2508.10925).

    Returns:
        (B,Hq,dv) contiguous, in q's dtype.

    Raises:
        ValueError: an argument's shape, dtype, device or value does not fit; names it.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    inputs = (q, k_cache, v_cache, lengths, block_table, sinks)
    door.forward_only(_INPUTS, inputs)
    if not (q.is_cuda or door.interpreted()):
        _check(*inputs, window=window)
        return reference.attention_decode(
            q, k_cache, v_cache, lengths, window=window, scale=scale, block_table=block_table,
            sinks=sinks,
        )  # fmt: skip
    key = recorded.key_of(inputs, window, scale)
    meta = recorded.meta_of(_lookups, key, lambda: _lookup(inputs, window))
    out = torch.empty((*q.shape[:2], v_cache.shape[3]), dtype=q.dtype, device=q.device)
    tensors = (*inputs, out)
    recorded.run(
        _recordings, key, meta, tensors, q.device,
        lambda: plan.record(tensors, meta, window, scale),
    )  # fmt: skip
    return out


def _lookup(inputs: tuple[Any, ...], window: int | None) -> launch.Lookup:
    _check(*inputs, window=window)
    q, k_cache, _, _, block_table, _ = inputs
    return plan.lookup(q, k_cache, block_table, window)


def _check(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    lengths: torch.Tensor | None,
    block_table: torch.Tensor | None,
    sinks: torch.Tensor | None,
    *,
    window: int | None,
) -> None:
    if q.ndim != 3 or q.numel() == 0:
        raise ValueError(f"q must have shape (B,Hq,dh), none of them 0, got {tuple(q.shape)}")
    batch, hq, dim = q.shape
    rows = batch if block_table is None else k_cache.shape[0]
    if k_cache.ndim != 4 or k_cache.shape[0] != rows or k_cache.shape[3] != dim:
        letters = "(B,Lmax,Hk,dh)" if block_table is None else "(n,page,Hk,dh)"
        raise ValueError(
            f"k_cache must have shape {letters} with B = {batch}, dh = {dim}, "
            f"got {tuple(k_cache.shape)}"
        )
    if k_cache.numel() == 0 or hq % k_cache.shape[2]:
        raise ValueError(
            f"k_cache needs at least one token and Hk a divisor of Hq = {hq}, "
            f"got {tuple(k_cache.shape)}"
        )
    if v_cache.ndim != 4 or v_cache.shape[:3] != k_cache.shape[:3]:
        raise ValueError(
            f"v_cache must have shape {(*k_cache.shape[:3], 'dv')}, got {tuple(v_cache.shape)}"
        )
    if lengths is not None:
        door.shape("lengths", lengths, (batch,), "(B,)")
    if sinks is not None:
        door.shape("sinks", sinks, (hq,), "(Hq,)")
        if not (sinks.is_floating_point() and sinks.is_contiguous()):
            raise ValueError(f"sinks must be floating point and contiguous, got {sinks.dtype}")
    if window is not None and window < 1:
        raise ValueError(f"window must be at least 1 token or None, got {window}")
    if block_table is not None and (block_table.ndim != 2 or block_table.shape[0] != batch):
        raise ValueError(
            f"block_table must have shape (B,m) with B = {batch}, got {tuple(block_table.shape)}"
        )
    if k_cache.dtype != q.dtype or v_cache.dtype != q.dtype:
        raise ValueError(
            f"k_cache and v_cache must have q's dtype {q.dtype}, "
            f"got {k_cache.dtype} and {v_cache.dtype}"
        )
    if q.is_cuda:
        door.dtype("q", q, door.FLOATS)
    door.same_device(q, k_cache=k_cache, v_cache=v_cache, lengths=lengths, block_table=block_table,
                     sinks=sinks)  # fmt: skip
