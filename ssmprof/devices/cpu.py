"""The CPU as a device: clocks and temperature through psutil, energy through RAPL if readable."""

from __future__ import annotations

import platform
from pathlib import Path

from ssmprof.devices.base import NullDevice

_POWERCAP = Path("/sys/class/powercap")


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Model name of the processor as the kernel prints it."""
    try:
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "CPU"


class CpuDevice(NullDevice):
    """The processor. RAPL's package counters are root's on many machines; then energy is None."""

    def __init__(self, powercap: Path = _POWERCAP, name: str | None = None) -> None:
        super().__init__(name or cpu_name(), "a CPU has no such reading", "cpu")
        # intel-rapl:N are packages; intel-rapl:N:M are parts of them and would count twice.
        self._packages = [
            zone for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1
        ]
        self._turns: dict[Path, tuple[int, int]] = {}
        self.energy_source = "rapl:package" if self._packages else None

    def sm_hz(self) -> float | None:
        import psutil

        frequency = self._try("sm_hz", psutil.cpu_freq)
        return None if frequency is None or not frequency.current else frequency.current * 1e6

    def max_sm_hz(self) -> float | None:
        import psutil

        frequency = self._try("max_sm_hz", psutil.cpu_freq)
        return None if frequency is None or not frequency.max else frequency.max * 1e6

    def temperature_c(self) -> float | None:
        import psutil

        def hottest() -> float:
            sensors = psutil.sensors_temperatures()
            readings = [reading.current for group in sensors.values() for reading in group]
            if not readings:
                raise LookupError("no temperature sensor")
            return max(readings)

        return self._try("temperature_c", hottest)

    def energy_j(self) -> float | None:
        if not self._packages:
            self.missing["energy_j"] = "no RAPL counters under /sys/class/powercap"
            return None
        return self._try("energy_j", lambda: sum(self._unwrapped(z) for z in self._packages) / 1e6)

    def _unwrapped(self, zone: Path) -> int:
        """Microjoules of one package; its counter starts again at `max_energy_range_uj`."""
        now = int((zone / "energy_uj").read_text())
        before, turns = self._turns.get(zone, (now, 0))
        turns += now < before
        self._turns[zone] = (now, turns)
        if not turns:
            return now
        return now + turns * int((zone / "max_energy_range_uj").read_text())

    def memory_bytes(self) -> int | None:
        import psutil

        return self._try("memory_bytes", lambda: psutil.virtual_memory().total)

    def used_bytes(self) -> int | None:
        import psutil

        def used() -> int:
            memory = psutil.virtual_memory()
            return memory.total - memory.available

        return self._try("used_bytes", used)

    def process_bytes(self, pid: int) -> int | None:
        import psutil

        return self._try("process_bytes", lambda: psutil.Process(pid).memory_info().rss)

    def load(self) -> float | None:
        import psutil

        percent = self._try("load", lambda: psutil.cpu_percent(interval=None))
        return None if percent is None else percent / 100
