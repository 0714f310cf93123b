"""A Jetson board as a `Device`: its own files first, other sources where they have no place for it.

Needs no root. Power is the board's total with its scope; energy has no counter on these boards and
is integrated from power by whoever measures it. `sources` names where each reading came from.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from msgspec.structs import replace

from ssmprof.devices.base import NullDevice, Pinned, PowerScope
from ssmprof.devices.jetson import board, clocks, install, memory, modes, power
from ssmprof.devices.jetson.sources import Fallbacks, Nvml, run_command
from ssmprof.devices.onboard import CheckFound, Onboard
from ssmprof.devices.sysfs import Sysfs
from ssmprof.records import Check

_MAPPED = "meminfo:NvMapMemUsed"
_UNKNOWN = "no source on this board answers without root"


class JetsonDevice(NullDevice):
    """One board over one `Sysfs`. Readings follow the protocol of `devices.base.Device`.

    `fallbacks` are the sources beside the files, `run` answers commands that only look; a replayed
    board has neither.
    """

    # A power monitor moves every 0.1 to 1 s: fewer changes than this are no integral.
    least_power_updates = 20

    def __init__(
        self,
        sysfs: Sysfs,
        found: board.Board,
        *,
        kind: Literal["cuda", "cpu"] = "cuda",
        fallbacks: Fallbacks | None = None,
        run: board.Run | None = None,
        title: str | None = None,
    ) -> None:
        super().__init__(title or found.name, _UNKNOWN, kind=kind)
        self.onboard: Onboard | None = self
        self.found = found
        self.sysfs = sysfs
        self.run = run
        self._fallbacks = fallbacks or Fallbacks(found.soc, {})
        self._monitors = power.PowerMonitors(sysfs)
        self._clocks = clocks.ClockTree(sysfs)
        self._throttle_seen = (self._clocks.throttle(), time.monotonic())
        self._mapped_before = memory.read(sysfs).nvmap_used_bytes
        rails = self._monitors.rails()
        total = power.total_of({rail.label: rail for rail in rails})
        chips = "+".join(sorted({rail.source for rail in rails if rail.label in total.rails}))
        self.power_source = f"{chips}:{'+'.join(total.rails)}" if total.rails else None
        self.power_scope: PowerScope = total.scope or "device"
        self.power_resolution_w = total.resolution_w

    @property
    def board(self) -> str:
        """Module and P-number, for the record of the machine."""
        number = self.found.p_number
        return self.found.name if number is None else f"{self.found.name} ({number})"

    @property
    def l4t(self) -> str | None:
        """Release of Jetson Linux."""
        return self.found.l4t

    @property
    def power_mode(self) -> str | None:
        """Name of the active power mode."""
        found = self.power_modes()
        if found.active is None:
            self.missing["power_mode"] = found.missing or "not told"
            return None
        self.sources["power_mode"] = found.source or ""
        return found.active.name

    @property
    def chip(self) -> str | None:
        """Key of the board's peaks."""
        return self.found.chip

    def clock_tree(self) -> clocks.ClockTree:
        """Clocks, temperatures, counters and fan in full."""
        return self._clocks

    def sm_hz(self) -> float | None:
        if not self._clocks.has_gpu():
            return self._ask("sm_hz")
        return self._kept("sm_hz", self._clocks.sm_hz(), "devfreq", "cur_freq not readable")

    def max_sm_hz(self) -> float | None:
        reason = "max_freq not readable" if self._clocks.has_gpu() else "no GPU in devfreq"
        return self._kept("max_sm_hz", self._clocks.sm_cap_hz(), "devfreq", reason)

    def memory_hz(self) -> float | None:
        live = self._clocks.emc_hz()
        if live is not None:
            return self._kept("memory_hz", live, "bwmgr", None)
        # Not worth a process of its own: asked where tegrastats runs for another reading already.
        stream = self._fallbacks.running("tegrastats")
        value = stream.readings["memory_hz"]() if stream is not None else None
        return self._kept(
            "memory_hz", value, "tegrastats", "the live memory clock needs root on this board"
        )

    @property
    def sm_cap_hz(self) -> float | None:
        """Cap of the GPU's clock in the active power mode."""
        return self._clocks.sm_cap_hz()

    @property
    def memory_cap_hz(self) -> float | None:
        """Cap of the memory clock in the active power mode."""
        return self._clocks.emc_cap_hz()

    def temperature_c(self) -> float | None:
        if "tj" not in self._clocks.zones():
            return self._ask("temperature_c")
        celsius, reason = self._clocks.junction_c()
        return self._kept("temperature_c", celsius, "thermal:tj", reason)

    def power_w(self) -> float | None:
        if not self._monitors.present:
            return self._fallback_power()
        watts, reason = self._monitors.total_power_w()
        return self._kept("power_w", watts, self.power_source or "", reason)

    def _fallback_power(self) -> float | None:
        total = self._ask("power_w")
        if total is None:
            return None
        self.power_source = f"{self.sources['power_w']}:{'+'.join(total.rails)}"
        self.power_scope = total.scope
        return total.power_w

    def rails(self) -> tuple[power.Rail, ...]:
        """Every rail of the board at this moment."""
        return self._monitors.rails()

    def throttle(self) -> tuple[str, ...]:
        """What slowed the board since this was last asked."""
        before, then = self._throttle_seen
        now, moment = self._clocks.throttle(), time.monotonic()
        self._throttle_seen = (now, moment)
        return clocks.throttle_reasons(before, now, moment - then)

    def violations_s(self) -> dict[str, float]:
        self.missing["violations"] = "boards count events of throttling, and no seconds"
        return {}

    def memory_bytes(self) -> int | None:
        state = memory.read(self.sysfs)
        return self._kept("memory_bytes", state.total_bytes, "meminfo", "no MemTotal in meminfo")

    def used_bytes(self) -> int | None:
        state = memory.read(self.sysfs)
        known = state.total_bytes is not None and state.available_bytes is not None
        used = state.total_bytes - state.available_bytes if known else None  # type: ignore[operator]
        return self._kept("used_bytes", used, "meminfo", "no MemAvailable in meminfo")

    def memory_state(self) -> memory.MemoryState:
        """The shared memory of this moment, with the budget a workload may take."""
        return memory.read(self.sysfs)

    def processes(self) -> tuple[int, ...] | None:
        return self._ask("processes")

    def process_bytes(self, pid: int) -> int | None:
        """GPU memory of a process.

        The kernel counts device memory of all processes together, so this one's is what the count
        grew since the device was opened, as long as nobody else allocates; Thor's driver lists it.
        """
        mapped = memory.read(self.sysfs).nvmap_used_bytes
        if pid == os.getpid() and mapped is not None and self._mapped_before is not None:
            grown = mapped - self._mapped_before
            return self._kept("process_bytes", grown if grown >= 0 else None, _MAPPED, "it shrank")
        source = self._fallbacks.running("nvml")
        if source is None and self.processes() is not None:
            source = self._fallbacks.running("nvml")
        value = source.process_bytes(pid) if isinstance(source, Nvml) else None
        reason = "the driver of this board lists no memory by process"
        return self._kept("process_bytes", value, "nvml", reason)

    def load(self) -> float | None:
        if not self._clocks.has_load():
            return self._ask("load")
        return self._kept("load", self._clocks.load(), "devfreq", "the load file is not readable")

    def pinned(self) -> Pinned | None:
        """Pinned only if neither the GPU's nor a CPU cluster's clock can move."""
        gpu, cpu = self._clocks.gpu().pinned, self._clocks.cpu_pinned()
        if gpu is None:
            reason = "limits of the GPU clock are not readable"
            return self._kept("pinned", None, "devfreq", reason)
        state: Pinned = "free" if gpu == "pinned" and cpu == "free" else gpu
        return self._kept("pinned", state, "devfreq", None)

    def power_modes(self) -> modes.PowerModes:
        """The power modes of this board and the active one."""
        return modes.read(self.sysfs, self.run)

    def guard(self) -> memory.Watchdog:
        return memory.Watchdog(self.sysfs)

    def swap_used_bytes(self) -> int | None:
        return memory.read(self.sysfs).swap_used_bytes

    def compiler_settings(self, triton: str | None, environ: Mapping[str, str]) -> dict[str, str]:
        """The board's own ptxas, where Triton's is too old for it."""
        return install.ptxas_for(self.found.soc, triton, environ, self.run)

    def checks(self) -> Mapping[str, Callable[[], CheckFound]]:
        from ssmprof.devices.jetson.checks import CHECKS

        return {name: partial(check, self) for name, check in CHECKS.items()}

    def judge_torch(self, found: Check) -> Check:
        if found.level == "error":
            return replace(found, fix=install.torch_line(self.l4t))
        return install.torch_fits(self.l4t) if self.kind == "cuda" else found

    def close(self) -> None:
        self._fallbacks.close()

    def energy_j(self) -> float | None:
        self.missing["energy_j"] = "no counter on this board; power is integrated"
        return None

    def _ask(self, reading: str) -> Any:
        value, source = self._fallbacks.ask(reading)
        return self._kept(reading, value, source, source)

    def _kept(self, reading: str, value: Any, source: str, reason: str | None) -> Any:
        if value is None:
            self.missing[reading] = reason or self.reason
            self.sources.pop(reading, None)
        else:
            self.missing.pop(reading, None)
            self.sources[reading] = source
        return value


def detect(sysfs: Sysfs | None = None) -> JetsonDevice | None:
    """The Jetson board this machine is, or None; `sysfs` replays a captured one on its own."""
    live = sysfs is None
    files = sysfs or Sysfs()
    run: Callable[[list[str]], str | None] | None = run_command if live else None
    found = board.identify(files, run)
    if found is None:
        return None
    fallbacks = Fallbacks(found.soc) if live else None
    return JetsonDevice(files, found, fallbacks=fallbacks, run=run)
