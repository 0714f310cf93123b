"""What a mark costs on this device, measured on chains of kernels that nobody asked about.

A mark between two kernels adds two node-to-node hops, and an empty pair of marks is one: m = 2e. It
is held against a chain of kernels with and without marks between them, and never fitted on the
graph whose closure it judges, for that closure would be zero by construction.

On an H100 e = 1.27 us; a chain of small kernels gives 2.26 us instead of 2.54, and in graphs of
real calls nine of ten marks cost 2.0 to 3.0 us (`reports/accuracy-h100-80gb-hbm3/turns.json`).
Where that difference matters each graph pays for its own marks (`thinning`); the cost found here
serves for long calls and for other routes. A fill node takes a microsecond or two to start after a
kernel, which a mark between them hides: an op that begins with one costs that much less, and this
difference is measured on chains too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Any

import torch

from ssmprof.measure.attribution.driver import fill
from ssmprof.measure.attribution.marks import HEAD_CYCLES, Ends, Marker, external_event
from ssmprof.measure.attribution.tracer import Op
from ssmprof.records import median

# Beyond this 2e and the chain do not describe the same thing.
CHAIN_TOLERANCE_S = 0.5e-6
_CHAIN = 63
_SETTLED = 8  # pairs of a graph left out, which cost more
_REPLAYS = 24
_HEAT_S = 0.03  # a device that was idle replays its first chains several times slower


@dataclass(frozen=True)
class MarkCost:
    """What to take off an interval, in seconds: of an op that begins with a kernel, or with a fill
    or copy. `empty_s` is e, `chain_s` what a chain of small kernels gives instead of 2e."""

    kernel_s: float
    fill_s: float
    empty_s: float
    chain_s: float

    def of(self, kernels: Sequence[str]) -> float:
        """Cost of the mark of an interval with these nodes."""
        return self.fill_s if kernels and kernels[0].startswith("Mem") else self.kernel_s


@cache
def mark_cost() -> MarkCost:
    """The cost of a mark in this process, measured once."""
    return measure_mark_cost()


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

    chain_s = _chain_mark_cost_s(kernels)
    hidden_s = chain_s - _chain_mark_cost_s([filled(kernel) for kernel in kernels])
    empty_s = empty_pair_graph_s()
    kernel_s = 2 * empty_s if abs(2 * empty_s - chain_s) <= CHAIN_TOLERANCE_S else chain_s
    return MarkCost(
        kernel_s=kernel_s,
        fill_s=min(kernel_s, kernel_s - hidden_s),
        empty_s=empty_s,
        chain_s=chain_s,
    )


def empty_pair_graph_s() -> float:
    """Time between two neighbouring marks of a graph with nothing between them, in seconds.

    Median over replays of the mean over a replay's pairs: events resolve tens of nanoseconds, and
    single replays are interrupted.
    """
    events = [external_event() for _ in range(_CHAIN)]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        torch.cuda._sleep(HEAD_CYCLES)
        for event in events:
            event.record()
    samples: list[float] = []
    for _ in range(_REPLAYS):
        graph.replay()
        torch.cuda.synchronize()
        settled = events[_SETTLED:]
        samples.append(settled[0].elapsed_time(settled[-1]) / 1e3 / (len(settled) - 1))
    return median(samples)


def _chain_mark_cost_s(kernels: Sequence[Callable[[], Any]]) -> float:
    """Chain with marks less chain without, per mark, in seconds: replayed in turns, the median."""
    for kernel in kernels[:3]:
        kernel()
    torch.cuda.synchronize()
    bare, marked = (_chain(kernels, kind(external_event)) for kind in (Ends, Marker))
    heated = perf_counter() + _HEAT_S
    while perf_counter() < heated:
        bare()
        marked()
    # The chain without marks has one at its end.
    return median(marked() - bare() for _ in range(_REPLAYS)) / (len(kernels) - 1)


def _chain(kernels: Sequence[Callable[[], Any]], marker: Marker) -> Callable[[], float]:
    """A captured chain of kernels; each call replays it and returns its seconds."""
    graph = torch.cuda.CUDAGraph()
    nothing = Op("", None, "", "")
    with torch.cuda.graph(graph):
        marker.start(head=True)
        for kernel in kernels:
            kernel()
            marker.after(nothing)
        marker.finish()

    def replay_s() -> float:
        graph.replay()
        torch.cuda.synchronize()
        return sum(marker.read_s())

    return replay_s
