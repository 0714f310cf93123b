"""Attention of one new token over a key-value cache, split over the cache, in Triton.

Promises: every key and value is read once (the Hq/Hk query heads of a KV head share a tile); the
grid comes from shapes only, while each split takes an equal part of the *actual* length read on the
device, so that a captured graph stays valid as lengths grow; at most two launches; no atomics. The
running softmax follows FlashAttention-2 (arXiv:2307.08691, section 3.1), the split over the cache
Flash-Decoding; exponentials are base 2.
"""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton

from ssmprof_kernels import door, launch
from ssmprof_kernels.attention import reference
from ssmprof_kernels.attention.kernels import _merge_kernel, _split_kernel
from ssmprof_kernels.attention.plan import split_count
from ssmprof_kernels.launch import recorded, replay

_LOG2E = 1.4426950408889634

#: Tokens of a tile; programs a multiprocessor should get; tiles a split has at least; share of the
#: best wave efficiency at which a smaller split count is preferred.
DEFAULT = {
    "BLOCK_N": 64, "FILL": 1, "MIN_TILES": 2, "EFFICIENCY": 0.97, "num_warps": 4, "num_stages": 3,
}  # fmt: skip
#: fp32 tiles are twice as large in shared memory and in registers.
DEFAULT_FP32 = {**DEFAULT, "BLOCK_N": 32, "num_warps": 8, "num_stages": 2}
_MERGE = {"num_warps": 4}
#: Programmatic dependent launch, from compute capability 9.0 on: the second launch costs less.
_MERGE_OVERLAPPED = {"num_warps": 4, "launch_pdl": True}


def attention_decode(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    lengths: torch.Tensor | None = None,
    *,
    window: int | None = None,
    scale: float | None = None,
    block_table: torch.Tensor | None = None,
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

    Returns:
        (B,Hq,dv) contiguous, in q's dtype.

    Raises:
        ValueError: an argument's shape, dtype, device or value does not fit; names it.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    inputs = (q, k_cache, v_cache, lengths, block_table)
    door.forward_only(_INPUTS, inputs)
    key = recorded.key_of(inputs, window, scale)
    if key not in _recordings:
        _check(*inputs, window)
    if not (q.is_cuda or door.interpreted()):
        return reference.attention_decode(
            q, k_cache, v_cache, lengths, window=window, scale=scale, block_table=block_table
        )
    room, heads = k_cache.shape[1], k_cache.shape[2]
    capacity = room if block_table is None else room * block_table.shape[1]
    span = capacity if window is None else min(window, capacity)
    known = launch.facts(q.device)
    fill = launch.fill_bucket(q.shape[0] * heads, known.sm_count)
    bucket = f"{launch.length_bucket(span)}-{fill}"
    default = DEFAULT
    if q.dtype == torch.float32:
        bucket, default = f"float32-{bucket}", DEFAULT_FP32
    meta = launch.pick("attention_decode", bucket, q.device, default).meta
    out = torch.empty((*q.shape[:2], v_cache.shape[3]), dtype=q.dtype, device=q.device)
    tensors = (*inputs, out)
    recorded.run(
        _recordings, key, meta, tensors, q.device,
        lambda: _record(tensors, capacity, span, window, scale, meta),
    )  # fmt: skip
    return out


_recordings: recorded.Recordings = {}
_INPUTS = ("q", "k_cache", "v_cache", "lengths", "block_table")


def _record(
    tensors: tuple[torch.Tensor | None, ...],
    capacity: int,
    span: int,
    window: int | None,
    scale: float | None,
    meta: dict[str, Any],
) -> replay.Recording:
    q, k, v, lengths, table, _ = tensors
    assert q is not None
    assert k is not None
    assert v is not None
    batch, hq, dk = q.shape
    heads, dv = k.shape[2], v.shape[3]
    share = hq // heads
    known = launch.facts(q.device)
    cut = split_count(
        batch * heads, span, meta["BLOCK_N"], known.sm_count * meta["FILL"],
        meta["MIN_TILES"], meta["EFFICIENCY"],
    )  # fmt: skip
    overlap = known.sm >= 90 and cut > 1
    recording = replay.Recording(len(tensors))
    out = replay.Arg(5)
    part = recording.work(batch, hq, cut, dv) if cut > 1 else out
    stats = recording.work(batch, hq, cut, 2) if cut > 1 else out
    strides = {"stride_t": 0 if table is None else table.stride(0)}
    for t, letters in ((q, "qb qh qd"), (k, "kb kl kh kd"), (v, "vb vl vh vd")):
        names = [f"stride_{a}" for a in letters.split()]
        strides |= dict(zip(names, t.stride(), strict=True))
    recording.add(
        _split_kernel,
        batch * heads * cut,
        {
            "num_warps": meta["num_warps"], "num_stages": meta["num_stages"],
            "enable_fp_fusion": True,
        },
        q_ptr=replay.Arg(0), k_ptr=replay.Arg(1), v_ptr=replay.Arg(2), length_ptr=replay.Arg(3),
        table_ptr=replay.Arg(4), out_ptr=out, part_ptr=part, stats_ptr=stats,
        capacity=capacity, window=window or 0, heads=heads,
        scale=(dk**-0.5 if scale is None else scale) * _LOG2E, **strides,
        SPLITS=cut, SHARE=share, DK=dk, DV=dv, PAGE=0 if table is None else k.shape[1],
        HAS_LENGTHS=lengths is not None, WINDOWED=window is not None,
        BLOCK_M=max(16, triton.next_power_of_2(share)),
        BLOCK_DK=max(16, triton.next_power_of_2(dk)), BLOCK_DV=max(16, triton.next_power_of_2(dv)),
        BLOCK_N=meta["BLOCK_N"], INTERPRETED=not q.is_cuda, OVERLAP=overlap,
    )  # fmt: skip
    if cut > 1:
        recording.add(
            _merge_kernel,
            batch * hq,
            {"enable_fp_fusion": True, **(_MERGE_OVERLAPPED if overlap else _MERGE)},
            part_ptr=part, stats_ptr=stats, out_ptr=out, SPLITS=cut, DV=dv,
            BLOCK_S=triton.next_power_of_2(cut), BLOCK_DV=triton.next_power_of_2(dv),
            OVERLAP=overlap,
        )  # fmt: skip
    return recording


def _check(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    lengths: torch.Tensor | None,
    block_table: torch.Tensor | None,
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
    door.same_device(q, k_cache=k_cache, v_cache=v_cache, lengths=lengths, block_table=block_table)
