"""Power, clocks and temperature beside the run: a thread of the parent that samples the device.

The parent holds no device context, so sampling takes nothing from the call but what the driver
takes; how much that is can be measured by running with and without it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter

from ssmprof.devices.base import Device, read_telemetry
from ssmprof.records import TelemetrySample

DEFAULT_HZ = 2.0
_MOST_HZ = 10.0
_FAREWELL_S = 5.0


class Telemetry:
    """Samples a device until closed; each sample goes to `sink` on the sampling thread.

    Use as a context manager. A sink that fails ends the sampling, and `error` keeps why, for who
    opened it to say; the run it stands beside goes on.
    """

    def __init__(
        self, device: Device, sink: Callable[[TelemetrySample], object], hz: float = DEFAULT_HZ
    ) -> None:
        if not 0 < hz <= _MOST_HZ:
            raise ValueError(f"telemetry at {hz} Hz: between 0 and {_MOST_HZ:.0f} is possible")
        self._device = device
        self._sink = sink
        self._period_s = 1 / hz
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self.samples = 0
        self.busy_s = 0.0
        self.error: Exception | None = None

    def __enter__(self) -> Telemetry:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop sampling and wait for the thread, but not for a driver that does not answer."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_FAREWELL_S)

    @property
    def share_busy(self) -> float:
        """Share of one core the sampling takes: mean time per sample over the period."""
        return self.busy_s / (self.samples * self._period_s) if self.samples else 0.0

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            started = perf_counter()
            try:
                self._sink(read_telemetry(self._device))
            except Exception as error:
                self.error = error
                return
            self.samples += 1
            self.busy_s += perf_counter() - started


def overhead(
    run: Callable[[], float], device: Device, hz: float = DEFAULT_HZ, turns: int = 4
) -> float:
    """A/B: relative slow-down of `run` (which returns its seconds) while the device is sampled.

    Runs alternate with and without; negative differences are noise and are returned as they are.
    Raises what ended the sampling.
    """
    off: list[float] = []
    on: list[float] = []
    for _ in range(turns):
        off.append(run())
        with Telemetry(device, lambda _: None, hz) as beside:
            on.append(run())
        if beside.error is not None:
            raise beside.error  # what was timed had no sampling beside it
    return sum(on) / sum(off) - 1
