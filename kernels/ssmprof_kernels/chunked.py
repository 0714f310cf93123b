"""What the recurrences over a matrix state share on the device: places of chunks, tiles, products.

Promises: every exponential is a base-2 one; offsets that can pass 2**31 are 64 bits wide. Shape
letters: L tokens, C tokens of a chunk, S chunks of the longest sequence.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false

from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
#: Base-2 exponent of a decay that is 0 in fp32. No token counts for less: the running sum of a
#: chunk then keeps its digits.
FLOOR = tl.constexpr(-160.0)


def slots(batch: int, length: int, chunk: int, packed: int | None) -> int:
    """Places of chunks: those of `batch` rows of `length` tokens, or of `packed` sequences that
    share one row and whose lengths nobody knows."""
    return batch * -(-length // chunk) if packed is None else length // chunk + packed


@triton.jit
def end_at(cu_ptr, index, L):
    """cu[index], and L where it lies behind the tokens there are."""
    return tl.minimum(tl.load(cu_ptr + index).to(tl.int32), L)


@triton.jit
def first_slot(seq, start, S, C: tl.constexpr, VARLEN: tl.constexpr):
    """Place of a sequence's first chunk. Packed sequences lie at least their chunks apart, known
    without a sum over the sequences before."""
    if VARLEN:
        return start // C + seq
    else:
        return seq * S


@triton.jit
def locate(slot, cu_ptr, count, steps, L, S, C: tl.constexpr, VARLEN: tl.constexpr):
    """Place of a chunk -> (sequence, first token and length of it, its own first place)."""
    if VARLEN:
        lo = 0
        hi = count
        for _ in range(steps):
            mid = (lo + hi) // 2
            right = (end_at(cu_ptr, mid, L) // C + mid <= slot) & (mid < count)
            lo = tl.where(right, mid, lo)
            hi = tl.where(right, hi, mid)
        start = end_at(cu_ptr, lo, L)
        return lo, start, end_at(cu_ptr, lo + 1, L) - start, start // C + lo
    else:
        seq = slot // S
        return seq, 0, L, seq * S


@triton.jit
def exp2(x, ASM: tl.constexpr):
    """One instruction where ASM; results below 2**-126 are then 0."""
    if ASM:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.exp2(x)


@triton.jit
def product(a, b, acc, PRECISION: tl.constexpr, ASM: tl.constexpr):
    """a b + acc. Triton's interpreter reads bf16 operands as integers, hence fp32 there."""
    if not ASM:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def tile(base, rows, columns, stride_row, stride_column, mask, AGAIN: tl.constexpr = False):
    """(rows, columns) from the pointer `base`, 0 where masked. The compiler merges loads of the
    same place unless they differ in AGAIN."""
    at = base + rows[:, None].to(tl.int64) * stride_row + columns[None, :] * stride_column
    if AGAIN:
        return tl.load(at, mask=mask, other=0.0, cache_modifier=".ca")
    else:
        return tl.load(at, mask=mask, other=0.0)


@triton.jit
def blank(y_ptr, low, high, head, columns, H, V, C: tl.constexpr):
    """y (L, H, V) is 0 for the tokens low .. high of one head and some columns."""
    for token in range(low, high, C):
        row = token + tl.arange(0, C)[:, None]
        at = y_ptr + (row.to(tl.int64) * H + head) * V + columns[None, :]
        nothing = tl.zeros([C, columns.shape[0]], y_ptr.dtype.element_ty)
        tl.store(at, nothing, mask=(row < high) & (columns[None, :] < V))
