"""The device's clock beside the samples: read right after one, never while one is timed.

A driver answers in microseconds (2 to 4 on an H100), and an idle device keeps its clock for much
longer than that, so what is read is the clock of a device at work.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import structs

from ssmprof.devices.base import Device, read_clocks
from ssmprof.records import Clocks, Spread, Violations, median

# Readings of a board's files take longer than a driver's answer, and short samples come by the
# thousand: this often is enough for a median.
_EVERY_S = 0.02
# What a counter may be ahead of the clock: drivers move theirs about every tenth of a second.
_COUNTER_STEP_S = 0.2
_OF_A_CPU = "cores have clocks of their own, and their mean is not the clock of the work"


class ClockWatch:
    """Opened before the samples of a pass; `look` between them, `clocks` after the last."""

    def __init__(self, device: Device, clock: Callable[[], float] = time.perf_counter) -> None:
        self._device = device
        self._clock = clock
        self._readings: list[float] = []
        self._looked_s: float | None = None
        self._violations = device.violations_s()
        self._began_s = clock()

    def look(self) -> None:
        """Read the clock, unless it was read just before."""
        now = self._clock()
        if self._device.kind == "cpu" or (
            self._looked_s is not None and now - self._looked_s < _EVERY_S
        ):
            return
        self._looked_s = now
        hertz = self._device.sm_hz()
        if hertz:
            self._readings.append(hertz)

    def clocks(self, before_hz: float | None) -> Clocks:
        """The state of the device now, with the clock and the counters of the pass."""
        found = read_clocks(self._device, before_hz=before_hz)
        missing = dict(found.missing)
        violations = self._violated(missing)
        spread = None
        if self._readings:
            spread = Spread(
                min=min(self._readings),
                median=median(self._readings),
                max=max(self._readings),
                readings=len(self._readings),
            )
        else:
            why = _OF_A_CPU if self._device.kind == "cpu" else missing.get("sm_hz")
            missing["sm_clock_hz"] = why or "no sample was taken"
        return structs.replace(found, sm_clock_hz=spread, violations=violations, missing=missing)

    def _violated(self, missing: dict[str, str]) -> Violations | None:
        """How far the counters moved since the watch was opened; reasons go to `missing`."""
        after, window_s = self._device.violations_s(), self._clock() - self._began_s
        missing |= {
            name: why
            for name, why in self._device.missing.items()
            if name.split(".")[0] == "violations"
        }
        moved: dict[str, float] = {}
        for name in self._violations.keys() & after.keys():
            seconds = after[name] - self._violations[name]
            if 0 <= seconds <= window_s + _COUNTER_STEP_S:
                moved[name] = seconds
            else:
                text = f"the counter moved by {seconds:.3g} s in {window_s:.3g} s"
                missing[f"violations.{name}"] = text
        return Violations(window_s=window_s, **moved) if moved else None
