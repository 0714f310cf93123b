"""Warm-up, the loop that takes samples, and the tags samples may carry. No torch: all is passed in.

Warm-up ends when no kernel was compiled in the last calls and their times have settled; what it
cost is the cold start. Samples are never dropped: a throttled or noisy point is kept and tagged.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ssmprof.limits import THROTTLED_CLOCK
from ssmprof.measure.timing.stopping import Stopping
from ssmprof.records import Clocks, Note, median

Clock = Callable[[], float]

# Settled: the last three calls lie within this of each other, or the newest is the slowest, so that
# the times no longer fall.
_SETTLED = 0.1
_LONG_CALL_S = 0.25  # one repetition shows that a call this long has settled well enough


@dataclass(frozen=True)
class WarmUp:
    """`cold_s` is the time until the first settled call, `call_s` what a settled call takes."""

    calls: int
    cold_s: float
    call_s: float
    compilations: int
    settled: bool


def warm_up(
    call: Callable[[], object],
    synchronize: Callable[[], object],
    compilations: Callable[[], int] = lambda: 0,
    *,
    limit_s: float,
    clock: Clock = time.perf_counter,
) -> WarmUp:
    """Call until settled or until `limit_s`, at least twice, so that one call is not the first."""
    begin, compiled = clock(), compilations()
    times: list[float] = []
    last_compiled = 0
    settled = False
    while not settled:
        before = compilations()
        start = clock()
        call()
        synchronize()
        times.append(clock() - start)
        if compilations() != before:
            last_compiled = len(times)
        settled = _settled(times[last_compiled:])
        if len(times) >= 2 and clock() - begin > limit_s:
            break
    steady = median(times[-2:])
    first = next(i for i, taken in enumerate(times) if taken <= steady * (1 + 2 * _SETTLED))
    return WarmUp(
        calls=len(times),
        cold_s=sum(times[:first]),
        call_s=times[-1] if len(times) < 3 else median(times[-3:]),
        compilations=compilations() - compiled,
        settled=settled,
    )


def _settled(times: list[float]) -> bool:
    if len(times) >= 2 and times[-1] >= _LONG_CALL_S:
        return times[-1] >= times[-2] * (1 - _SETTLED)
    if len(times) < 3:
        return False
    last = times[-3:]
    return max(last) - min(last) <= _SETTLED * min(last) or last[-1] == max(last)


@dataclass(frozen=True)
class Samples:
    """Raw times of one call, and the tags they earned."""

    times_s: tuple[float, ...]
    spent_s: float
    notes: tuple[Note, ...] = field(default=())


def collect(
    sample: Callable[[], float],
    stopping: Stopping,
    calls_per_sample: int = 1,
    *,
    between: Callable[[], object] = lambda: None,
    clock: Clock = time.perf_counter,
) -> Samples:
    """Take samples until the rule says stop. Floors and budgets count all time spent here.

    `between` is called after every sample, outside of what is timed.
    """
    begin = clock()
    times: list[float] = []
    verdict = "go-on"
    with no_collection():
        while verdict == "go-on":
            times.append(sample())
            between()
            spent = clock() - begin
            verdict = stopping.verdict(times, spent)
    notes: tuple[Note, ...] = ()
    if verdict == "noisy":
        limit = stopping.budget.max_noise
        text = f"not within {limit:.1%} after {len(times)} samples of {calls_per_sample} calls"
        notes = (Note(kind="noisy", text=text),)
    return Samples(tuple(times), spent, notes)


def below_timer_notes(times_s: Sequence[float]) -> tuple[Note, ...]:
    """The tag of a point whose call is too short to be timed: samples of zero or less."""
    below = sum(time_s <= 0 for time_s in times_s)
    if not below:
        return ()
    text = f"{below} of {len(times_s)} samples are not above what timing itself costs"
    return (Note(kind="below-timer", text=text),)


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep Python's garbage collection out of the samples, as timeit does."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def throttle_notes(clocks: Clocks, highest_hz: float | None) -> tuple[Note, ...]:
    """The tag of a point whose clock was held down: `throttled`, or `power-cap` alone.

    A device names its power limit also at full clock, so that reason counts as throttling only
    together with a clock below three quarters of the highest.
    """
    spread = clocks.sm_clock_hz
    seen = (clocks.sm_before_hz, clocks.sm_after_hz, spread.median if spread else None)
    lowest = min((hz for hz in seen if hz), default=None)
    slow = lowest is not None and highest_hz is not None and lowest < THROTTLED_CLOCK * highest_hz
    if not clocks.throttle and not slow:
        return ()
    reasons = list(clocks.throttle)
    if lowest is not None and highest_hz is not None:
        reasons.append(f"SM clock at {lowest / 1e6:.0f} of {highest_hz / 1e6:.0f} MHz")
    capped = not slow and set(clocks.throttle) == {"power cap"}
    share = lowest / highest_hz if lowest is not None and highest_hz is not None else None
    kind = "power-cap" if capped else "throttled"
    return (Note(kind=kind, text="; ".join(reasons), value=share),)
