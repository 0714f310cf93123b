"""How long one call takes: a wall clock, device events, replays of a CUDA graph.

One interface: `sample()` returns the seconds of one call, the mean over `calls_per_sample` calls in
a row. A timer given an `L2Flush` measures cold calls, one without measures calls that find in the
L2 cache what their predecessor left there. The stream is held by a kernel that spins for a bounded
number of cycles while a window is submitted, so the host's pace never shows between the events.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol

import torch

from ssmprof.measure.attribution.driver import watch
from ssmprof.records import median

Call = Callable[[], Any]
TimerName = Literal["cuda-graph", "cuda-events", "wall-clock"]

# What is left of an event pair's cost (1.3 µs on a held stream) after it is taken off is far below
# a thousandth of a window this long.
WINDOW_S = 2e-3
_MOST_CALLS = 64  # well below the depth of the launch queue
_HOLD_S = 20e-6  # added to twice the host's own submission time


class Timer(Protocol):
    """Times one call."""

    name: TimerName
    calls_per_sample: int

    def sample(self) -> float: ...


class L2Flush:
    """Makes the next call find nothing in the L2 cache, by reading twice its size.

    Reading leaves clean lines; after a writing flush the measured call would pay for writing the
    flush's lines back.
    """

    def __init__(self, l2_bytes: int) -> None:
        self._count = max(1, 2 * l2_bytes // 4)
        self._words: torch.Tensor | None = None
        self._out: torch.Tensor | None = None

    def __call__(self) -> None:
        if self._words is None or self._out is None:
            # Whoever asks first may be inside a model's call; others must be able to write, too.
            with torch.inference_mode(False):
                self._words = torch.randint(2**30, (self._count,), dtype=torch.int32, device="cuda")
                self._out = torch.zeros((), dtype=torch.int32, device="cuda")
        torch.amax(self._words, 0, out=self._out)

    def release(self) -> None:
        """Give the memory back; the next flush takes it again."""
        self._words = self._out = None

    @classmethod
    def of_device(cls) -> L2Flush:
        """The flush of the current device (50 MiB where torch does not tell the size)."""
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        return cls(getattr(properties, "L2_cache_size", 0) or 50 * 2**20)


class WallTimer:
    """From submission until the device is idle, on the host's clock: what a caller waits for."""

    name: TimerName = "wall-clock"
    calls_per_sample = 1

    def __init__(
        self,
        call: Call,
        synchronize: Call = lambda: None,
        flush: Call | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._call = call
        self._synchronize = synchronize
        self._flush = flush
        self._clock = clock

    def sample(self) -> float:
        """Seconds of one call."""
        if self._flush is not None:
            self._flush()
        self._synchronize()
        start = self._clock()
        self._call()
        self._synchronize()
        return self._clock() - start


class Window:
    """Device time of a sequence of submissions between two events, on a held stream.

    `held` says whether the stream was held until all was submitted; the time is the host's, too,
    where it was not.
    """

    def __init__(self) -> None:
        self.held = True
        self._start = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)
        self._hertz = _clock_hz()
        self._submit_s = 100e-6

    def seconds(self, submit: Call) -> float:
        """Run `submit`, which must not wait for the device, and return the device's seconds."""
        torch.cuda.synchronize()
        hold_s = _HOLD_S + 2 * self._submit_s
        begin = time.perf_counter()
        _sleep(int(hold_s * self._hertz))
        self._start.record()
        submitting = time.perf_counter()
        submit()
        ended = time.perf_counter()
        self.held = ended - begin < hold_s
        self._submit_s = min(max(ended - submitting, 10e-6), 5e-3)
        self._end.record()
        self._end.synchronize()
        return self._start.elapsed_time(self._end) * 1e-3


class CudaTimer:
    """Device time of eager calls, between events on a held stream.

    Cold calls are timed one by one, each after a flush that has ended, so that nothing of the flush
    overlaps the call; hot ones in a window of several. What an empty pair of events takes is taken
    off. The spin is bounded: a call that waits for the device or loads a module is measured too
    long but never hangs.
    """

    name: TimerName = "cuda-events"

    def __init__(self, call: Call, call_s: float, flush: L2Flush | None = None) -> None:
        self._call = call
        self._flush = flush
        self._window = Window()
        self._pair_s = median(self._window.seconds(lambda: None) for _ in range(5))
        self.calls_per_sample = calls_for(call_s) if flush is None else 1

    def sample(self) -> float:
        """Seconds of one call."""
        if self._flush is not None:
            self._flush()
        return (self._window.seconds(self._submit) - self._pair_s) / self.calls_per_sample

    def _submit(self) -> None:
        for _ in range(self.calls_per_sample):
            self._call()


class GraphTimer(CudaTimer):
    """Device time of replays of a captured graph."""

    name: TimerName = "cuda-graph"

    def __init__(
        self, graph: torch.cuda.CUDAGraph, call_s: float, flush: L2Flush | None = None
    ) -> None:
        super().__init__(graph.replay, call_s, flush)


def calls_for(call_s: float) -> int:
    """How many calls make a window long enough for its events."""
    return min(_MOST_CALLS, max(1, math.ceil(WINDOW_S / max(call_s, 1e-7))))


def capture(call: Call) -> tuple[torch.cuda.CUDAGraph, int | None]:
    """Record one call in a CUDA graph; `call` must have run before.

    Returns the graph and its kernel launches, None where the driver does not tell. Raises what
    torch raises where something in the call cannot be captured.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
        seen = watch(torch.cuda.current_stream().cuda_stream)
        launches = None if seen is None else seen.launches()
    torch.cuda.synchronize()
    return graph, launches


def _clock_hz() -> float:
    """An upper bound of the SM clock: a spin may be longer than asked for, never shorter."""
    rate = getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "clock_rate", 0)
    return rate * 1e3 if rate else 2.0e9


def _sleep(cycles: int) -> None:
    torch.cuda._sleep(cycles)
