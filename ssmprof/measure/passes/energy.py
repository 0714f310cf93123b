"""Energy of one call: the device's counter first, integrated power beside it, idle taken off.

The call runs back to back for a window much longer than the counter's period, or for several where
asked, or where power changes too seldom to be integrated; idle is measured before and after with
the device's context alive. A device that cannot tell gives a Note with the reason, never zero.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter, sleep
from typing import Any

from ssmprof.devices.base import Device
from ssmprof.records import Energy, Note, median

WINDOW_S = 5.0
IDLE_S = 1.0
# After work the power falls over about a second (NVML averages over one): idle is read later.
_SETTLE_S = 1.0
_SAMPLES_HZ = 10.0
# Calls queued between two looks at the clock or at the counter, in seconds.
_BATCH_S = 0.02
_LONGEST_PERIOD_S = 1.0
_MOST_WINDOWS = 6  # times the windows asked for, where power moves too seldom for an integral
_DEVICE_MUST_LIE = 1.1  # a little above the board limit is the meter's error, more is a wrong unit


@dataclass(frozen=True)
class _Window:
    """Joules and seconds of so many calls; `counted` by the counter, `integral` from samples."""

    calls: int
    window_s: float
    counted_j: float | None
    integral_j: float | None
    updates: int = 0


class _PowerIntegral:
    """Samples power on a thread of its own and integrates it by the trapezoid rule."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._stop = threading.Event()
        self._samples: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=self._run, name="power", daemon=True)

    def __enter__(self) -> _PowerIntegral:
        self._take()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._take()

    def _run(self) -> None:
        while not self._stop.wait(1 / _SAMPLES_HZ):
            self._take()

    def _take(self) -> None:
        power = self._device.power_w()
        if power is not None:
            self._samples.append((perf_counter(), power))

    def mean_w(self) -> float | None:
        """Mean power over the samples, None with fewer than two.

        A monitor that averages over a window of its own still shows what was before at the first
        sample and what comes after at the last: both are dropped where the device is such a one.
        """
        taken = self._samples
        if self._device.least_power_updates and len(taken) > 3:
            taken = taken[1:-1]
        if len(taken) < 2:
            return None
        joules = sum((t1 - t0) * (p0 + p1) / 2 for (t0, p0), (t1, p1) in pairwise(taken))
        return joules / (taken[-1][0] - taken[0][0])

    def updates(self) -> int:
        """How often the reading changed: a monitor is polled faster than it moves."""
        watts = [power for _, power in self._samples]
        return sum(a != b for a, b in pairwise(watts))


class _Work:
    """Calls back to back: `step` submits a batch and does not wait for all of it."""

    def __init__(
        self, call: Callable[[], Any], synchronize: Callable[[], Any], call_s: float
    ) -> None:
        self._call = call
        self._synchronize = synchronize
        self._batch = max(1, round(_BATCH_S / max(call_s, 1e-7)))
        self.step_s = self._batch * call_s
        self.calls = 0

    def step(self) -> None:
        for _ in range(self._batch):
            self._call()
        self.calls += self._batch

    def wait(self) -> None:
        self._synchronize()


class _Idle:
    """Nothing, in steps."""

    calls = 1
    step_s = 0.0

    def step(self) -> None:
        sleep(_BATCH_S / 5)

    def wait(self) -> None:
        """Nothing was submitted."""


def idle_power_w(
    device: Device, seconds: float = IDLE_S, settle_s: float = _SETTLE_S
) -> float | None:
    """Mean power while nothing runs, by counter or else by samples."""
    sleep(settle_s)
    window = _window(device, _Idle(), seconds)
    joules = window.counted_j if window.counted_j is not None else window.integral_j
    return None if joules is None else joules / window.window_s


def measure(
    call: Callable[[], Any],
    *,
    device: Device,
    call_s: float,
    synchronize: Callable[[], Any] = lambda: None,
    window_s: float = WINDOW_S,
    windows: int = 1,
    idle_s: float = IDLE_S,
) -> Energy | Note:
    """Joules of one call of about `call_s` seconds, from `windows` windows of `window_s` each.

    `call` only submits; `synchronize` waits for the device. Returns a Note with kind `energy` if
    the device has neither counter nor power, if the power is not physical, or if it is integrated
    and changed less often than the device needs (`least_power_updates`).
    """
    (found,) = measure_in_turn(
        [(call, call_s)],
        device=device,
        synchronize=synchronize,
        window_s=window_s,
        windows=windows,
        idle_s=idle_s,
    )
    return found


def measure_in_turn(
    calls: Sequence[tuple[Callable[[], Any], float]],
    *,
    device: Device,
    synchronize: Callable[[], Any] = lambda: None,
    window_s: float = WINDOW_S,
    windows: int = 1,
    idle_s: float = IDLE_S,
) -> list[Energy | Note]:
    """Joules of one call of each of several (call, its seconds), their windows in turn.

    The order is turned after each round of windows, so that what drifts hits all alike. Otherwise
    as `measure`.
    """
    if device.energy_j() is None and device.power_w() is None:
        reason = device.missing.get("energy_j") or device.missing.get("power_w") or "not told"
        return [Note(kind="energy", text=f"no energy: {reason}")] * len(calls)
    idle_before = idle_power_w(device, idle_s)
    for call, _ in calls:
        call()
    synchronize()
    found: list[list[_Window]] = [[] for _ in calls]
    order = list(range(len(calls)))

    def take() -> None:
        for index in order:
            call, call_s = calls[index]
            found[index].append(_window(device, _Work(call, synchronize, call_s), window_s))
        order.reverse()

    for _ in range(windows):
        take()
    counted = all(taken[0].counted_j is not None for taken in found)
    needed = 0 if counted else device.least_power_updates
    while min(map(_updates, found)) < needed and len(found[0]) < _MOST_WINDOWS * windows:
        take()
    known = [w for w in (idle_before, idle_power_w(device, idle_s)) if w is not None]
    return [
        _energy(device, taken, known) if _updates(taken) >= needed else _unmoved(taken, needed)
        for taken in found
    ]


def _unmoved(taken: list[_Window], needed: int) -> Note:
    spent = sum(window.window_s for window in taken)
    text = f"power changed {_updates(taken)} times in {spent:.0f} s, {needed} are needed"
    return Note(kind="energy", text=f"no energy: {text}")


def _updates(found: list[_Window]) -> int:
    """How often power changed while it was integrated."""
    return sum(window.updates for window in found)


def _window(device: Device, work: _Work | _Idle, window_s: float) -> _Window:
    """Run for a window between two moves of the counter, working before, between and after them.

    The counter moves ten times a second, so an edge that does not wait for a move is wrong by up to
    that; and reading it takes milliseconds, so it is read at the edges only.
    """
    with _PowerIntegral(device) as power:
        began = perf_counter()
        before_j, started = _move(device, work)
        while perf_counter() - started < window_s:
            work.step()
            work.wait()
        after_j, ended = _move(device, work)
        work.wait()
        call_s = (perf_counter() - began) / work.calls
    span_s = ended - started
    counted = None
    if before_j is not None and after_j is not None and span_s > 0:
        counted = (after_j - before_j) / span_s * work.calls * call_s
    mean_w = power.mean_w()
    return _Window(
        calls=work.calls,
        window_s=work.calls * call_s,
        counted_j=counted,
        integral_j=None if mean_w is None else mean_w * work.calls * call_s,
        updates=power.updates(),
    )


def _move(device: Device, work: _Work | _Idle) -> tuple[float | None, float]:
    """Work on until the counter moves; its value, and when that was seen. None without one."""
    first = device.energy_j()
    deadline = perf_counter() + _LONGEST_PERIOD_S
    while first is not None:
        work.step()
        # Reads fill most of the time the batch takes, so that the device never waits for them.
        until = perf_counter() + 0.8 * work.step_s
        while True:
            asked = perf_counter()
            now = device.energy_j()
            if now is None or now != first or asked > deadline:
                return now, (asked + perf_counter()) / 2
            if asked >= until:
                break
    return None, perf_counter()


def _energy(device: Device, found: list[_Window], idle: list[float]) -> Energy | Note:
    counted = all(window.counted_j for window in found)
    joules = [(w.counted_j if counted else w.integral_j) or 0.0 for w in found]
    calls = sum(window.calls for window in found)
    window_s = sum(window.window_s for window in found)
    mean_w = sum(joules) / window_s
    limit_w = device.power_limit_w()
    if mean_w <= 0 or (limit_w is not None and mean_w > _DEVICE_MUST_LIE * limit_w):
        return Note(
            kind="energy",
            text=f"no energy: {mean_w:.0f} W is not between idle and the board's limit ({limit_w})",
        )
    idle_w = sum(idle) / len(idle) if idle else None
    integrals = [w.integral_j for w in found if w.integral_j is not None]
    per_call = [j / w.calls for j, w in zip(joules, found, strict=True)]
    energy_j = median(per_call)
    return Energy(
        energy_j=energy_j,
        mean_power_w=mean_w,
        window_s=window_s / len(found),
        calls=calls,
        source=_source(device, counted),
        scope=device.power_scope,
        idle_power_w=idle_w,
        above_idle_j=None if idle_w is None else energy_j - idle_w * window_s / calls,
        integral_j=sum(integrals) / calls if len(integrals) == len(found) else None,
        windows_j=tuple(per_call),
    )


def _source(device: Device, counted: bool) -> str:
    """Where the number comes from; integrated power with the smallest step of its meter."""
    if counted:
        return device.energy_source or "unknown"
    step = device.power_resolution_w
    return (device.power_source or "unknown") + (f", steps of {step:.2f} W" if step else "")
