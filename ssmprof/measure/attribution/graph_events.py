"""Route `graph-events`: event nodes captured at every op boundary, read back after each replay.

Python runs at capture only; on replay nothing of this costs host time. A second graph of the same
call with marks at its two ends only gives the whole, on the same clock and in turns with the parts,
so that a drift of clocks hits both alike.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ssmprof.measure.attribution.driver import EVENT_RECORD, watch
from ssmprof.measure.attribution.intervals import Interval, Untraceable
from ssmprof.measure.attribution.marks import Marker, external_event, kernels_between_marks
from ssmprof.measure.attribution.tracer import Tracer
from ssmprof.records import median


@dataclass(slots=True)
class Captured:
    """A graph of one call with its marks; `intervals` know their kernels where the driver tells.

    `kernel_count` counts kernels, copies and fills between the first and the last mark.
    """

    graph: torch.cuda.CUDAGraph
    marker: Marker
    intervals: list[Interval]
    kernel_count: int | None

    def replay_s(self) -> list[float]:
        """Replay once and return raw seconds per interval."""
        self.graph.replay()
        torch.cuda.synchronize()
        return self.marker.read_s()


def find_sync(call: Callable[[], Any]) -> str | None:
    """Run once with synchronisation forbidden; the op that synchronises, or None.

    torch does not see every synchronisation, so capturing may still fail.
    """
    tracer = Tracer(Marker(lambda: _NO_EVENT))  # only `last` is wanted
    before = torch.cuda.get_sync_debug_mode()
    try:
        torch.cuda.set_sync_debug_mode("error")
        with tracer.tracing():
            call()
    except RuntimeError as error:
        if "synchroniz" in str(error):
            return f"{tracer.last} waits for the device"
        raise
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return None


class _NoEvent:
    def record(self) -> None:
        """A mark that nobody reads."""


_NO_EVENT: Any = _NoEvent()


def capture(
    call: Callable[[], Any],
    *,
    parts: bool,
    module: torch.nn.Module | None = None,
    pool: Any = None,
    stop_after: int | None = None,
) -> Captured:
    """Capture `call` with a mark after every op, or (`parts` False) only at its two ends.

    The call must have run before with these shapes. `stop_after` ends the call after that many ops
    (prefix replay). Raises Untraceable with the reason.
    """
    marker = _Stopping(stop_after) if stop_after is not None else Marker(external_event)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    gc.collect()  # a collection during capture could free memory of another stream and break it
    tracer = Tracer(marker)
    nodes = None
    try:
        with torch.cuda.graph(graph, pool=pool):
            view = watch(torch.cuda.current_stream().cuda_stream)
            marker.start(view, head=True)
            try:
                if parts:
                    with tracer.tracing(module):
                        call()
                else:
                    call()
            except _Stop:
                pass
            if parts and stop_after is None:
                marker.finish()
            else:
                marker.end()
            nodes = view.nodes() if view is not None else None
    except RuntimeError as error:
        torch.cuda.synchronize()
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Untraceable(f"capture failed at {tracer.last}: {first}") from error
    intervals = [Interval(op) for op in marker.ops]
    count = None
    if nodes is not None:
        between = kernels_between_marks(nodes, lambda node: node.kind == EVENT_RECORD)
        count = sum(len(names) for names in between)
        if len(between) == len(intervals):
            for interval, names in zip(intervals, between, strict=True):
                interval.kernels = tuple(names)
    return Captured(graph, marker, intervals, count)


class _Stop(Exception):
    """Ends a call early."""


class _Stopping(Marker):
    """Marks nothing inside and stops the call after a number of ops that launched."""

    def __init__(self, stop_after: int) -> None:
        super().__init__(external_event)
        self._left = stop_after

    def after(self, op: Any) -> None:
        if self.capture is not None and self.capture.count() == self._seen:
            return
        if self.capture is not None:
            self._seen = self.capture.count()
        self._left -= 1
        if self._left <= 0:
            raise _Stop


def trace(
    call: Callable[[], Any],
    replays: int,
    mark_cost_s: float,
    *,
    module: torch.nn.Module | None = None,
    flush: Callable[[], None] = lambda: None,
    pool: Any = None,
) -> tuple[Captured, float, Captured]:
    """Time every op of `call` over `replays` replays of its marked graph.

    `flush` runs before each replay (it empties the L2 cache for cold times). Returns the marked
    graph, whose intervals then hold corrected seconds, the whole from the graph marked at its ends,
    and that graph, for profiling. Raises Untraceable.
    """
    marked = capture(call, parts=True, module=module, pool=pool)
    ends = capture(call, parts=False, pool=pool if pool is not None else marked.graph.pool())
    if not marked.intervals:
        raise Untraceable("the call launched nothing that could be seen")
    samples: list[list[float]] = []
    wholes: list[float] = []
    for index in range(replays + 1):
        flush()
        torch.cuda.synchronize()
        whole = sum(ends.replay_s()) - mark_cost_s
        flush()
        torch.cuda.synchronize()
        parts = [raw - mark_cost_s for raw in marked.replay_s()]
        if index:  # the first replay uploads the graphs
            wholes.append(whole)
            samples.append(parts)
    for interval, times in zip(marked.intervals, zip(*samples, strict=True), strict=True):
        interval.times_s = tuple(times)
    return marked, median(wholes), ends
