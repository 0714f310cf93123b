"""The Triton kernels of the decode attention: one part of the cache, and the merge of all parts.

Promises: a part behind the end of a sequence returns a weight of zero, and so does padding; the
merge adds the parts in their order, so that two runs give equal bits. Shapes and formula:
`op`.
"""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _rows_of(cache_ptr, table_ptr, n, mask, stride_n, stride_l, PAGE: tl.constexpr):
    """Addresses of cached tokens n, through the row's page table where there is one, and which of
    them are there: not masked, and in no page below 0."""
    if PAGE > 0:
        page = tl.load(table_ptr + n // PAGE, mask, -1)
        rows = cache_ptr + tl.maximum(page, 0).to(tl.int64) * stride_n
        return rows + (n % PAGE).to(tl.int64) * stride_l, page >= 0
    else:
        return cache_ptr + n.to(tl.int64) * stride_l, mask


@triton.jit
def _in_pages(table_ptr, n, mask, PAGE: tl.constexpr, INTERPRETED: tl.constexpr):
    """Which of the tokens n are in no page below 0. Read by assembly: a plain load would be
    pipelined for the scores' sake, and with it the tiles, at twice the shared memory."""
    if INTERPRETED or table_ptr.dtype.element_ty != tl.int32:
        page = tl.load(table_ptr + n // PAGE, mask, -1)
    else:
        address, wanted = tl.broadcast((table_ptr + n // PAGE).to(tl.int64), mask.to(tl.int32))
        page = tl.inline_asm_elementwise(
            "{ .reg .pred p; setp.ne.b32 p, $2, 0; mov.b32 $0, -1; @p ld.global.b32 $0, [$1]; }",
            "=r,l,r", [address, wanted], dtype=tl.int32, is_pure=True, pack=1,
        )  # fmt: skip
    return page >= 0


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
        k_rows, _ = _rows_of(k_base, table, n, alive, stride_kb, stride_kl, PAGE)
        k_mask = alive[None, :]
        if BLOCK_DK != DK:
            k_mask = k_mask & (dk < DK)[:, None]
        k = tl.load(k_rows[None, :] + dk[:, None] * stride_kd, k_mask, 0.0)
        v_rows, there = _rows_of(v_base, table, n, alive, stride_vb, stride_vl, PAGE)
        v_mask = there[:, None]
        if BLOCK_DV != DV:
            v_mask = v_mask & (dv < DV)[None, :]
        v = tl.load(v_rows[:, None] + dv[None, :] * stride_vd, v_mask, 0.0)
        if INTERPRETED:
            k = k.to(tl.float32)
            v = v.to(tl.float32)
        s = tl.dot(q, k, input_precision="ieee") * scale
        if PAGE > 0:
            alive = _in_pages(table, n, alive, PAGE, INTERPRETED)
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
