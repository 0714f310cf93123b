"""What the kernels of the delta rules share: places of chunks, gates, step sizes, the WY inverse.

Promises: every exponential is a base-2 one of a number that is not positive; offsets that can pass
2**31 are 64 bits wide. A sequence is cut into chunks of `C` tokens, of which segments of `T` tokens
hold whole ones. Chunks of all sequences have slots, those of sequence i from `start // C + i` on
where sequences are packed.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

import triton
import triton.language as tl

from ssmprof_kernels.device.math import LOG2E, exp2, finite_rate, softplus
from ssmprof_kernels.device.matrix import dot
from ssmprof_kernels.device.segments import end_at, locate
from ssmprof_kernels.ssd.parts import FLOOR

#: Sizes whose value must not make a kernel compile again.
UNSPECIALISED = ["L", "H", "PER_KEY", "CHUNKS", "S", "count", "steps", "T", "scale"]

#: Added to the squared length of a query or key, as published code does.
NORM_EPS = tl.constexpr(1e-6)
#: Rows of the blocks that are inverted one row after the other.
SMALL = tl.constexpr(16)

__all__ = [
    "LOG2E", "NORM_EPS", "UNSPECIALISED", "copy_values", "dot", "end_at", "exp2", "gate_rate",
    "halves", "inverse", "inverse_length", "locate", "log_decay", "step_size",
]  # fmt: skip


@triton.jit
def log_decay(raw, rate, bias, valid, GATE: tl.constexpr):
    """Base-2 exponents of decays, 0 where not `valid`: of logits with GATE, else of natural logs.

    None is below FLOOR, whose decay is 0 in fp32: sums of them keep their digits.
    """
    g = raw.to(tl.float32)
    if GATE:
        g = softplus(g + bias) * rate
    g *= LOG2E
    g = tl.where(g < FLOOR, FLOOR, g)
    return tl.where(valid, g, 0.0)


@triton.jit
def gate_rate(a_log_ptr, head, GATE: tl.constexpr):
    """-exp(A_log) of a head, finite."""
    rate = 0.0
    if GATE:
        rate = finite_rate(-tl.exp2(tl.load(a_log_ptr + head).to(tl.float32) * LOG2E))
    return rate


@triton.jit
def step_size(raw, valid, SIGMOID: tl.constexpr, NEGATIVE: tl.constexpr):
    """Step sizes, 0 where not `valid`; of logits with SIGMOID, doubled with NEGATIVE."""
    beta = raw.to(tl.float32)
    if SIGMOID:
        beta = 1.0 / (1.0 + tl.exp2(beta * -LOG2E))
        if NEGATIVE:
            beta *= 2.0
    return tl.where(valid, beta, 0.0)


@triton.jit
def halves(x, dtype: tl.constexpr):
    """Two numbers of `dtype` whose sum is x to twice its digits."""
    high = x.to(dtype)
    low = (x - high.to(tl.float32)).to(dtype)
    return high, low


@triton.jit
def inverse_length(x, NORM: tl.constexpr):
    """1 / length of the rows of x (R, K); 1 where they are taken as they are."""
    x = x.to(tl.float32)
    squares = tl.sum(x * x, 1)
    if NORM:
        scale = tl.rsqrt(squares + NORM_EPS)
    else:
        scale = squares * 0.0 + 1.0
    return scale


@triton.jit
def copy_values(
    v_ptr, copy_ptr, valid, stride_row, stride_column, C: tl.constexpr, V: tl.constexpr,
    VP: tl.constexpr,
):  # fmt: skip
    """The values of a chunk as a whole tile (C, VP): 0 behind the sequence and the last value."""
    i = tl.arange(0, C)
    for first in tl.static_range(0, VP, 16):
        v = first + tl.arange(0, 16)
        mask = valid[:, None] & (v[None, :] < V)
        at = v_ptr + i[:, None] * stride_row + v[None, :] * stride_column
        tl.store(copy_ptr + i[:, None] * VP + v[None, :], tl.load(at, mask=mask, other=0.0))


@triton.jit
def _merged(full, lower, SIZE: tl.constexpr, C: tl.constexpr, PRECISION: tl.constexpr):
    """Inverse of blocks of 2 SIZE rows, from that of their halves."""
    i = tl.arange(0, C)[:, None]
    j = tl.arange(0, C)[None, :]
    below = (i // (2 * SIZE) == j // (2 * SIZE)) & (i // SIZE > j // SIZE)
    between = tl.dot(full, tl.where(below, lower, 0.0), input_precision=PRECISION)
    return full - tl.dot(between, full, input_precision=PRECISION)


@triton.jit
def inverse(lower, C: tl.constexpr, PRECISION: tl.constexpr):
    """(I + lower)^-1 of a strictly lower (C, C): blocks of SMALL rows by substitution, all at once,
    then pairs of blocks by products of matrices, (I + D^-1 N)^-1 D^-1 = D^-1 - D^-1 N D^-1.

    Powers of `lower` would do, too, but cancel where keys repeat.
    """
    N: tl.constexpr = C // SMALL
    r = tl.arange(0, SMALL)[None, :, None]
    c = tl.arange(0, SMALL)[None, None, :]
    n = tl.arange(0, N)
    own = n[:, None, None, None] == n[None, None, :, None]
    corners = tl.sum(tl.where(own, lower.reshape(N, SMALL, N, SMALL), 0.0), 2)
    solved = tl.where(r == c, 1.0, 0.0) + tl.zeros((N, SMALL, SMALL), tl.float32)
    for i in range(SMALL - 1):
        # Row i is ready; the rows below lose what they have of it. No axis changes its place, so
        # that all of it stays within a warp.
        column = tl.sum(tl.where(c == i, corners, 0.0), 2)
        row = tl.sum(tl.where(r == i, solved, 0.0), 1)
        solved -= column[:, :, None] * row[:, None, :]
    full = tl.where(own, solved[:, :, None, :], 0.0).reshape(C, C)
    for doubling in tl.static_range(2):
        full = _merged(full, lower, SMALL << doubling, C, PRECISION)
    return full
