"""Route `wall-clock`: ops of a CPU model timed by the host clock, as they run.

On a CPU an op is done when it returns, so the clock around it is its time. What the tracer adds in
that interval is measured on an op that does almost nothing, and taken off. What it adds between ops
depends on views, arguments and scopes, much of a short call, so a traced call says nothing:
the gap is what the call takes without a tracer beyond its ops, and parts that exceed it miss it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import torch

from ssmprof.measure.attribution.intervals import Interval, Untraceable, total_s
from ssmprof.measure.attribution.tracer import Op, Tracer
from ssmprof.records import median

_CHAIN = 200


class _Clock:
    """Recorder: seconds of each op, in order."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.times_s: list[float] = []
        self._started = 0.0

    def before(self) -> None:
        self._started = perf_counter()

    def after(self, op: Op) -> None:
        ended = perf_counter()
        self.ops.append(op)
        self.times_s.append(ended - self._started)


class Cost(NamedTuple):
    """Seconds the tracer adds to one op, and those of them in the op's own interval."""

    op_s: float
    inside_s: float


def tracer_cost() -> Cost:
    """On an op that does almost nothing."""
    one = torch.ones(1)
    inside: list[float] = []

    def chain() -> None:
        for _ in range(_CHAIN):
            one.add_(0.0)

    def traced() -> None:
        clock = _Clock()
        with Tracer(clock).tracing():
            chain()
        inside.append(median(clock.times_s))

    chain()
    traced()
    plain = median(_seconds(chain) for _ in range(5)) / _CHAIN
    op_s = median(_seconds(traced) for _ in range(5)) / _CHAIN - plain
    return Cost(max(0.0, op_s), max(0.0, median(inside) - plain))


def trace(
    call: Callable[[], Any], replays: int, module: torch.nn.Module | None = None
) -> tuple[list[Interval], float, float, float]:
    """Run `call` plain and under the tracer in turns, `replays` times each.

    Returns the intervals, the gap, the whole (median of the plain runs) and the tracer's cost per
    op, all in seconds. Raises Untraceable if two replays do not run the same ops, since their times
    could not be put side by side.
    """
    cost = tracer_cost()
    passes: list[_Clock] = []
    wholes: list[float] = []
    for _ in range(replays):
        wholes.append(_seconds(call))
        clock = _Clock()
        with Tracer(clock).tracing(module):
            call()
        passes.append(clock)
    ops = passes[0].ops
    if any(clock.ops != ops for clock in passes):
        raise Untraceable("the call runs different ops each time; its parts cannot be compared")
    times = zip(*(clock.times_s for clock in passes), strict=True)
    found = [
        Interval(op, tuple(max(0.0, one - cost.inside_s) for one in samples))
        for op, samples in zip(ops, times, strict=True)
    ]
    whole_s = median(wholes)
    summed_s = total_s(found) if found else 0.0
    return found, max(0.0, whole_s - summed_s), whole_s, cost.op_s


def _seconds(call: Callable[[], Any]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started
