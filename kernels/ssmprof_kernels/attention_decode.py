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

import torch
import triton
import triton.language as tl

from ssmprof_kernels import door, launch
from ssmprof_kernels.attention_split import split_count
from ssmprof_kernels.reference import attention as reference

_LOG2E = 1.4426950408889634

#: Tokens of a tile; programs a multiprocessor should get; tiles a split has at least; share of the
#: best wave efficiency at which a smaller split count is preferred.
DEFAULT = {
    "BLOCK_N": 64, "FILL": 1, "MIN_TILES": 2, "EFFICIENCY": 0.97, "num_warps": 4, "num_stages": 3,
}  # fmt: skip
_MERGE = {"num_warps": 4}
#: Programmatic dependent launch, from compute capability 9.0 on: the second launch costs less.
_MERGE_OVERLAPPED = {"num_warps": 4, "launch_pdl": True}


@triton.jit
def _rows_of(cache_ptr, table_ptr, n, mask, stride_n, stride_l, PAGE: tl.constexpr):
    """Addresses of cached tokens n, through the row's page table where there is one."""
    if PAGE > 0:
        block = tl.load(table_ptr + n // PAGE, mask, 0).to(tl.int64)
        return cache_ptr + block * stride_n + (n % PAGE).to(tl.int64) * stride_l
    return cache_ptr + n.to(tl.int64) * stride_l


@triton.jit
def _split_kernel(
    q_ptr, k_ptr, v_ptr, length_ptr, table_ptr, out_ptr, part_ptr, stats_ptr,
    capacity, window, heads, scale,
    stride_qb, stride_qh, stride_qd, stride_kb, stride_kl, stride_kh, stride_kd,
    stride_vb, stride_vl, stride_vh, stride_vd, stride_t,
    SPLITS: tl.constexpr, SHARE: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr,
    PAGE: tl.constexpr, HAS_LENGTHS: tl.constexpr, WINDOWED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_DK: tl.constexpr, BLOCK_DV: tl.constexpr,
    BLOCK_N: tl.constexpr, INTERPRETED: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        # The merge may be launched now; it waits for this grid's results before it reads them.
        tl.extra.cuda.gdc_launch_dependents()
    pid = tl.program_id(0)
    # Heads run fastest: programs that read neighbouring bytes of the cache start together.
    head = pid % heads
    split = (pid // heads) % SPLITS
    row = (pid // (heads * SPLITS)).to(tl.int64)
    end = capacity
    if HAS_LENGTHS:
        end = tl.minimum(tl.load(length_ptr + row).to(tl.int32), capacity)
    first = 0
    if WINDOWED:
        first = tl.maximum(end - window, 0)
    tiles = tl.cdiv(tl.maximum(end - first, 0), BLOCK_N)
    low = first + (tiles * split // SPLITS) * BLOCK_N
    high = tl.minimum(first + (tiles * (split + 1) // SPLITS) * BLOCK_N, end)

    m = tl.arange(0, BLOCK_M)
    dk = tl.arange(0, BLOCK_DK)
    dv = tl.arange(0, BLOCK_DV)
    q_head = head * SHARE + m
    q_mask = (m < SHARE)[:, None] & (dk < DK)[None, :]
    q_rows = q_ptr + row * stride_qb + q_head.to(tl.int64)[:, None] * stride_qh
    q = tl.load(q_rows + dk[None, :] * stride_qd, q_mask, 0.0)
    k_base = k_ptr + head.to(tl.int64) * stride_kh
    v_base = v_ptr + head.to(tl.int64) * stride_vh
    if PAGE == 0:
        k_base += row * stride_kb
        v_base += row * stride_vb
    table = table_ptr
    if PAGE > 0:
        table += row * stride_t
    if INTERPRETED:
        q = q.to(tl.float32)

    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    acc = tl.zeros((BLOCK_M, BLOCK_DV), tl.float32)
    for start in range(low, high, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        alive = n < high
        k_rows = _rows_of(k_base, table, n, alive, stride_kb, stride_kl, PAGE)
        k_mask = alive[None, :]
        if BLOCK_DK != DK:
            k_mask = k_mask & (dk < DK)[:, None]
        k = tl.load(k_rows[None, :] + dk[:, None] * stride_kd, k_mask, 0.0)
        v_rows = _rows_of(v_base, table, n, alive, stride_vb, stride_vl, PAGE)
        v_mask = alive[:, None]
        if BLOCK_DV != DV:
            v_mask = v_mask & (dv < DV)[None, :]
        v = tl.load(v_rows[:, None] + dv[None, :] * stride_vd, v_mask, 0.0)
        if INTERPRETED:
            k = k.to(tl.float32)
            v = v.to(tl.float32)
        s = tl.dot(q, k, input_precision="ieee") * scale
        s = tl.where(alive[None, :], s, float("-inf"))
        new_top = tl.maximum(top, tl.max(s, axis=1))
        # A row that is -inf so far must not turn into inf - inf.
        safe = tl.where(new_top == float("-inf"), 0.0, new_top)
        fade = tl.exp2(top - safe)
        p = tl.exp2(s - safe[:, None])
        total = total * fade + tl.sum(p, axis=1)
        acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None], input_precision="ieee")
        top = new_top

    out_mask = (m < SHARE)[:, None] & (dv < DV)[None, :]
    hq = heads * SHARE
    if SPLITS == 1:
        acc = acc / tl.where(total == 0.0, 1.0, total)[:, None]
        rows = out_ptr + (row * hq + q_head)[:, None] * DV
        tl.store(rows + dv[None, :], acc.to(out_ptr.dtype.element_ty), out_mask)
    else:
        at = (row * hq + q_head) * SPLITS + split
        tl.store(part_ptr + at[:, None] * DV + dv[None, :], acc, out_mask)
        tl.store(stats_ptr + at * 2, top, m < SHARE)
        tl.store(stats_ptr + at * 2 + 1, total, m < SHARE)


@triton.jit
def _merge_kernel(
    part_ptr, stats_ptr, out_ptr,
    SPLITS: tl.constexpr, DV: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_DV: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        tl.extra.cuda.gdc_wait()
    at = tl.program_id(0).to(tl.int64)
    s = tl.arange(0, BLOCK_S)
    dv = tl.arange(0, BLOCK_DV)
    alive = s < SPLITS
    rows = at * SPLITS + s
    top = tl.load(stats_ptr + rows * 2, alive, float("-inf"))
    total = tl.load(stats_ptr + rows * 2 + 1, alive, 0.0)
    part = tl.load(
        part_ptr + rows[:, None] * DV + dv[None, :],
        alive[:, None] & (dv < DV)[None, :], 0.0,
    )  # fmt: skip
    highest = tl.max(top, axis=0)
    weight = tl.exp2(top - tl.where(highest == float("-inf"), 0.0, highest))
    divisor = tl.sum(weight * total, axis=0)
    out = tl.sum(part * weight[:, None], axis=0) / tl.where(divisor == 0.0, 1.0, divisor)
    tl.store(out_ptr + at * DV + dv, out.to(out_ptr.dtype.element_ty), dv < DV)


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
        block_table: (B,m) int32, page of each block of tokens; makes the caches paged.

    Returns:
        (B,Hq,dv) contiguous, in q's dtype.

    Raises:
        ValueError: an argument's shape, dtype, device or value does not fit; names it.
    """
    _check(q, k_cache, v_cache, lengths, window, block_table)
    if not (q.is_cuda or door.interpreted()):
        return reference.attention_decode(
            q, k_cache, v_cache, lengths, window=window, scale=scale, block_table=block_table
        )
    batch, hq, dk = q.shape
    room, heads, dv = k_cache.shape[1], k_cache.shape[2], v_cache.shape[3]
    page = 0 if block_table is None else room
    capacity = room if block_table is None else room * block_table.shape[1]
    share = hq // heads
    span = capacity if window is None else min(window, capacity)
    known = launch.facts(q.device)
    bucket = f"{launch.length_bucket(span)}-{launch.fill_bucket(batch * heads, known.sm_count)}"
    meta = launch.pick("attention_decode", bucket, q.device, DEFAULT).meta
    block_n = meta["BLOCK_N"]
    cut = split_count(
        batch * heads,
        span,
        block_n,
        known.sm_count * meta["FILL"],
        meta["MIN_TILES"],
        meta["EFFICIENCY"],
    )
    overlap = known.sm >= 90
    out = q.new_empty(batch, hq, dv)
    part = stats = out
    if cut > 1:
        scratch = torch.empty(batch * hq * cut * (dv + 2), dtype=torch.float32, device=q.device)
        part, stats = scratch, scratch.narrow(0, batch * hq * cut * dv, batch * hq * cut * 2)
    qs, ks, vs = q.stride(), k_cache.stride(), v_cache.stride()
    _split_kernel[(batch * heads * cut,)](
        q, k_cache, v_cache, lengths, block_table, out, part, stats,
        capacity, window or 0, heads, (dk**-0.5 if scale is None else scale) * _LOG2E,
        *qs, *ks, *vs, 0 if block_table is None else block_table.stride(0),
        SPLITS=cut, SHARE=share, DK=dk, DV=dv, PAGE=page, HAS_LENGTHS=lengths is not None,
        WINDOWED=window is not None, BLOCK_M=max(16, triton.next_power_of_2(share)),
        BLOCK_DK=max(16, triton.next_power_of_2(dk)), BLOCK_DV=max(16, triton.next_power_of_2(dv)),
        BLOCK_N=block_n, INTERPRETED=not q.is_cuda, OVERLAP=overlap and cut > 1,
        num_warps=meta["num_warps"], num_stages=meta["num_stages"], enable_fp_fusion=True,
    )  # fmt: skip
    if cut > 1:
        _merge_kernel[(batch * hq,)](
            part, stats, out, SPLITS=cut, DV=dv, BLOCK_S=triton.next_power_of_2(cut),
            BLOCK_DV=triton.next_power_of_2(dv), OVERLAP=overlap, enable_fp_fusion=True,
            **(_MERGE_OVERLAPPED if overlap else _MERGE),
        )  # fmt: skip
    return out


def _check(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    lengths: torch.Tensor | None,
    window: int | None,
    block_table: torch.Tensor | None,
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
