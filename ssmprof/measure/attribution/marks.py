"""Marks: event records between ops, in a captured graph or in a held stream, and their cost.

Marks tile a call, so an interval holds its op and the gap before it, plus the cost m of one mark.
A mark between two kernels adds two node-to-node hops, and an empty pair of marks is one: m = 2e. It
is held against a chain of small kernels with and without marks between them, and never fitted on
the graph whose closure it judges, for that closure would be zero by construction.

On an H100 e = 1.285 us. Calls of 19 to 35 ops close exactly with m = 2.52 to 2.55 us; chains of
small kernels give 2.0 to 2.3, since there the launches themselves are the bottleneck. A fill or
copy node takes about 2 us to start after a kernel, which a mark between them hides: an op that
begins with one costs that much less, and this difference is measured on chains too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch

from ssmprof.measure.attribution.driver import Capture, Node, fill
from ssmprof.measure.attribution.tracer import Op
from ssmprof.records import median

# The first event pairs of a graph cost up to twice as much as later ones. The later ones of those
# thrown away are empty pairs at the clocks of this very replay.
THROWN_AWAY = 16
_SETTLED = 8
# e moves by some per cent with the state of the device (1.23 to 1.29 us within a process on an
# H100); a reading further off than this is not believed.
_EMPTY_TOLERANCE = 0.1
# A graph begins to run before its last node has arrived, and marks of its first 100 µs read up to
# 1 µs too much (H100). So every graph begins with a spin: 100 to 200 µs at the clocks of GPUs.
_HEAD_CYCLES = 300_000
# Beyond this 2e and the chain do not describe the same thing.
CHAIN_TOLERANCE_S = 0.5e-6
_CHAIN = 63
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

    def start(self, capture: Capture | None = None, *, head: bool = False) -> None:
        """Throw a few marks away and set the first one that counts; `head` spins before them."""
        self.capture = capture
        if head:
            torch.cuda._sleep(_HEAD_CYCLES)
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

    def empty_s(self) -> float:
        """e of the last replay: mean time between neighbours of the marks thrown away."""
        settled = self._thrown[_SETTLED:]
        return settled[0].elapsed_time(settled[-1]) / 1e3 / (len(settled) - 1)

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


def _chain_seconds(kernels: Sequence[Callable[[], Any]], *, marked: bool) -> float:
    """Median device seconds of a captured chain of kernels, with a mark after each or none."""
    marker = Marker(external_event)
    graph = torch.cuda.CUDAGraph()
    nothing = Op("", None, "", "")
    with torch.cuda.graph(graph):
        marker.start(head=True)
        for kernel in kernels:
            kernel()
            if marked:
                marker.after(nothing)
        if not marked:
            marker.end()
    samples: list[float] = []
    for _ in range(_REPLAYS):
        graph.replay()
        torch.cuda.synchronize()
        samples.append(sum(marker.read_s()))
    return median(samples[_REPLAYS // 4 :])


@dataclass(frozen=True)
class MarkCost:
    """What to take off an interval, in seconds: of an op that begins with a kernel, or with a fill
    or copy. `empty_s` is e, `chain_s` what a chain of small kernels gives instead of 2e."""

    kernel_s: float
    fill_s: float
    empty_s: float
    chain_s: float

    def at(self, empty_s: float) -> MarkCost:
        """The same with another e, measured in the graph whose marks are to be paid for."""
        scale = empty_s / self.empty_s if self.empty_s else 1.0
        if self.kernel_s != 2 * self.empty_s or abs(scale - 1) > _EMPTY_TOLERANCE:
            return self
        return MarkCost(2 * empty_s, self.fill_s * scale, empty_s, self.chain_s)

    def of(self, kernels: Sequence[str]) -> float:
        """Cost of the mark of an interval with these nodes."""
        return self.fill_s if kernels and kernels[0].startswith("Mem") else self.kernel_s


def measure_mark_cost() -> MarkCost:
    """Measure e, and m of both kinds.

    2e is m unless a chain contradicts it by more than half a microsecond; then the chain wins.
    """
    words = torch.ones(2**14, device="cuda")
    rows = torch.ones(256, 1024, device="cuda", dtype=torch.bfloat16)
    square = torch.ones(512, 512, device="cuda", dtype=torch.bfloat16)
    kinds: list[Callable[[], Any]] = [
        lambda: words.add_(0.0),
        lambda: torch.softmax(rows, -1),
        lambda: torch.mm(square, square),
    ]
    kernels = [kinds[index % len(kinds)] for index in range(_CHAIN)]

    def filled(kernel: Callable[[], Any]) -> Callable[[], Any]:
        def both() -> None:
            # Torch fills by kernels; attention and split matmuls begin with a node of this kind.
            fill(words.data_ptr(), 4096, torch.cuda.current_stream().cuda_stream)
            kernel()

        return both

    empty_s = empty_pair_graph_s()
    chain_s = _chain_mark_cost_s(kernels)
    hidden_s = chain_s - _chain_mark_cost_s([filled(kernel) for kernel in kernels])
    kernel_s = 2 * empty_s if abs(2 * empty_s - chain_s) <= CHAIN_TOLERANCE_S else chain_s
    return MarkCost(
        kernel_s=kernel_s,
        fill_s=min(kernel_s, max(0.0, kernel_s - hidden_s)),
        empty_s=empty_s,
        chain_s=chain_s,
    )


def _chain_mark_cost_s(kernels: Sequence[Callable[[], Any]]) -> float:
    """Chain with marks less chain without, per mark, in seconds."""
    for kernel in kernels[:3]:
        kernel()
    torch.cuda.synchronize()
    bare = _chain_seconds(kernels, marked=False)
    # The chain without marks has one at its end.
    return max(0.0, (_chain_seconds(kernels, marked=True) - bare) / (len(kernels) - 1))


@cache
def mark_cost() -> MarkCost:
    """The cost of a mark in this process, measured once."""
    return measure_mark_cost()


def empty_pair_graph_s() -> float:
    """Time between two neighbouring marks of a graph with nothing between them, in seconds."""
    events = [external_event() for _ in range(_CHAIN)]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        torch.cuda._sleep(_HEAD_CYCLES)
        for event in events:
            event.record()
    samples: list[float] = []
    for _ in range(_REPLAYS):
        graph.replay()
        torch.cuda.synchronize()
        settled = pairwise(events[_SETTLED:])
        samples += [begin.elapsed_time(end) / 1e3 for begin, end in settled]
    return sum(samples) / len(samples)
