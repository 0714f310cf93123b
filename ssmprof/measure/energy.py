"""Energy of one call: the device's counter first, integrated power beside it, idle taken off.

The call runs back to back for a window much longer than the counter's period, several windows in a
row; idle is measured before and after with the device's context alive. A device that cannot tell
gives a Note with the reason, never zero.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, sleep
from typing import Any

from ssmprof.devices.base import Device
from ssmprof.records import Energy, Note, median

WINDOW_S = 5.0
IDLE_S = 1.0
# After work the power falls over about a second (NVML averages over one): idle is read later.
_SETTLE_S = 1.0
_SAMPLES_HZ = 10.0
# Calls queued between two looks at the clock: about this long, so that the queue never runs dry.
_BATCH_S = 0.05
_DEVICE_MUST_LIE = 1.1  # a little above the board limit is the meter's error, more is a wrong unit


@dataclass(frozen=True)
class _Window:
    """Joules and seconds of one window; `counted` by the counter, `integral` from samples."""

    calls: int
    window_s: float
    counted_j: float | None
    integral_j: float | None


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
        """Mean power over the samples, None with fewer than two."""
        if len(self._samples) < 2:
            return None
        joules = sum(
            (t1 - t0) * (p0 + p1) / 2
            for (t0, p0), (t1, p1) in zip(self._samples, self._samples[1:], strict=False)
        )
        return joules / (self._samples[-1][0] - self._samples[0][0])


def idle_power_w(
    device: Device, seconds: float = IDLE_S, settle_s: float = _SETTLE_S
) -> float | None:
    """Mean power while nothing runs, by counter or else by samples."""
    sleep(settle_s)
    window = _window(device, lambda: (sleep(seconds), 1)[1])
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
    the device has neither counter nor power, or if the power is not physical.
    """
    if device.energy_j() is None and device.power_w() is None:
        reason = device.missing.get("energy_j") or device.missing.get("power_w") or "not told"
        return Note(kind="energy", text=f"no energy: {reason}")
    idle_before = idle_power_w(device, idle_s)
    call()
    synchronize()
    found = [
        _window(device, lambda: _repeat(call, synchronize, call_s, window_s))
        for _ in range(windows)
    ]
    idle_after = idle_power_w(device, idle_s)
    return _energy(device, found, [w for w in (idle_before, idle_after) if w is not None])


def _repeat(
    call: Callable[[], Any], synchronize: Callable[[], Any], call_s: float, window_s: float
) -> int:
    """Run back to back for a window; returns the number of calls. The queue is kept full."""
    batch = max(1, round(_BATCH_S / max(call_s, 1e-7)))
    calls, began = 0, perf_counter()
    while perf_counter() - began < window_s:
        for _ in range(batch):
            call()
        synchronize()
        calls += batch
    return calls


def _window(device: Device, run: Callable[[], int]) -> _Window:
    """The counter is read at the edges only, for a read takes milliseconds; times in its middle."""
    with _PowerIntegral(device) as power:
        before_j, started = _stamped(device)
        calls = run()
        after_j, ended = _stamped(device)
    window_s = ended - started
    mean_w = power.mean_w()
    return _Window(
        calls=calls,
        window_s=window_s,
        counted_j=None if before_j is None or after_j is None else after_j - before_j,
        integral_j=None if mean_w is None else mean_w * window_s,
    )


def _stamped(device: Device) -> tuple[float | None, float]:
    before = perf_counter()
    joules = device.energy_j()
    return joules, (before + perf_counter()) / 2


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
        source=(device.energy_source if counted else device.power_source) or "unknown",
        scope=device.power_scope,
        idle_power_w=idle_w,
        above_idle_j=None if idle_w is None else energy_j - idle_w * window_s / calls,
        integral_j=sum(integrals) / calls if len(integrals) == len(found) else None,
        windows_j=tuple(per_call),
    )
