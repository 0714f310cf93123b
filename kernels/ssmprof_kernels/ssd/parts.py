"""What the kernels of the Mamba-2 scan share: step sizes, segments, tiles, products.

Promises: every exponential is a base-2 one; offsets that can pass 2**31 are 64 bits wide.

A sequence is cut into segments of `T` tokens and a segment into chunks of `Q` tokens, `K` of them.
`prepare` does what needs no state; `summaries` gives each segment's end state from a zero
start and combines those into the true ones; `walk` starts from the true state and writes y
(arXiv:2405.21060, section 6, whose chunk states here never leave the registers).
"""

from __future__ import annotations

import triton
import triton.language as tl

# `tl.max` in the form that Gluon kernels can share, and that the interpreter knows by name.
from triton.language.standard import _elementwise_max

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
#: Base-2 exponent of a decay that is 0 in fp32. No token counts for less: the running sum of a
#: chunk then keeps its digits, and A = -inf makes no difference of two infinities.
FLOOR = tl.constexpr(-160.0)

#: Sizes whose value must not make a kernel compile again; K is a segment's length in chunks.
UNSPECIALISED = [
    *("L", "H", "PER_GROUP", "K", "S", "count", "steps", "tasks", "dt_min", "dt_max"),
]


@triton.jit
def _let_next_start(PDL: tl.constexpr):
    """Let the next kernel's programs take their places; they wait in `_await_previous`."""
    if PDL:
        tl.inline_asm_elementwise(
            "griddepcontrol.launch_dependents; // $0", "=r", [], tl.int32, False, 1
        )


@triton.jit
def _await_previous(PDL: tl.constexpr):
    """Until the kernel before has ended and its stores can be read."""
    if PDL:
        tl.inline_asm_elementwise("griddepcontrol.wait; // $0", "=r", [], tl.int32, False, 1)


@triton.jit
def _exp2(v, INTERPRET: tl.constexpr):
    if INTERPRET:
        power = tl.exp2(v)
    else:
        # One instruction; `tl.exp2` adds three to keep results below 2**-126, here as good as 0.
        power = tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [v], dtype=tl.float32, is_pure=True, pack=1
        )
    return power


@triton.jit
def _softplus(v):
    u = tl.exp2(v * LOG2E)
    # log(1 + u) loses the digits of a small u; four terms of the series keep fp32 accuracy.
    small = u * (1.0 - u * (0.5 - u * (0.3333333333 - u * 0.25)))
    large = tl.log2(1.0 + u) * LN2
    return tl.where(v > 20.0, v, tl.where(u < 0.03125, small, large))


@triton.jit
def _delta(raw, bias, valid, dt_min, dt_max, SOFTPLUS: tl.constexpr, CLAMP: tl.constexpr):
    """Step sizes of one chunk; 0, hence neither decay nor input, past the end."""
    v = raw.to(tl.float32) + bias
    if SOFTPLUS:
        v = _softplus(v)
    if CLAMP:
        v = tl.maximum(v, dt_min, propagate_nan=tl.PropagateNan.ALL)
        v = tl.minimum(v, dt_max, propagate_nan=tl.PropagateNan.ALL)
    return tl.where(valid, v, 0.0)


@triton.jit
def _log_decay(delta, a2):
    """Base-2 exponents of the decay of steps `delta`; NaN stays, a step of 0 decays nothing."""
    v = delta * a2
    return tl.where(v < FLOOR, FLOOR, v)


@triton.jit
def _dot(a, b, acc, PRECISION: tl.constexpr, INTERPRET: tl.constexpr):
    if INTERPRET:
        # Triton's interpreter reads bf16 operands as integers; in fp32 it multiplies them right.
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def _source(a, delta, APART: tl.constexpr):
    """What a token contributes with: its step size, folded into the exponent unless kept APART
    because it may be negative or because fp32 wants its digits."""
    if APART:
        source = delta
    else:
        source = a - tl.log2(delta)
    return source


@triton.jit
def _largest(v):
    """Largest magnitude of a chunk's weights; inf and NaN, of another document, have no say."""
    v = tl.abs(v)
    return tl.reduce(tl.where(v < float("inf"), v, 0.0), 0, _elementwise_max)


@triton.jit
def _unit(top):
    """A power of two above `top`, at most twice it, and 1 over it. fp16 has no digits below 2**-24:
    what holds step sizes becomes an operand of a product only in such a unit."""
    # From 2**-64 to 2**125, so that both are finite whatever `top` is.
    top = tl.where(top < 4.2535295865117308e37, top, 0.0)
    top = tl.where(top > 5.421010862427522e-20, top, 5.421010862427522e-20)
    exponent = top.to(tl.int32, bitcast=True) & 0x7F800000
    unit = (exponent + 0x00800000).to(tl.float32, bitcast=True)
    return unit, (0x7E800000 - exponent).to(tl.float32, bitcast=True)


@triton.jit
def _log2_unit(unit):
    return ((unit.to(tl.int32, bitcast=True) >> 23) - 127).to(tl.float32)


@triton.jit
def _end_at(cu_ptr, index, L):
    """cu[index], and L where it lies behind the tokens there are."""
    return tl.minimum(tl.load(cu_ptr + index).to(tl.int32), L)


@triton.jit
def _locate(sid, cu_ptr, count, steps, L, T, S, VARLEN: tl.constexpr):
    """Segment slot -> (sequence, first token, length, first slot of the sequence)."""
    if VARLEN:
        # Slots of sequence i begin at cu[i] // T + i: at least ceil(length / T) apart, and known
        # without a sum over the sequences before it.
        lo = 0
        hi = count
        for _ in range(steps):
            mid = (lo + hi) // 2
            right = (_end_at(cu_ptr, mid, L) // T + mid <= sid) & (mid < count)
            lo = tl.where(right, mid, lo)
            hi = tl.where(right, hi, mid)
        start = _end_at(cu_ptr, lo, L)
        length = _end_at(cu_ptr, lo + 1, L) - start
        return lo, start, length, start // T + lo
    else:
        seq = sid // S
        return seq, 0, L, seq * S


@triton.jit
def _breaks(seq_ptr, token, stride, first, valid):
    """1 where a document begins, because its id differs from that of the token before; the start
    continues its state. And which tokens are no padding, whose id is below 0."""
    here = tl.load(seq_ptr + token * stride, mask=valid, other=0)
    inner = valid & (token > first)
    before = tl.load(seq_ptr + (token - 1) * stride, mask=inner, other=0)
    return tl.where(inner & (here != before) & (here >= 0), 1, 0), here >= 0


@triton.jit
def _tile(ref, base, row, column, stride_row, stride_col, mask, Q: tl.constexpr, W: tl.constexpr,
          TMA: tl.constexpr, MASK: tl.constexpr):  # fmt: skip
    """Q x W tile: through a descriptor at (row, column), else by pointers from `base`."""
    if TMA:
        tile = ref.load([row, column])
    else:
        at = base + tl.arange(0, Q)[:, None] * stride_row + tl.arange(0, W)[None, :] * stride_col
        if MASK:
            tile = tl.load(at, mask=mask, other=0.0)
        else:
            tile = tl.load(at)
    return tile
