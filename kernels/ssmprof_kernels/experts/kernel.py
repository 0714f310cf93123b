"""Device code of the grouped product: one tile of rows of one expert.

Promises: rows behind the last expert's end are 0; a tile never mixes experts.
"""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["R", "tiles"])
def ssmprof_moe_grouped(
    rows_ptr, weight_ptr, ends_ptr, out_ptr, R, tiles, stride_rr, stride_rk, stride_we, stride_wn,
    stride_wk, E: tl.constexpr, N: tl.constexpr, K: tl.constexpr, BLOCK_E: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    INTERPRETED: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    BLOCKS: tl.constexpr = (N + BLOCK_N - 1) // BLOCK_N
    # Blocks of columns run fastest: rows are read once, and an expert's weights stay in L2.
    block = pid % BLOCKS
    tile = pid // BLOCKS
    e = tl.arange(0, BLOCK_E)
    ends = tl.minimum(tl.load(ends_ptr + e, mask=e < E, other=0), R)
    starts = tl.minimum(tl.load(ends_ptr + e - 1, mask=(e > 0) & (e < E), other=0), R)
    counts = (tl.maximum(ends - starts, 0) + BLOCK_M - 1) // BLOCK_M
    behind = tl.cumsum(counts, 0)
    expert = tl.sum((behind <= tile).to(tl.int32), 0)
    n = block * BLOCK_N + tl.arange(0, BLOCK_N)
    if expert >= E:
        # Tiles that are left over: rows that belong to nobody.
        last = tl.maximum(tl.max(ends, 0), 0)
        m = last + (tile - tl.max(behind, 0)) * BLOCK_M + tl.arange(0, BLOCK_M)
        at = out_ptr + m.to(tl.int64)[:, None] * N + n[None, :]
        nothing = tl.zeros((BLOCK_M, BLOCK_N), out_ptr.dtype.element_ty)
        tl.store(at, nothing, mask=(m < R)[:, None] & (n < N)[None, :])
        return
    mine = e == expert
    first = tl.sum(tl.where(mine, starts, 0), 0)
    end = tl.sum(tl.where(mine, ends, 0), 0)
    before = tl.sum(tl.where(mine, behind - counts, 0), 0)
    m = first + (tile - before) * BLOCK_M + tl.arange(0, BLOCK_M)
    k = tl.arange(0, BLOCK_K)
    a_at = rows_ptr + m.to(tl.int64)[:, None] * stride_rr + k[None, :] * stride_rk
    b_at = weight_ptr + expert.to(tl.int64) * stride_we + n.to(tl.int64)[:, None] * stride_wn
    b_at += k[None, :] * stride_wk
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for at in range(0, K, BLOCK_K):
        a_mask = (m < end)[:, None]
        b_mask = (n < N)[:, None]
        if K % BLOCK_K != 0:
            a_mask = a_mask & (at + k < K)[None, :]
            b_mask = b_mask & (at + k < K)[None, :]
        a = tl.load(a_at, mask=a_mask, other=0.0)
        if N % BLOCK_N == 0 and K % BLOCK_K == 0:
            b = tl.load(b_at)
        else:
            b = tl.load(b_at, mask=b_mask, other=0.0)
        if INTERPRETED:
            a = a.to(tl.float32)
            b = b.to(tl.float32)
        acc = tl.dot(a, tl.trans(b), acc, input_precision="tf32x3")
        a_at += BLOCK_K * stride_rk
        b_at += BLOCK_K * stride_wk
    at_out = out_ptr + m.to(tl.int64)[:, None] * N + n[None, :]
    tl.store(at_out, acc.to(out_ptr.dtype.element_ty), mask=(m < end)[:, None] & (n < N)[None, :])
