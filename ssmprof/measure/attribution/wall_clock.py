"""Route `wall-clock`: ops of a CPU model timed by the host clock, as they run.

On a CPU an op is done when it returns, so the clock around it is its time. The tracer's own cost is
measured on an op that does almost nothing and taken off; what lies between ops is the gap.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch

from ssmprof.measure.attribution.intervals import Interval, Untraceable
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


def tracer_cost_s() -> float:
    """Seconds the tracer adds to one op, most of them outside the op's own interval."""
    one = torch.ones(1)

    def chain() -> None:
        for _ in range(_CHAIN):
            one.add_(0.0)

    def seconds(run: Callable[[], None]) -> float:
        started = perf_counter()
        run()
        return perf_counter() - started

    def traced() -> None:
        with Tracer(_Clock()).tracing():
            chain()

    chain()
    traced()
    plain = median(seconds(chain) for _ in range(5))
    return max(0.0, median(seconds(traced) for _ in range(5)) - plain) / _CHAIN


def trace(
    call: Callable[[], Any], replays: int, module: torch.nn.Module | None = None
) -> tuple[list[Interval], float, float, float]:
    """Run `call` plain and under the tracer in turns, `replays` times each.

    Returns the intervals, the gap (host time between ops, the tracer's cost taken off, median over
    replays), the whole (median of the plain runs) and the tracer's cost per op, all in seconds.
    Raises Untraceable if two replays do not run the same ops, since their times could not be put
    side by side.
    """
    cost_s = tracer_cost_s()
    passes: list[_Clock] = []
    gaps: list[float] = []
    wholes: list[float] = []
    for _ in range(replays):
        started = perf_counter()
        call()
        wholes.append(perf_counter() - started)
        clock = _Clock()
        with Tracer(clock).tracing(module):
            started = perf_counter()
            call()
            wall = perf_counter() - started
        passes.append(clock)
        gaps.append(max(0.0, wall - sum(clock.times_s) - cost_s * len(clock.ops)))
    ops = passes[0].ops
    if any(clock.ops != ops for clock in passes):
        raise Untraceable("the call runs different ops each time; its parts cannot be compared")
    times = zip(*(clock.times_s for clock in passes), strict=True)
    found = [Interval(op, tuple(samples)) for op, samples in zip(ops, times, strict=True)]
    return found, median(gaps), median(wholes), cost_s
