"""Who is asked for a reading that the board's own files do not carry: ORDER, first answer wins.

Sources are opened when first needed and never averaged. A sensor that exists and is asleep is not
asked elsewhere: only a reading the files have no place for is.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from ssmprof.devices.jetson.jtop import JtopSource
from ssmprof.devices.jetson.power import Rail, Total, total_of
from ssmprof.devices.jetson.stream import TegrastatsStream

Readings = dict[str, Callable[[], Any]]


class Source(Protocol):
    """Readings by name; each gives None where the source does not carry it."""

    readings: Readings

    def close(self) -> None: ...


def total_power(rails_w: dict[str, float], source: str) -> Total | None:
    """The board's total with its scope, None unless every rail of it is there."""
    rails = {
        label: Rail(label=label, source=source, power_w=watts, resolution_w=None)
        for label, watts in rails_w.items()
    }
    found = total_of(rails)
    return None if found.power_w is None else found


class Tegrastats:
    """tegrastats as a source. `emc_hz` and the GPU's clock are printed for root only on R36."""

    def __init__(self, stream: TegrastatsStream | None = None) -> None:
        self._stream = stream or TegrastatsStream()
        self.readings: Readings = {
            "power_w": lambda: self._of(lambda s: total_power(s.rails_w, "tegrastats")),
            "sm_hz": lambda: self._of(lambda s: s.gpu_hz[0] if s.gpu_hz and s.gpu_hz[0] else None),
            "memory_hz": lambda: self._of(lambda s: s.emc_hz or None),
            "load": lambda: self._of(lambda s: s.gpu_load),
            "temperature_c": lambda: self._of(lambda s: s.temperatures_c.get("tj")),
        }

    def _of(self, read: Callable[[Any], Any]) -> Any:
        found = self._stream.latest()
        return None if found is None else read(found.sample)

    def close(self) -> None:
        self._stream.close()


class Nvml:
    """NVML where it answers on these boards: load, temperature and processes of Thor."""

    def __init__(self, nvml: Any = None) -> None:
        from ssmprof.devices.nvml import NvmlDevice, library

        library_of = nvml if nvml is not None else library()
        only = library_of.nvmlDeviceGetHandleByIndex(0)  # a board has one GPU
        self._device = NvmlDevice(nvml=library_of, handle=only)
        self.readings: Readings = {
            "load": self._device.load,
            "temperature_c": self._device.temperature_c,
            "processes": self._device.processes,
            "sm_hz": self._device.sm_hz,
        }
        self.process_bytes = self._device.process_bytes

    def close(self) -> None:
        self._device.close()


class Jtop:
    """The jtop service as a source."""

    def __init__(self, client: JtopSource | None = None) -> None:
        self._client = client or JtopSource()
        self.readings: Readings = {
            "power_w": lambda: total_power(self._client.rails_w(), "jtop"),
            "load": self._client.load,
            "temperature_c": self._client.temperature_c,
        }

    def close(self) -> None:
        self._client.close()


SOURCES: dict[str, Callable[[], Source]] = {"tegrastats": Tegrastats, "nvml": Nvml, "jtop": Jtop}
ORDER: dict[str, tuple[str, ...]] = {
    "power_w": ("tegrastats", "jtop"),
    "sm_hz": ("tegrastats", "nvml"),
    "load": ("nvml", "tegrastats", "jtop"),
    "temperature_c": ("tegrastats", "nvml", "jtop"),
    "processes": ("nvml",),
}
# Every metric of NVML is "not supported" there, though its initialisation succeeds.
WITHOUT_NVML = frozenset({"tegra194", "tegra234"})


class Fallbacks:
    """The sources beside the board's files, opened when first asked."""

    def __init__(self, soc: str | None, openers: dict[str, Callable[[], Source]] | None = None):
        self._openers = dict(SOURCES if openers is None else openers)
        if soc in WITHOUT_NVML:
            self._openers.pop("nvml", None)
        self._opened: dict[str, Source] = {}
        self._refused: dict[str, str] = {}

    def ask(self, reading: str) -> tuple[Any, str]:
        """(value, its source), or (None, why nobody told)."""
        reasons: list[str] = []
        for name in ORDER.get(reading, ()):
            source = self.open(name)
            if source is None:
                if name in self._refused:
                    reasons.append(f"{name}: {self._refused[name]}")
                continue
            value = source.readings[reading]()
            if value is not None:
                return value, name
            reasons.append(f"{name}: not told")
        return None, "; ".join(reasons) or "no other source"

    def running(self, name: str) -> Source | None:
        """A source that another reading has opened already."""
        return self._opened.get(name)

    def open(self, name: str) -> Source | None:
        """A source, None if it cannot be opened here."""
        if name not in self._opened and name in self._openers:
            try:
                self._opened[name] = self._openers.pop(name)()
            except Exception as error:  # OSError, ImportError, NVMLError: all mean "not here"
                self._refused[name] = f"{type(error).__name__}: {error}"
        return self._opened.get(name)

    def close(self) -> None:
        """Close what was opened; nothing is opened again."""
        self._openers.clear()
        for source in self._opened.values():
            with suppress(Exception):
                source.close()
        self._opened.clear()


def run_command(command: list[str], timeout_s: float = 5.0) -> str | None:
    """Output of a command that only looks, None where it is absent or refuses."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=timeout_s
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
