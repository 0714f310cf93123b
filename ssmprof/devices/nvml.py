"""Desktop and datacentre GPUs through NVML (distribution nvidia-ml-py, module pynvml).

Each call is wrapped on its own: a good initialisation proves nothing about the next function, and
boards answer some and refuse others. What a call refuses is None with NVML's reason.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

from ssmprof.devices.base import NullDevice, Pinned

# Bits of the clocks-event mask that slow the device down. Idle and "applications clocks setting"
# are states, not slowdowns; sync boost only aligns boards.
_THROTTLE: tuple[tuple[str, str], ...] = (
    ("SwPowerCap", "power cap"),
    ("HwSlowdown", "hardware slowdown"),
    ("SwThermalSlowdown", "thermal (software)"),
    ("HwThermalSlowdown", "thermal (hardware)"),
    ("HwPowerBrakeSlowdown", "power brake"),
)
_MHZ = 1e6


def library() -> ModuleType:
    """pynvml, initialised. Raises ImportError or an NVMLError where there is no driver."""
    import pynvml

    pynvml.nvmlInit()
    return pynvml


def handle_of(nvml: Any, index: int) -> Any:
    """NVML's handle of the device CUDA calls `index`.

    CUDA_VISIBLE_DEVICES renumbers devices for CUDA and not for NVML; its entries are indices in
    NVML's (PCI) order or the beginning of a UUID.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip()
    if not visible:
        return nvml.nvmlDeviceGetHandleByIndex(index)
    entry = visible.split(",")[index].strip()
    if entry.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(entry))
    for candidate in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(candidate)
        if _text(nvml.nvmlDeviceGetUUID(handle)).startswith(entry):
            return handle
    return nvml.nvmlDeviceGetHandleByUUID(entry.encode())


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


class NvmlDevice(NullDevice):
    """One NVIDIA GPU. `nvml` is the module (a stand-in in tests)."""

    energy_source = "nvml.total_energy"
    power_source = "nvml.power"

    def __init__(self, index: int = 0, nvml: Any = None) -> None:
        self._nvml: Any = nvml if nvml is not None else library()
        self._handle = handle_of(self._nvml, index)
        self.index = index
        super().__init__(f"cuda:{index}", "not supported", "cuda")
        raw = self._ask("name", "nvmlDeviceGetName")
        self._name = _text(raw) if raw else self._name

    def _ask(self, reading: str, function: str, *arguments: Any) -> Any:
        """One NVML call, or None with the reason; "N/A" answers count as refusals."""

        def call() -> Any:
            value = getattr(self._nvml, function)(self._handle, *arguments)
            if value in (b"[N/A]", "[N/A]", b"N/A", "N/A"):
                raise ValueError(f"{function} answered N/A")
            return value

        return self._try(reading, call)

    def driver(self) -> str | None:
        """Version of the driver."""
        raw = self._try("driver", lambda: self._nvml.nvmlSystemGetDriverVersion())
        return _text(raw) if raw else None

    def uuid(self) -> str | None:
        """Identity of the card, for telling two of a kind apart."""
        raw = self._ask("uuid", "nvmlDeviceGetUUID")
        return _text(raw) if raw else None

    def sm_hz(self) -> float | None:
        mhz = self._ask("sm_hz", "nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM)
        return None if mhz is None else mhz * _MHZ

    def memory_hz(self) -> float | None:
        mhz = self._ask("memory_hz", "nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_MEM)
        return None if mhz is None else mhz * _MHZ

    def max_sm_hz(self) -> float | None:
        mhz = self._ask("max_sm_hz", "nvmlDeviceGetMaxClockInfo", self._nvml.NVML_CLOCK_SM)
        return None if mhz is None else mhz * _MHZ

    def temperature_c(self) -> float | None:
        celsius = self._ask(
            "temperature_c", "nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU
        )
        return None if celsius is None else float(celsius)

    def power_w(self) -> float | None:
        milliwatts = self._ask("power_w", "nvmlDeviceGetPowerUsage")
        return None if milliwatts is None else milliwatts / 1e3

    def power_limit_w(self) -> float | None:
        milliwatts = self._ask("power_limit_w", "nvmlDeviceGetEnforcedPowerLimit")
        return None if milliwatts is None else milliwatts / 1e3

    def energy_j(self) -> float | None:
        millijoules = self._ask("energy_j", "nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules / 1e3

    def throttle(self) -> tuple[str, ...]:
        # Renamed in driver 535; the old name is what older libraries know.
        newer = hasattr(self._nvml, "nvmlDeviceGetCurrentClocksEventReasons")
        function = "ClocksEventReasons" if newer else "ClocksThrottleReasons"
        mask = self._ask("throttle", f"nvmlDeviceGetCurrent{function}")
        if mask is None:
            return ()
        return tuple(text for bit, text in _THROTTLE if mask & self._bit(bit))

    def _bit(self, name: str) -> int:
        for prefix in ("nvmlClocksEventReason", "nvmlClocksThrottleReason"):
            value = getattr(self._nvml, prefix + name, None)
            if value is not None:
                return value
        return 0

    def memory_bytes(self) -> int | None:
        info = self._ask("memory_bytes", "nvmlDeviceGetMemoryInfo")
        return None if info is None else int(info.total)

    def used_bytes(self) -> int | None:
        # Version 2 leaves out what the driver reserves for itself; version 1 counts it as used.
        version = getattr(self._nvml, "nvmlMemory_v2", None)
        arguments = () if version is None else (version,)
        info = self._ask("used_bytes", "nvmlDeviceGetMemoryInfo", *arguments)
        if info is None and arguments:
            info = self._ask("used_bytes", "nvmlDeviceGetMemoryInfo")
        return None if info is None else int(info.used)

    def process_bytes(self, pid: int) -> int | None:
        running = self._ask("process_bytes", "nvmlDeviceGetComputeRunningProcesses")
        if running is None:
            return None
        for process in running:
            if process.pid == pid:
                if process.usedGpuMemory is None:
                    break
                return int(process.usedGpuMemory)
        # A container sees its own process ids and NVML prints the host's.
        self.missing["process_bytes"] = f"NVML lists no memory for process {pid} (container?)"
        return None

    def load(self) -> float | None:
        rates = self._ask("load", "nvmlDeviceGetUtilizationRates")
        return None if rates is None else rates.gpu / 100

    def processes(self) -> tuple[int, ...] | None:
        running = self._ask("processes", "nvmlDeviceGetComputeRunningProcesses")
        return None if running is None else tuple(process.pid for process in running)

    def pinned(self) -> Pinned | None:
        """Capped if the application clock lies below the maximum; NVML cannot query a lock."""
        asked = self._ask("pinned", "nvmlDeviceGetApplicationsClock", self._nvml.NVML_CLOCK_SM)
        highest = self.max_sm_hz()
        if asked is not None and highest is not None and asked * _MHZ < highest:
            return "capped"
        self.missing.setdefault("pinned", "NVML cannot tell whether clocks are locked")
        return None

    def close(self) -> None:
        self._try("close", lambda: self._nvml.nvmlShutdown())
