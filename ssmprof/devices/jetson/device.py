"""A Jetson board as a `Device`: its own sysfs readers, without root and without NVML.

NVML is not asked: on Orin each metric of it is "not supported", though its init succeeds.
Power is the board's total with its scope; energy has no counter on these boards and is integrated
from power by whoever measures it.
"""

from __future__ import annotations

import time

from ssmprof.devices.base import NullDevice, Pinned, PowerScope
from ssmprof.devices.jetson import board, clocks, memory, modes, power
from ssmprof.devices.sysfs import Sysfs


class JetsonDevice(NullDevice):
    """One board over one `Sysfs`. Readings follow the protocol of `devices.base.Device`."""

    def __init__(self, sysfs: Sysfs, found: board.Board) -> None:
        super().__init__(found.name, "no source on this board answers without root", kind="cuda")
        self.board = found
        self.sysfs = sysfs
        self._monitors = power.PowerMonitors(sysfs)
        self._clocks = clocks.ClockTree(sysfs)
        self._throttle_seen = (self._clocks.throttle(), time.monotonic())
        total = self._monitors.total()
        self.power_source = f"ina3221:{'+'.join(total.rails)}" if total.rails else None
        self.power_scope: PowerScope = total.scope or "device"
        self.power_resolution_w = total.resolution_w

    def sm_hz(self) -> float | None:
        gpu = self._clocks.gpu()
        return self._kept("sm_hz", gpu.current_hz, gpu.missing)

    def max_sm_hz(self) -> float | None:
        gpu = self._clocks.gpu()
        return self._kept("max_sm_hz", gpu.cap_hz, gpu.missing)

    def memory_hz(self) -> float | None:
        live = self._clocks.emc_hz()
        return self._kept("memory_hz", live, "the live memory clock needs root on this board")

    def memory_cap_hz(self) -> float | None:
        """Cap of the memory clock in the active power mode."""
        return self._clocks.emc_cap_hz()

    def temperature_c(self) -> float | None:
        found, missing = self._clocks.temperatures_c()
        return self._kept("temperature_c", found.get("tj"), missing.get("tj", "no tj zone"))

    def power_w(self) -> float | None:
        total = self._monitors.total()
        return self._kept("power_w", total.power_w, total.missing)

    def rails(self) -> tuple[power.Rail, ...]:
        """Every rail of the board at this moment."""
        return self._monitors.rails()

    def throttle(self) -> tuple[str, ...]:
        """What slowed the board since this was last asked."""
        before, then = self._throttle_seen
        now, moment = self._clocks.throttle(), time.monotonic()
        self._throttle_seen = (now, moment)
        return clocks.throttle_reasons(before, now, moment - then)

    def memory_bytes(self) -> int | None:
        state = memory.read(self.sysfs)
        return self._kept("memory_bytes", state.total_bytes, "/proc/meminfo without MemTotal")

    def used_bytes(self) -> int | None:
        state = memory.read(self.sysfs)
        if state.total_bytes is None or state.available_bytes is None:
            self.missing["used_bytes"] = "/proc/meminfo without MemAvailable"
            return None
        return state.total_bytes - state.available_bytes

    def memory_state(self) -> memory.MemoryState:
        """The shared memory of this moment, with the budget a workload may take."""
        return memory.read(self.sysfs)

    def load(self) -> float | None:
        return self._kept("load", self._clocks.gpu().load, "no load file answers")

    def pinned(self) -> Pinned | None:
        """Pinned only if neither the GPU's nor a CPU cluster's clock can move."""
        states = (self._clocks.gpu().pinned, self._clocks.cpu_pinned())
        if states[0] is None:
            return self._kept("pinned", None, "limits of the GPU clock are not readable")
        return "pinned" if all(state in ("pinned", None) for state in states) else "free"

    def power_mode(self) -> modes.PowerModes:
        """The power modes of this board and the active one."""
        return modes.read(self.sysfs)

    def _kept(self, reading: str, value, reason: str | None):
        if value is None:
            self.missing[reading] = reason or self.reason
        else:
            self.missing.pop(reading, None)
        return value


def detect(sysfs: Sysfs | None = None) -> JetsonDevice | None:
    """The Jetson board this is, or None."""
    files = sysfs or Sysfs()
    found = board.identify(files)
    return None if found is None else JetsonDevice(files, found)
