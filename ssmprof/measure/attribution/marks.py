"""Marks: event records between ops, in a captured graph or in a held stream.

Marks tile a call, so an interval holds its op and the gap before it, plus what its mark costs
(`mark_cost`, and `thinning` for the marks of one graph).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch

from ssmprof.measure.attribution.driver import Capture, Node
from ssmprof.measure.attribution.tracer import Op

# The first event pairs of a graph cost up to twice as much as later ones.
THROWN_AWAY = 16
# A graph begins to run before its last node has arrived, and marks of its first 100 µs read up to
# 1 µs too much (H100). So every graph begins with a spin: 100 to 200 µs at the clocks of GPUs.
HEAD_CYCLES = 300_000


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

    #: Whether the ops of the call are to be traced.
    inside = True

    def __init__(self, new_event: Callable[[], torch.cuda.Event]) -> None:
        self._new_event = new_event
        self.capture: Capture | None = None
        self.ops: list[Op] = []
        self.events: list[torch.cuda.Event] = []
        self._seen = 0
        # Kept as long as the graph, whose nodes refer to them.
        self._thrown = [new_event() for _ in range(THROWN_AWAY)]

    def start(self, capture: Capture | None = None, *, head: bool = False) -> None:
        """Throw a few marks away and set the first one that counts; `head` spins before them."""
        self.capture = capture
        if head:
            torch.cuda._sleep(HEAD_CYCLES)
        for event in self._thrown:
            event.record()
        self._mark()

    def before(self) -> None:
        """Nothing: what lies before an op belongs to its interval."""

    def after(self, op: Op) -> None:
        if self.worked():
            self.ops.append(op)
            self._mark()

    def finish(self) -> None:
        """Close the tail: work that no boundary followed gets an interval of its own."""
        if self.capture is not None and self.worked():
            self.after(Op("", None, "unmarked", ""))

    def worked(self) -> bool:
        """Whether anything was launched since the last boundary, as far as can be seen."""
        return self.capture is None or self.capture.count() != self._seen

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


class Ends(Marker):
    """Marks a call at its two ends only."""

    inside = False

    def after(self, op: Op) -> None:
        """Nothing: the whole is one interval."""

    def finish(self) -> None:
        self.ops.append(Op("", None, "whole", ""))
        self._mark()


class Thinned(Marker):
    """Marks one boundary of `every`, beginning with number `first`, and the end."""

    def __init__(
        self, new_event: Callable[[], torch.cuda.Event], *, every: int, first: int
    ) -> None:
        super().__init__(new_event)
        self._every, self._first = every, first
        self._boundaries = 0
        self._pending: Op | None = None

    def after(self, op: Op) -> None:
        if not self.worked():
            return
        self._pending = None
        if self._boundaries % self._every == self._first:
            super().after(op)
        else:
            self._pending = op
            if self.capture is not None:
                self._seen = self.capture.count()
        self._boundaries += 1

    def finish(self) -> None:
        super().finish()
        if self._pending is not None:
            self.ops.append(self._pending)
            self._mark()


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
