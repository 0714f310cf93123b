"""Marks: event records between ops, in a captured graph or in a held stream, and their cost.

Marks tile a call, so an interval holds its op and the gap before it, plus the cost m of one mark.
m comes from a chain of small kernels with and without marks between them, never from the graph
whose closure it judges, for that closure would be zero by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import torch

from ssmprof.measure.attribution.driver import Capture, Node
from ssmprof.measure.attribution.tracer import Op
from ssmprof.records import median

# The first event pairs of a graph cost up to twice as much as later ones.
THROWN_AWAY = 4
_CHAIN = 64
_REPLAYS = 20


def external_event() -> torch.cuda.Event:
    """An event whose record becomes a node of the graph under capture, readable after a replay."""
    return torch.cuda.Event(enable_timing=True, external=True)  # type: ignore[call-arg]


@cache
def external_events_work() -> str | None:
    """None if event nodes can be captured and read here, else what went wrong.

    Asked by trying: builds differ and version numbers do not tell.
    """
    try:
        torch.cuda.synchronize()
        graph, one = torch.cuda.CUDAGraph(), torch.ones(1, device="cuda")
        events = [external_event(), external_event()]
        with torch.cuda.graph(graph):
            events[0].record()
            one.add_(1)
            events[1].record()
        graph.replay()
        torch.cuda.synchronize()
        elapsed = events[0].elapsed_time(events[1])
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None if elapsed > 0 else "event nodes return no time"


class Marker:
    """Recorder: one event after each op that launched something.

    With a view of the capture, an op gets a mark only if it added a node that works; without one,
    after each op. `ops` and `events[1:]` then correspond, `events[0]` is the beginning.
    """

    def __init__(self, new_event: Callable[[], torch.cuda.Event]) -> None:
        self._new_event = new_event
        self.capture: Capture | None = None
        self.ops: list[Op] = []
        self.events: list[torch.cuda.Event] = []
        self._seen = 0
        # Kept as long as the graph, whose nodes refer to them.
        self._thrown = [new_event() for _ in range(THROWN_AWAY)]

    def start(self, capture: Capture | None = None) -> None:
        """Throw a few marks away and set the first one that counts."""
        self.capture = capture
        for event in self._thrown:
            event.record()
        self._mark()

    def before(self) -> None:
        """Nothing: what lies before an op belongs to its interval."""

    def after(self, op: Op) -> None:
        if self.capture is not None and self.capture.count() == self._seen:
            return
        self.ops.append(op)
        self._mark()

    def finish(self) -> None:
        """Close the tail: work that no boundary followed gets an interval of its own."""
        if self.capture is not None and self.capture.count() != self._seen:
            self.after(Op("", None, "unmarked", ""))

    def end(self) -> None:
        """Set the last mark of a call that has none inside."""
        self.ops.append(Op("", None, "whole", ""))
        self._mark()

    def _mark(self) -> None:
        event = self._new_event()
        event.record()
        self.events.append(event)
        if self.capture is not None:
            self._seen = self.capture.count()

    def read_s(self) -> list[float]:
        """Seconds of every interval of the last replay, uncorrected; the device must be idle."""
        pairs = zip(self.events, self.events[1:], strict=False)
        return [begin.elapsed_time(end) / 1e3 for begin, end in pairs]


def kernels_between_marks(
    nodes: Sequence[Node], is_mark: Callable[[Node], bool]
) -> list[list[str]]:
    """Names of the working nodes of each interval, in order; the marks thrown away are left out.

    Raises ValueError if fewer marks are there than were thrown away.
    """
    intervals: list[list[str]] = []
    marks = 0
    for node in nodes:
        if is_mark(node):
            marks += 1
            if marks > THROWN_AWAY:
                intervals.append([])
        elif node.works and marks > THROWN_AWAY:
            intervals[-1].append(node.name)
    if marks <= THROWN_AWAY:
        raise ValueError(f"{marks} marks in the graph, {THROWN_AWAY} of them thrown away")
    return intervals[:-1]  # what follows the last mark is nobody's


def _graph_seconds(run: Callable[[], Any]) -> float:
    """Median device time of a captured chain, from events outside the graph, in seconds."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    samples: list[float] = []
    for _ in range(_REPLAYS):
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        samples.append(begin.elapsed_time(end) / 1e3)
    return median(samples[_REPLAYS // 4 :])


def _small_kernel() -> Callable[[], Any]:
    """A kernel of a few microseconds: longer than a launch, so that hops are not hidden."""
    cell = torch.ones(1, device="cuda")
    return lambda: cell.add_(0.0)


def graph_mark_cost_s(kernel: Callable[[], Any] | None = None) -> float:
    """Cost m of one mark in a graph: chain with marks less chain without, per mark, in seconds."""
    kernel = kernel or _small_kernel()
    kernel()
    events = [external_event() for _ in range(_CHAIN)]

    def plain() -> None:
        for _ in range(_CHAIN):
            kernel()

    def marked() -> None:
        for event in events:
            kernel()
            event.record()

    bare = _graph_seconds(plain)
    return max(0.0, (_graph_seconds(marked) - bare) / _CHAIN)


def empty_pair_graph_s() -> float:
    """Time between two neighbouring marks of a graph with nothing between them, in seconds."""
    events = [external_event() for _ in range(_CHAIN)]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for event in events:
            event.record()
    samples: list[float] = []
    for _ in range(_REPLAYS):
        graph.replay()
        torch.cuda.synchronize()
        settled = pairwise(events[2 * THROWN_AWAY :])
        samples += [begin.elapsed_time(end) / 1e3 for begin, end in settled]
    return sum(samples) / len(samples)


@cache
def default_graph_mark_cost_s() -> float:
    """m of this process, measured once, for callers without a calibration."""
    return graph_mark_cost_s()
