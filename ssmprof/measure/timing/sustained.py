"""Calls back to back for half a second and more: what a call takes at the clock of its own load.

Single cold calls leave the device idle in between and share one clock; a service does not.
"""

from __future__ import annotations

import math
import time
from collections import deque
from typing import Any

import torch

from ssmprof.measure.timing.bench import Bench, Run, submitted
from ssmprof.measure.timing.timers import TimerName
from ssmprof.records import median

# Calls before each window, until power and clock follow the new load (they take about this long).
_LEAD_S = 0.2
# Calls submitted together; two such batches wait at the device at most, and the clock is read once
# per batch.
_BATCH_S = 0.02
_QUEUED = 2
_MARGIN = 1.2  # of calls: a clock that rises must not shorten a window below its least


class Steady:
    """One contender's windows; `calls` is how many the latest holds, fixed by the pace before."""

    def __init__(self, run: Run, bench: Bench, call_s: float, *, least_s: float) -> None:
        self._submit = submitted(run)
        self._bench = bench
        self._least_s = least_s
        self._clocks_hz: list[float | None] = []
        self._pace(call_s)
        graph = isinstance(run, torch.cuda.CUDAGraph)
        on_cpu = bench.kind == "cpu"
        self.timer: TimerName = "wall-clock" if on_cpu else "cuda-graph" if graph else "cuda-events"

    def _pace(self, call_s: float) -> None:
        """Batches, lead-in and window for calls of so many seconds."""
        call_s = max(call_s, 1e-7)
        self._batch = max(1, round(_BATCH_S / call_s))
        self._lead = max(1, round(_LEAD_S / call_s))
        self.calls = max(1, math.ceil(_MARGIN * self._least_s / call_s))

    def window(self) -> float:
        """Seconds of one call, the mean of a window, after a lead-in without a pause between.

        A window that falls short of its least is taken again, longer.
        """
        if not self._clocks_hz:
            begin = time.perf_counter()
            self._run(self._lead)
            self._bench.wait()
            self._pace((time.perf_counter() - begin) / self._lead)
        while True:
            self._run(self._lead)
            readings: list[float] = []
            seconds = self._timed(readings)
            if seconds >= self._least_s:
                break
            self._pace(seconds / self.calls)
        if not readings:
            self._read(readings)
        self._clocks_hz.append(median(readings) if readings else None)
        return seconds / self.calls

    def clocks_hz(self) -> tuple[float, ...]:
        """Median clock of each window; empty where the device did not tell it in all of them."""
        told = tuple(hertz for hertz in self._clocks_hz if hertz is not None)
        return told if len(told) == len(self._clocks_hz) else ()

    def _timed(self, readings: list[float]) -> float:
        if self._bench.kind == "cpu":
            begin = time.perf_counter()
            self._run(self.calls)
            return time.perf_counter() - begin
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        self._run(self.calls, readings)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e-3

    def _run(self, calls: int, readings: list[float] | None = None) -> None:
        """Submit so many calls, never more than a few batches ahead of the device."""
        pending: deque[Any] = deque()
        while calls > 0:
            for _ in range(min(self._batch, calls)):
                self._submit()
            calls -= self._batch
            if self._bench.kind == "cpu":
                continue
            mark = torch.cuda.Event()
            mark.record()
            pending.append(mark)
            if len(pending) > _QUEUED:
                pending.popleft().synchronize()
                if readings is not None:
                    self._read(readings)

    def _read(self, readings: list[float]) -> None:
        """The clock of a device at work; that of a CPU is not the clock of the work."""
        hertz = None if self._bench.kind == "cpu" else self._bench.device.sm_hz()
        if hertz:
            readings.append(hertz)
