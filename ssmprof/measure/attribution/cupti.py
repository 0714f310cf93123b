"""CUPTI through torch.profiler: the judge of names and durations, and the last route of all.

Never used for latency: it widens gaps, and kernels can be missing from a trace. A few replays are
profiled in one session and matched by position once counts agree.

A kernel launched early (programmatic dependent launch) begins while its predecessor still runs, and
waits; CUPTI counts that wait. Its own time begins where the predecessor ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch._C._autograd import DeviceType

from ssmprof.measure.attribution.intervals import Interval
from ssmprof.measure.attribution.tracer import Op
from ssmprof.records import median

_CYCLES = 3
_NO_KERNELS = ("gpu_", "Context Sync", "Stream ", "Event ")


class Kernel(NamedTuple):
    """One kernel, copy or fill as CUPTI saw it. Seconds on the device's clock."""

    name: str
    start_s: float
    duration_s: float


def profile(
    run: Callable[[], Any],
    cycles: int = _CYCLES,
    last: int | None = None,
    ignore: tuple[str, ...] = (),
) -> list[list[Kernel]]:
    """Device activities of each of `cycles` runs, in order of their start.

    Kernels whose names begin with one of `ignore` are left out. `last` keeps only that many kernels
    at the end of each run (what comes before is the flush of the cache). Raises RuntimeError if
    nothing was recorded, if kernels are missing, and on boards that share memory between CPU and
    GPU: there the profiler needs root and may end the process.
    """
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    if getattr(properties, "is_integrated", False):
        raise RuntimeError("not asked on an integrated GPU, where it may end the process")
    activities = [torch.profiler.ProfilerActivity.CUDA]
    run()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=activities, acc_events=True) as session:
        for _ in range(cycles):
            run()
            torch.cuda.synchronize()
    assert session.profiler is not None
    results: Any = session.profiler.kineto_results
    found = sorted(
        (
            Kernel(event.name(), event.start_ns() / 1e9, event.duration_ns() / 1e9)
            for event in results.events()
            if event.device_type() == DeviceType.CUDA
            and not event.name().startswith(_NO_KERNELS + ignore)
        ),
        key=lambda kernel: kernel.start_s,
    )
    if not found:
        raise RuntimeError("CUPTI recorded no kernel (permission, or a mixed library path)")
    if len(found) % cycles:
        raise RuntimeError(f"CUPTI recorded {len(found)} kernels in {cycles} equal runs")
    each = len(found) // cycles
    if last is not None and each < last:
        raise RuntimeError(f"CUPTI recorded {each} kernels of {last} launched")
    skip = 0 if last is None else each - last
    return [found[index * each + skip : (index + 1) * each] for index in range(cycles)]


def gap_s(cycles: Sequence[Sequence[Kernel]]) -> float:
    """Time without a kernel inside a run, median over the cycles: start minus latest end."""
    gaps: list[float] = []
    for kernels in cycles:
        idle, end = 0.0, kernels[0].start_s
        for kernel in kernels:
            idle += max(0.0, kernel.start_s - end)
            end = max(end, kernel.start_s + kernel.duration_s)
        gaps.append(idle)
    return median(gaps)


def join(intervals: Sequence[Interval], cycles: Sequence[Sequence[Kernel]]) -> str | None:
    """Give intervals CUPTI's names and durations by position; why not, if they cannot be matched.

    Where the graph's nodes are known, every interval takes as many kernels as it has nodes;
    otherwise one each, and the counts must agree.
    """
    counts = [len(interval.kernels) or 1 for interval in intervals]
    seen = len(cycles[0])
    if sum(counts) != seen:
        return f"{sum(counts)} kernels captured, {seen} seen by CUPTI"
    own = [own_s(cycle) for cycle in cycles]
    position = 0
    for interval, count in zip(intervals, counts, strict=True):
        places = range(position, position + count)
        position += count
        interval.kernels = tuple(cycles[0][place].name for place in places)
        interval.cupti_each_s = tuple(median(times[place] for times in own) for place in places)
        interval.cupti_s = sum(interval.cupti_each_s)
        interval.span_s = median(
            _span_s(cycle, times, places) for cycle, times in zip(cycles, own, strict=True)
        )
    return None


def own_s(kernels: Sequence[Kernel]) -> list[float]:
    """Duration of each kernel without the part in which an earlier one still ran."""
    found: list[float] = []
    busy_until = kernels[0].start_s
    for kernel in kernels:
        end = kernel.start_s + kernel.duration_s
        overlap = max(0.0, busy_until - kernel.start_s)
        found.append(max(0.0, kernel.duration_s - overlap))
        busy_until = max(busy_until, end)
    return found


def _span_s(kernels: Sequence[Kernel], own: Sequence[float], places: range) -> float:
    """From where the first kernel has the device to itself to the end of the last."""
    first, last = kernels[places[0]], kernels[places[-1]]
    begin = first.start_s + first.duration_s - own[places[0]]
    return last.start_s + last.duration_s - begin


def trace(call: Callable[[], Any], replays: int = _CYCLES) -> tuple[list[Interval], float, float]:
    """Last route: kernels without ops. Returns intervals, gap and the whole, in seconds.

    The whole is host time of a call without the profiler, until the device is idle.
    """
    wholes: list[float] = []
    for _ in range(replays):
        torch.cuda.synchronize()
        started = perf_counter()
        call()
        torch.cuda.synchronize()
        wholes.append(perf_counter() - started)
    cycles = profile(call, replays)
    own = [own_s(cycle) for cycle in cycles]
    found = [
        Interval(
            Op("", None, "kernel", kernel.name),
            tuple(times[place] for times in own),
            (kernel.name,),
            median(times[place] for times in own),
        )
        for place, kernel in enumerate(cycles[0])
    ]
    return found, gap_s(cycles), median(wholes)
