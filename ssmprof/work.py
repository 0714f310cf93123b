"""The work of a call by arithmetic, and the pieces every cost is made of.

Counts are algorithmic minima: every input is read once and every output written once; a
multiply-add is two FLOPs; `exps` counts results of the special-function unit, so that SiLU and
softplus are two each. Shape letters: T tokens of the call (batch times length), b bytes each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ssmprof.scalars import Value

if TYPE_CHECKING:
    from ssmprof.records import Point


class Cost(Value, frozen=True, kw_only=True):
    """Algorithmic work of one call, by arithmetic on shapes (docs/how-it-works/attribution.md).

    `exps` counts results of the special-function unit (exp, rsqrt, tanh): softmax and gates are
    bound by it long before they are bound by FLOPs.
    """

    flops: float
    read_bytes: float
    written_bytes: float
    exps: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.flops + self.read_bytes + self.written_bytes + self.exps):
            raise ValueError("Cost: a value that is not finite is not a measurement")


Parts = dict[str, Cost]


def work(*, flops: float = 0.0, read: float = 0.0, written: float = 0.0, exps: float = 0.0) -> Cost:
    """A cost from FLOPs, bytes read, bytes written and special-function results."""
    return Cost(
        flops=float(flops), read_bytes=float(read), written_bytes=float(written), exps=float(exps)
    )


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of all."""
    items = list(costs)
    return Cost(
        flops=sum([c.flops for c in items]),
        read_bytes=sum([c.read_bytes for c in items]),
        written_bytes=sum([c.written_bytes for c in items]),
        exps=sum([c.exps for c in items]),
    )


def times(cost: Cost, count: int) -> Cost:
    """`count` times the same work."""
    return Cost(
        flops=cost.flops * count,
        read_bytes=cost.read_bytes * count,
        written_bytes=cost.written_bytes * count,
        exps=cost.exps * count,
    )


def merge(into: Parts, parts: Parts, count: int = 1) -> None:
    """Add `count` times each part to the part of the same name."""
    for name, cost in parts.items():
        one = cost if count == 1 else times(cost, count)
        into[name] = total((into[name], one)) if name in into else one


def matmul(tokens: int, inputs: int, outputs: int, b: int, *, bias: bool = False) -> Cost:
    """(T, inputs) times (inputs, outputs): weights are read once, whatever the batch."""
    weights = inputs * outputs + (outputs if bias else 0)
    return work(
        flops=2 * tokens * inputs * outputs,
        read=(weights + tokens * inputs) * b,
        written=tokens * outputs * b,
    )


def elementwise(elements: int, b: int, *, reads: int, flops: int, exps: int = 0) -> Cost:
    """One pass over `elements` outputs, `reads` inputs of the same size, FLOPs and exps of each."""
    return work(
        flops=elements * flops,
        read=elements * reads * b,
        written=elements * b,
        exps=elements * exps,
    )


def rms_norm(tokens: int, width: int, b: int) -> Cost:
    """RMSNorm over `width`: square, add, scale, weight; one reciprocal root per token."""
    return work(
        flops=4 * tokens * width,
        read=(tokens + 1) * width * b,
        written=tokens * width * b,
        exps=tokens,
    )


def add_rms_norm(tokens: int, width: int, b: int) -> Cost:
    """The residual's sum and the norm of it in one pass; the sum is written, too."""
    return work(
        flops=6 * tokens * width,
        read=(2 * tokens + 1) * width * b,
        written=2 * tokens * width * b,
        exps=tokens,
    )


def gated_norm(tokens: int, width: int, b: int) -> Cost:
    """RMSNorm of x * silu(z): reads x and z, two special functions per element for the gate."""
    return work(
        flops=8 * tokens * width,
        read=(2 * tokens + 1) * width * b,
        written=tokens * width * b,
        exps=tokens * (2 * width + 1),
    )


def causal_conv(tokens: int, channels: int, width: int, b: int) -> Cost:
    """Depthwise causal convolution of `width` taps with SiLU."""
    return work(
        flops=2 * tokens * channels * width,
        read=tokens * channels * b,
        written=tokens * channels * b,
        exps=2 * tokens * channels,
    )


def conv_update(batch: int, channels: int, width: int, b: int) -> Cost:
    """One token of the convolution: its window is read and written back, shifted by one."""
    return work(
        flops=2 * batch * channels * width,
        read=batch * channels * width * b,
        written=batch * channels * width * b,
        exps=2 * batch * channels,
    )


def call_tokens(point: Point) -> int:
    """Tokens one call reads: the whole prompt or a chunk of it, or one per sequence."""
    return point.batch * point.tokens


def held_tokens(point: Point) -> int:
    """Tokens of one sequence that its cache holds at the end of the call."""
    return point.context + (1 if point.phase == "decode" else 0)
