"""Route `graph-events`: event nodes captured at every op boundary, read back after each replay.

Python runs at capture only; on replay nothing of this costs host time. A second graph of the same
call with marks at its two ends only gives the whole, on the same clock and in turns with the parts,
so that a drift of clocks hits both alike. Of calls short enough for it to matter, three more graphs
with some of the marks tell what each mark costs.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from ssmprof.measure.attribution.driver import EVENT_RECORD, watch
from ssmprof.measure.attribution.intervals import Interval, Untraceable
from ssmprof.measure.attribution.mark_cost import MarkCost
from ssmprof.measure.attribution.marks import (
    Ends,
    Marker,
    Thinned,
    external_event,
    kernels_between_marks,
)
from ssmprof.measure.attribution.thinning import Turn, mark_costs_s, run_length
from ssmprof.measure.attribution.tracer import Tracer
from ssmprof.records import median

# What is not known of a mark's cost is some tenths of a microsecond: of a call this long, with a
# few hundred marks, less than a hundredth of its time.
_THINNED_BELOW_S = 10e-3


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
    marker: Marker,
    *,
    module: torch.nn.Module | None = None,
    pool: Any = None,
) -> Captured:
    """Capture `call` with the marks that `marker` sets; it must have run before with these shapes.

    Raises Untraceable with the reason.
    """
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    tracer = Tracer(marker)
    nodes = None
    try:
        with _no_collection(), torch.cuda.graph(graph, pool=pool):
            view = watch(torch.cuda.current_stream().cuda_stream)
            marker.start(view, head=True)
            try:
                with tracer.tracing(module) if marker.inside else nullcontext():
                    call()
            except _Stop:
                pass
            marker.finish()
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


class Prefix(Ends):
    """Stops the call after a number of ops that launched something, and marks its two ends."""

    inside = True

    def __init__(self, ops: int) -> None:
        super().__init__(external_event)
        self._left = ops

    def after(self, op: Any) -> None:
        if not self.worked():
            return
        if self.capture is not None:
            self._seen = self.capture.count()
        self._left -= 1
        if self._left <= 0:
            raise _Stop


class Traced:
    """A call captured marked at every op, at its two ends only, and, if short, at some of its ops.

    `sample` replays them in turns, `finish` gives the intervals their corrected seconds.
    """

    def __init__(
        self,
        call: Callable[[], Any],
        *,
        module: torch.nn.Module | None = None,
        flush: Callable[[], None] = lambda: None,
    ) -> None:
        self.marked = capture(call, Marker(external_event), module=module)
        if not self.marked.intervals:
            raise Untraceable("the call launched nothing that could be seen")
        # No two of them run at once, so they may share their memory.
        pool = self.marked.graph.pool()
        self.ends = capture(call, Ends(external_event), pool=pool)
        self._flush = flush
        self.turns: list[Turn] = []
        self._thinned: list[Captured] = []
        whole_s = self.turn().whole_s  # the first replay uploads the graphs
        ops = len(self.marked.intervals)
        if ops > 1 and whole_s < _THINNED_BELOW_S:
            run = run_length(ops)
            self._thinned = [
                capture(
                    call,
                    Thinned(external_event, every=every, first=first),
                    module=module,
                    pool=pool,
                )
                for every, first in ((2, 0), (2, 1), (run, run - 1))
            ]
            self.turn()

    def turn(self) -> Turn:
        """Replay every graph once, the one that gives the whole at the end.

        `flush` runs before each replay (it empties the L2 cache for cold times).
        """
        parts = self._replay_s(self.marked)
        thinned = [self._replay_s(graph) for graph in self._thinned] or [[], [], []]
        return Turn(parts, *thinned, whole_s=sum(self._replay_s(self.ends)))

    def _replay_s(self, captured: Captured) -> list[float]:
        self._flush()
        torch.cuda.synchronize()
        return captured.replay_s()

    def sample(self, replays: int) -> None:
        """Take so many turns."""
        self.turns += [self.turn() for _ in range(replays)]

    def kinds(self) -> list[str]:
        """What each interval begins with: its first kernel, as far as the driver tells."""
        intervals = self.marked.intervals
        return [i.kernels[0] if i.kernels else i.op.op for i in intervals]

    def finish(self, calibrated: MarkCost) -> tuple[list[Interval], float, float]:
        """Intervals with corrected seconds per turn, the median of the whole, a mark's usual cost.

        Each mark's cost is the one measured in this graph, or the calibrated one.
        """
        intervals = self.marked.intervals
        parts = [turn.parts for turn in self.turns]
        costs = [calibrated.of(interval.kernels) for interval in intervals]
        first_s = costs[0]
        if self._thinned:
            costs = mark_costs_s(self.turns, self.kinds(), costs)
        for place, (interval, cost) in enumerate(zip(intervals, costs, strict=True)):
            interval.times_s = tuple(part[place] - cost for part in parts)
        whole_s = median(turn.whole_s for turn in self.turns) - first_s
        return intervals, whole_s, median(costs)
