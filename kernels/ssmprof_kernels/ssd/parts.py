"""What the kernels of the Mamba-2 scan share: bundles of arguments, step sizes, segments.

Promises: every exponential is a base-2 one.

A sequence is cut into segments of `T` tokens and a segment into chunks of `Q` tokens, `K` of them.
`prepare` does what needs no state; `summaries` gives each segment's end state from a zero start and
combines those into the true ones; `walk` starts from the true state and writes y
(arXiv:2405.21060, section 6, whose chunk states here never leave the registers).
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from ssmprof_kernels.device.math import softplus_by_log2
from ssmprof_kernels.device.segments import locate

#: Base-2 exponent of a decay that is 0 in fp32. No token counts for less: the running sum of a
#: chunk then keeps its digits, and A = -inf makes no difference of two infinities.
FLOOR = tl.constexpr(-160.0)


class Heads(NamedTuple):
    """Strides of x or z (B,L,H,P)."""

    b: int
    l: int
    h: int
    p: int


class Groups(NamedTuple):
    """Strides of B or C (B,L,G,N)."""

    b: int
    l: int
    g: int
    n: int


class Rates(NamedTuple):
    """Strides of dt (B,L,H)."""

    b: int
    l: int
    h: int


class Ids(NamedTuple):
    """Strides of seq_idx (B,L)."""

    b: int
    l: int


class Given(NamedTuple):
    """What the caller gave the walk."""

    x: Any
    b: Any
    c: Any
    d: Any
    z: Any
    h0: Any
    cu: Any
    seq: Any


class Made(NamedTuple):
    """Scratch, by slot and head. `decays`: per token, base-2 exponent of the decay since its
    chunk's start; `sources`: what it contributes with (`source_of`). `ends`: the segment's end
    state from a zero start, or from the true one behind `combine`; `totals`: its decay. `logs`, for
    fp32 only: per token, base-2 exponent of its own decay."""

    decays: Any
    sources: Any
    ends: Any
    totals: Any
    logs: Any = None


class Delta(NamedTuple):
    """How step sizes are formed; APART, which keeps them out of the exponents; EXACT, for fp32:
    exponents between two tokens are sums of what lies there, since a difference of long running
    sums lacks the digits of a short one."""

    SOFTPLUS: bool
    CLAMP: bool
    BIAS: bool
    APART: bool
    EXACT: bool


class Cut(NamedTuple):
    """Packed sequences; ids; programs that start before the launch before them has ended."""

    VARLEN: bool
    SEQ_IDX: bool
    PDL: bool


class Tile(NamedTuple):
    """Tokens of a chunk, block of P, states; whether both are whole; fetched by descriptors; fp16,
    whose operands need a unit; how fp32 operands are multiplied."""

    Q: int
    BP: int
    BN: int
    EVEN_P: bool
    EVEN_N: bool
    TMA: bool
    HALF: bool
    PRECISION: str


class Out(NamedTuple):
    """What the walk does besides. SKIP: 0 none, 1 D of shape (H), 2 (H, P). SEGMENTS: 0 one per
    sequence, 1 the states before a segment are still apart, 2 `combine` has run."""

    SKIP: int
    GATE: bool
    H0: bool
    FINAL: bool
    SEGMENTS: int


class Place(NamedTuple):
    """What a program works on: a block of P, a head, a segment's slot; the segment's sequence, that
    one's first token, length and first slot; tokens before the segment; row of the batch."""

    block: Any
    head: Any
    slot: Any
    seq: Any
    start: Any
    length: Any
    first: Any
    begin: Any
    batch: Any


@triton.jit
def place_of(pid, cu_ptr, count, steps, L, H, P, T, S, BP: tl.constexpr, VARLEN: tl.constexpr):
    """The `Place` of a program; blocks run fastest, then heads."""
    blocks = tl.cdiv(P, BP)
    block = pid % blocks
    head = (pid // blocks) % H
    slot = pid // (blocks * H)
    seq, start, length, first = locate(slot, cu_ptr, count, steps, L, T, S, VARLEN)
    begin = (slot - first) * T
    batch = seq * 0 if VARLEN else seq
    return Place(block, head, slot, seq, start, length, first, begin, batch)


@triton.jit
def delta_of(raw, bias, valid, dt_min, dt_max, FORM: tl.constexpr):
    """Step sizes of one chunk; 0, hence neither decay nor input, past the end."""
    v = raw.to(tl.float32) + bias
    if FORM.SOFTPLUS:
        v = softplus_by_log2(v)
    if FORM.CLAMP:
        v = tl.maximum(v, dt_min, propagate_nan=tl.PropagateNan.ALL)
        v = tl.minimum(v, dt_max, propagate_nan=tl.PropagateNan.ALL)
    return tl.where(valid, v, 0.0)


@triton.jit
def log_decay_of(delta, a2):
    """Base-2 exponents of the decay of steps `delta`; NaN stays, a step of 0 decays nothing."""
    v = delta * a2
    return tl.where(v < FLOOR, FLOOR, v)


@triton.jit
def source_of(a, delta, APART: tl.constexpr):
    """What a token contributes with: its step size, folded into the exponent unless kept APART
    because it may be negative or because fp32 wants its digits."""
    if APART:
        source = delta
    else:
        source = a - tl.log2(delta)
    return source


@triton.jit
def _add_later(later, behind_later, own, behind):
    return later + own, later + behind


@triton.jit
def sum_behind(v, AXIS: tl.constexpr):
    """For each token of a chunk the sum of v over the tokens behind it."""
    _, found = tl.associative_scan((v, tl.zeros_like(v)), AXIS, _add_later, reverse=True)
    return found


@triton.jit
def breaks(seq_ptr, token, stride, first, valid):
    """1 where a document begins, because its id differs from that of the token before; the start
    continues its state. And which tokens are no padding, whose id is below 0."""
    here = tl.load(seq_ptr + token * stride, mask=valid, other=0)
    inner = valid & (token > first)
    before = tl.load(seq_ptr + (token - 1) * stride, mask=inner, other=0)
    return tl.where(inner & (here != before) & (here >= 0), 1, 0), here >= 0
