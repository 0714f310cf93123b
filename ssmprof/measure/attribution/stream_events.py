"""Route `stream-events`: events around each op while a spinning kernel holds the stream.

The stream is held until every launch is queued, so host time does not enter. The spin has an end of
its own: if the host was not done by then (modules loaded late, queue full, a synchronisation), the
sample is thrown away and the spin lengthened; it cannot deadlock.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from time import perf_counter
from typing import Any

import torch

from ssmprof.measure.attribution.intervals import Interval, Untraceable
from ssmprof.measure.attribution.marks import Ends, Marker
from ssmprof.measure.attribution.tracer import Op, Tracer
from ssmprof.records import median

_TRIES = 4
_LONGEST_S = 2.0
_CHAIN = 50
# Cycles per second that the spin is asked for; the clock only bounds how long it lasts.
_CLOCK_HZ = 1.5e9


def _new_event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)


def _held(marker: Marker, run: Callable[[], Any], spin_s: float) -> bool:
    """Queue `run` behind a spin; whether every launch was queued before the spin ended."""
    torch.cuda.synchronize()
    torch.cuda._sleep(int(spin_s * _CLOCK_HZ))
    released = _new_event()
    released.record()
    marker.start()
    run()
    in_time = not released.query()
    torch.cuda.synchronize()
    return in_time


def trace(
    call: Callable[[], Any],
    replays: int,
    mark_cost_s: float | None = None,
    *,
    module: torch.nn.Module | None = None,
    flush: Callable[[], None] = lambda: None,
) -> tuple[list[Interval], float, int, float]:
    """Time every op of `call` over `replays` held runs, in turns with runs marked at the ends only.

    Returns the intervals, the whole from the latter, the number of marks and the cost of one.
    Raises Untraceable if the stream cannot be held long enough or the ops differ between runs.
    """
    cost_s = stream_mark_cost_s() if mark_cost_s is None else mark_cost_s
    started = perf_counter()
    with Tracer(Marker(_new_event)).tracing(module):
        call()
    spin_s = 2 * (perf_counter() - started) + 1e-3
    ops: list[Op] | None = None
    samples: list[list[float]] = []
    wholes: list[float] = []
    tries = 0
    while len(samples) < replays:
        marker, ends = Marker(_new_event), Ends(_new_event)

        def traced(marker: Marker = marker) -> None:
            with Tracer(marker).tracing(module):
                call()

        def plain(ends: Marker = ends) -> None:
            call()
            ends.finish()

        flush()
        in_time = _held(marker, traced, spin_s)
        flush()
        if not (_held(ends, plain, spin_s) and in_time):
            tries, spin_s = tries + 1, 2 * spin_s
            if tries >= _TRIES or spin_s > _LONGEST_S:
                raise Untraceable(f"launches were not queued within {spin_s / 2:.2g} s of holding")
            continue
        if ops is not None and marker.ops != ops:
            raise Untraceable("the call runs different ops each time")
        ops = marker.ops
        samples.append([raw - cost_s for raw in marker.read_s()])
        wholes.append(sum(ends.read_s()) - cost_s)
    if not ops:
        raise Untraceable("the call launched nothing that could be seen")
    times = zip(*samples, strict=True)
    found = [Interval(op, tuple(seconds)) for op, seconds in zip(ops, times, strict=True)]
    return found, median(wholes), len(ops) + 1, cost_s


@cache
def stream_mark_cost_s() -> float:
    """Cost of one event between kernels of a held stream: chain with marks less chain without."""
    cell = torch.ones(1, device="cuda")
    nothing = Op("", None, "", "")

    def chain(marker: Marker, marked: bool) -> None:
        for _ in range(_CHAIN):
            cell.add_(0.0)
            if marked:
                marker.after(nothing)
        if not marked:
            marker.after(nothing)

    def seconds(marked: bool) -> float:
        found: list[float] = []
        for _ in range(10):
            marker = Marker(_new_event)
            if _held(marker, lambda m=marker: chain(m, marked), 5e-3):
                found.append(sum(marker.read_s()))
        if not found:
            raise Untraceable("a chain of small launches could not be queued in 5 ms")
        return median(found)

    seconds(True)
    return max(0.0, (seconds(True) - seconds(False)) / (_CHAIN - 1))
