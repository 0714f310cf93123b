"""The latency pass: the time of one call, cold and hot, while nobody listens.

Eager: host wall time from submission until the device is idle. Graph: device time of one replay.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from msgspec import structs

from ssmprof.devices.base import Device
from ssmprof.measure.board import loosened
from ssmprof.measure.timing.clocks import ClockWatch
from ssmprof.measure.timing.sampling import WarmUp, below_timer_notes, collect, throttle_notes
from ssmprof.measure.timing.spin import Spin
from ssmprof.measure.timing.stopping import Stopping
from ssmprof.measure.timing.timers import (
    Call,
    GraphTimer,
    L2Flush,
    Timer,
    TimerName,
    WallTimer,
)
from ssmprof.records import Clocks, Note
from ssmprof.spec import Budget

# What the L2 cache can save is its size over the memory's bandwidth, tens of microseconds on any
# card: a call this long is the same cold and hot to a few thousandths.
_HOT_MATTERS_S = 20e-3
_HOT_SHARE = 0.2  # of the budget: the hot samples stand beside the answer


@dataclass(frozen=True)
class Latency:
    """Raw samples of one call and the state of the device around them."""

    times_s: tuple[float, ...]
    hot_times_s: tuple[float, ...]
    timer: TimerName
    calls_per_sample: int
    clocks: Clocks
    notes: tuple[Note, ...]
    measuring_s: float


def on_cuda(
    call: Call | torch.cuda.CUDAGraph,
    warm: WarmUp,
    budget: Budget,
    device: Device,
    flush: L2Flush,
) -> Latency:
    """Cold samples, then hot ones where they can differ. A graph is replayed, a call is called."""
    before, pinned = _clock_hz() or device.sm_hz(), device.pinned()
    timer = timer_of(call, warm.call_s, flush)
    watch = ClockWatch(device)
    cold = collect(timer.sample, Stopping(budget), timer.calls_per_sample, between=watch.look)
    hot = None
    if warm.call_s < _HOT_MATTERS_S:
        again = timer_of(call, warm.call_s, None)
        hot = collect(again.sample, Stopping(_part(budget)), again.calls_per_sample)
    clocks = watch.clocks(before)
    clocks = structs.replace(clocks, sm_after_hz=_clock_hz() or clocks.sm_after_hz)
    return Latency(
        times_s=cold.times_s,
        hot_times_s=hot.times_s if hot else (),
        timer=timer.name,
        calls_per_sample=timer.calls_per_sample,
        clocks=clocks,
        notes=(
            *cold.notes,
            *below_timer_notes((*cold.times_s, *(hot.times_s if hot else ()))),
            *throttle_notes(clocks, device.max_sm_hz()),
            *loosened(pinned, clocks.pinned),
        ),
        measuring_s=cold.spent_s + (hot.spent_s if hot else 0.0),
    )


def on_cpu(call: Call, budget: Budget, device: Device) -> Latency:
    """Wall time of calls in a row. A CPU's caches are left as they are: there is no cold twin."""
    before = device.sm_hz()
    timer = WallTimer(call)
    watch = ClockWatch(device)
    samples = collect(timer.sample, Stopping(budget), between=watch.look)
    clocks = watch.clocks(before)
    return Latency(
        times_s=samples.times_s,
        hot_times_s=(),
        timer=timer.name,
        calls_per_sample=1,
        clocks=clocks,
        notes=(*samples.notes, *below_timer_notes(samples.times_s)),
        measuring_s=samples.spent_s,
    )


def _clock_hz() -> float | None:
    """The SM clock of this moment, counted on the device itself; None where Triton cannot run."""
    global _spin
    try:
        _spin = _spin or Spin(100e-6)
        _spin()
        return _spin.clock_hz()
    except RuntimeError:
        return None


_spin: Spin | None = None


def timer_of(call: Call | torch.cuda.CUDAGraph, call_s: float, flush: L2Flush | None) -> Timer:
    """A graph's replays by device time, eager calls until the device is idle; cold with a flush."""
    if isinstance(call, torch.cuda.CUDAGraph):
        return GraphTimer(call, call_s, flush)
    return WallTimer(call, torch.cuda.synchronize, flush)


def _part(budget: Budget) -> Budget:
    minimum = min(budget.min_samples, max(3, budget.min_samples // 2))
    return structs.replace(
        budget,
        min_samples=minimum,
        min_time_s=_HOT_SHARE * budget.min_time_s,
        point_s=_HOT_SHARE * budget.point_s,
    )
