"""Device code of latent decode: one part of the cache for some heads.

Promises: a program reads each latent of its part once, as key and as value. In fp32, whose tiles
would not fit, programs share the values of a part among them and read keys by blocks of features.
"""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl


@triton.jit
def _scores(q_rows, mine, rows, alive, stride_qd, stride_cd, RANK: tl.constexpr,
            BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr):  # fmt: skip
    """Products of queries and latents, by blocks of features."""
    s = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for first in range(0, RANK, BLOCK_V):
        k = first + tl.arange(0, BLOCK_V)
        here = (k < RANK)[None, :]
        q = tl.load(q_rows + k[None, :] * stride_qd, mine & here, 0.0)
        c = tl.load(rows + k[None, :] * stride_cd, alive[:, None] & here, 0.0)
        s = tl.dot(q.to(tl.float32), tl.trans(c.to(tl.float32)), s, input_precision="tf32x3")
    return s


@triton.jit
def ssmprof_attention_latent(
    q_ptr, c_ptr, length_ptr, out_ptr, part_ptr, stats_ptr, capacity, heads, scale,
    stride_qb, stride_qh, stride_qd, stride_cb, stride_cl, stride_cd, SPLITS: tl.constexpr,
    BLOCKS: tl.constexpr, RANK: tl.constexpr, TURNED: tl.constexpr, HAS_LENGTHS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_N: tl.constexpr,
    INTERPRETED: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        # The merge may be launched now; it waits for this grid's results before it reads them.
        tl.extra.cuda.gdc_launch_dependents()
    pid = tl.program_id(0)
    # Blocks of heads run fastest: they read the same bytes of the cache.
    SHARES: tl.constexpr = (RANK + BLOCK_V - 1) // BLOCK_V
    share = pid % SHARES
    pid = pid // SHARES
    block = pid % BLOCKS
    split = (pid // BLOCKS) % SPLITS
    row = (pid // (BLOCKS * SPLITS)).to(tl.int64)
    end = capacity
    if HAS_LENGTHS:
        end = tl.minimum(tl.load(length_ptr + row).to(tl.int32), capacity)
    tiles = tl.cdiv(tl.maximum(end, 0), BLOCK_N)
    low = (tiles * split // SPLITS) * BLOCK_N
    high = tl.minimum((tiles * (split + 1) // SPLITS) * BLOCK_N, end)
    m = block * BLOCK_M + tl.arange(0, BLOCK_M)
    r = share * BLOCK_V + tl.arange(0, BLOCK_V)
    t = tl.arange(0, BLOCK_T)
    q_rows = q_ptr + row * stride_qb + m.to(tl.int64)[:, None] * stride_qh
    mine = (m < heads)[:, None]
    if SHARES == 1:
        q = tl.load(q_rows + r[None, :] * stride_qd, mine & (r < RANK)[None, :], 0.0)
        if INTERPRETED:
            q = q.to(tl.float32)
    q_turned = tl.load(
        q_rows + (RANK + t)[None, :] * stride_qd, mine & (t < TURNED)[None, :], 0.0
    )  # fmt: skip
    if INTERPRETED:
        q_turned = q_turned.to(tl.float32)
    c_base = c_ptr + row * stride_cb
    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    acc = tl.zeros((BLOCK_M, BLOCK_V), tl.float32)
    for start in range(low, high, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        alive = n < high
        rows = c_base + n.to(tl.int64)[:, None] * stride_cl
        c_mask = alive[:, None]
        if RANK % BLOCK_V != 0:
            c_mask = c_mask & (r < RANK)[None, :]
        t_mask = alive[:, None]
        if BLOCK_T != TURNED:
            t_mask = t_mask & (t < TURNED)[None, :]
        c = tl.load(rows + r[None, :] * stride_cd, c_mask, 0.0)
        turned = tl.load(rows + (RANK + t)[None, :] * stride_cd, t_mask, 0.0)
        if INTERPRETED:
            c = c.to(tl.float32)
            turned = turned.to(tl.float32)
        if SHARES == 1:
            s = tl.dot(q, tl.trans(c), input_precision="tf32x3")
        else:
            s = _scores(q_rows, mine, rows, alive, stride_qd, stride_cd, RANK, BLOCK_M, BLOCK_N,
                        BLOCK_V)  # fmt: skip
        s = tl.dot(q_turned, tl.trans(turned), s, input_precision="tf32x3") * scale
        s = tl.where(alive[None, :], s, float("-inf"))
        new_top = tl.maximum(top, tl.max(s, axis=1))
        # A row that is -inf so far must not turn into inf - inf.
        safe = tl.where(new_top == float("-inf"), 0.0, new_top)
        fade = tl.exp2(top - safe)
        p = tl.exp2(s - safe[:, None])
        total = total * fade + tl.sum(p, axis=1)
        acc = tl.dot(p.to(c.dtype), c, acc * fade[:, None], input_precision="tf32x3")
        top = new_top
    out_mask = mine & (r < RANK)[None, :]
    if SPLITS == 1:
        acc = acc / tl.where(total == 0.0, 1.0, total)[:, None]
        at = out_ptr + (row * heads + m)[:, None] * RANK + r[None, :]
        tl.store(at, acc.to(out_ptr.dtype.element_ty), out_mask)
    else:
        at = (row * heads + m) * SPLITS + split
        tl.store(part_ptr + at[:, None] * RANK + r[None, :], acc, out_mask)
        if share == 0:
            tl.store(stats_ptr + at * 2, top, m < heads)
            tl.store(stats_ptr + at * 2 + 1, total, m < heads)


@triton.jit
def ssmprof_attention_latent_merge(
    part_ptr, stats_ptr, out_ptr, SPLITS: tl.constexpr, RANK: tl.constexpr,
    BLOCK_S: tl.constexpr, BLOCK_V: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    """One block of features of one head, of all parts."""
    if OVERLAP:
        tl.extra.cuda.gdc_wait()
    BLOCKS: tl.constexpr = (RANK + BLOCK_V - 1) // BLOCK_V
    pid = tl.program_id(0)
    at = (pid // BLOCKS).to(tl.int64)
    v = (pid % BLOCKS) * BLOCK_V + tl.arange(0, BLOCK_V)
    s = tl.arange(0, BLOCK_S)
    alive = s < SPLITS
    rows = at * SPLITS + s
    top = tl.load(stats_ptr + rows * 2, alive, float("-inf"))
    total = tl.load(stats_ptr + rows * 2 + 1, alive, 0.0)
    part = tl.load(
        part_ptr + rows[:, None] * RANK + v[None, :], alive[:, None] & (v < RANK)[None, :], 0.0
    )
    highest = tl.max(top, axis=0)
    weight = tl.exp2(top - tl.where(highest == float("-inf"), 0.0, highest))
    divisor = tl.sum(weight * total, axis=0)
    out = tl.sum(part * weight[:, None], axis=0) / tl.where(divisor == 0.0, 1.0, divisor)
    tl.store(out_ptr + at * RANK + v, out.to(out_ptr.dtype.element_ty), v < RANK)
