"""Route `graph-events`: event nodes captured at every op boundary, read back after each replay.

Python runs at capture only; on replay nothing of this costs host time. A second graph of the same
call with marks at its two ends only gives the whole, on the same clock and in turns with the parts,
so that a drift of clocks hits both alike.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ssmprof.measure.attribution.driver import EVENT_RECORD, watch
from ssmprof.measure.attribution.intervals import Interval, Untraceable
from ssmprof.measure.attribution.marks import (
    MarkCost,
    Marker,
    external_event,
    kernels_between_marks,
)
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
    tracer = Tracer(marker)
    nodes = None
    try:
        with _no_collection(), torch.cuda.graph(graph, pool=pool):
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


@contextmanager
def _no_collection() -> Generator[None, None, None]:
    """A collection during capture could free memory of another stream, which breaks the capture.

    Collecting beforehand would do, too, but takes a quarter of a second with torch in the heap.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


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


class Traced:
    """A call captured twice: marked at every op, and at its two ends only.

    `sample` replays both in turns, `finish` gives the intervals their corrected seconds.
    """

    def __init__(
        self,
        call: Callable[[], Any],
        *,
        module: torch.nn.Module | None = None,
        flush: Callable[[], None] = lambda: None,
    ) -> None:
        self.marked = capture(call, parts=True, module=module)
        if not self.marked.intervals:
            raise Untraceable("the call launched nothing that could be seen")
        # The two never run at once, so they may share their memory.
        self.ends = capture(call, parts=False, pool=self.marked.graph.pool())
        self._flush = flush
        self._parts: list[list[float]] = []
        self._wholes: list[float] = []
        self._empties: list[float] = []
        self.turn()  # the first replay uploads the graphs

    def turn(self) -> tuple[list[float], float]:
        """Replay the marked graph, then the other; raw seconds of the intervals and of the whole.

        `flush` runs before each replay (it empties the L2 cache for cold times).
        """
        self._flush()
        torch.cuda.synchronize()
        parts = self.marked.replay_s()
        self._flush()
        torch.cuda.synchronize()
        return parts, sum(self.ends.replay_s())

    def sample(self, replays: int) -> None:
        """Take so many turns."""
        for _ in range(replays):
            parts, whole = self.turn()
            self._empties.append(self.marked.marker.empty_s())
            self._parts.append(parts)
            self._wholes.append(whole)

    def finish(self, calibrated: MarkCost) -> tuple[list[Interval], float, MarkCost]:
        """Intervals with corrected seconds per turn, the median of the whole, and the mark's cost.

        The cost is the calibrated one at the e of these very replays.
        """
        cost = calibrated.at(median(self._empties))
        intervals = self.marked.intervals
        for place, interval in enumerate(intervals):
            taken_off = cost.of(interval.kernels)
            interval.times_s = tuple(parts[place] - taken_off for parts in self._parts)
        first = cost.of(intervals[0].kernels)
        return intervals, median(self._wholes) - first, cost
