"""Where contenders are timed: one device, how a call becomes what is timed on it, and its timers.

For measurements that hold several calls at once; a point by itself has `measure.point`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import torch

from ssmprof.devices.base import Device
from ssmprof.measure.timing.latency import timer_of
from ssmprof.measure.timing.sampling import no_collection
from ssmprof.measure.timing.timers import L2Flush, Timer, WallTimer, capture
from ssmprof.measure.workers.worker import UnsupportedError
from ssmprof.models.build.workloads import Workload
from ssmprof.records import Point, encode
from ssmprof.scalars import Execution
from ssmprof.spec import Subject

Run = Callable[[], Any] | torch.cuda.CUDAGraph


class Bench:
    """A device, its L2 flush (made at its first use) and the kernels compiled so far."""

    def __init__(
        self,
        kind: Literal["cuda", "cpu"],
        device: Device,
        environment: str,
        compilations: Callable[[], int],
    ) -> None:
        self.kind: Literal["cuda", "cpu"] = kind
        self.device = device
        self.environment = environment
        self.compilations = compilations
        self._flush: L2Flush | None = None

    @property
    def flush(self) -> L2Flush | None:
        """None on a CPU, whose caches are left as they are."""
        if self._flush is None and self.kind == "cuda":
            self._flush = L2Flush.of_device()
        return self._flush

    def wait(self) -> None:
        """Until the device is idle; a CPU's call is done when it returns."""
        if self.kind == "cuda":
            torch.cuda.synchronize()

    def runnable(self, load: Workload, execution: Execution) -> tuple[Run, int | None]:
        """What is timed, a graph or the call itself, and the kernel launches of a graph.

        The call must have run before. Raises UnsupportedError where it cannot be captured.
        """
        if execution == "eager":
            return load.call, None
        if self.kind == "cpu":
            raise UnsupportedError("a CPU has no CUDA graphs; ask for eager execution")
        return captured(load)

    def cold_timer(self, run: Run, call_s: float) -> Timer:
        """Times single calls, each after a flush of the L2 cache; on a CPU calls as they come."""
        if self.kind == "cuda":
            return timer_of(run, call_s, self.flush)
        assert not isinstance(run, torch.cuda.CUDAGraph)
        return WallTimer(run)


_young = True  # no graph has been captured in this process


def captured(load: Workload) -> tuple[torch.cuda.CUDAGraph, int | None]:
    """The workload's call as a graph, and its launches. Raises UnsupportedError.

    The first graphs of a process replay faster than those that are made after one was given up: by
    0.3 us a kernel in each of 25 processes on an H200, 3 % of a prompt of 512 tokens and 7 % of a
    decode step. A server captures dozens, so the first one is given up before anything is timed.
    """
    global _young
    try:
        # A collection during capture may free tensors of another stream, and break it.
        with no_collection():
            if _young:
                _young = False
                first, _ = capture(load.call)
                first.replay()
                torch.cuda.synchronize()
                del first
            return capture(load.call)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        with suppress(RuntimeError):
            torch.cuda.synchronize()
        text = str(_first(error)).splitlines()[0]
        raise UnsupportedError(f"the call cannot be captured in a CUDA graph: {text}") from error


def _first(error: BaseException) -> BaseException:
    """What failed first: the end of a capture that was broken raises an error of its own."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return error


def model_key(subject: Subject, point: Point) -> bytes:
    """Equal where one built model serves both points."""
    return encode(subject) + f"{point.dtype} {point.seed} {point.logits}".encode()


def submitted(run: Run) -> Callable[[], Any]:
    """One call or replay, submitted without waiting for it."""
    return run.replay if isinstance(run, torch.cuda.CUDAGraph) else run
