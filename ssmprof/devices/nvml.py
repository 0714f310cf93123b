"""Desktop and datacentre GPUs through NVML (distribution nvidia-ml-py, module pynvml).

Each call is wrapped on its own: a good initialisation proves nothing about the next function, and
boards answer some and refuse others. What a call refuses is None with NVML's reason.
"""

from __future__ import annotations

import os
from contextlib import suppress
from types import ModuleType
from typing import Any

from ssmprof.devices import cuda
from ssmprof.devices.base import NullDevice, Pinned
from ssmprof.devices.cuda import Card

# Bits of the clocks-event mask that slow the device down. Idle and "applications clocks setting"
# are states, not slowdowns; sync boost only aligns boards.
_THROTTLE: tuple[tuple[str, str], ...] = (
    ("SwPowerCap", "power cap"),
    ("HwSlowdown", "hardware slowdown"),
    ("SwThermalSlowdown", "thermal (software)"),
    ("HwThermalSlowdown", "thermal (hardware)"),
    ("HwPowerBrakeSlowdown", "power brake"),
)
# Field of `records.Violations` -> the policy whose counter it is.
_POLICIES: dict[str, str] = {
    "power_s": "POWER",
    "thermal_s": "THERMAL",
    "sync_boost_s": "SYNC_BOOST",
    "board_limit_s": "BOARD_LIMIT",
    "low_utilization_s": "LOW_UTILIZATION",
    "reliability_s": "RELIABILITY",
    "application_clocks_s": "TOTAL_APP_CLOCKS",
    "base_clocks_s": "TOTAL_BASE_CLOCKS",
}
_NO_COUNT = 2**63  # an answer as large as this is a driver's "no value", not nanoseconds
_MHZ = 1e6


def library() -> ModuleType:
    """pynvml, initialised. Raises ImportError or an NVMLError where there is no driver."""
    import pynvml

    pynvml.nvmlInit()
    return pynvml


def handle_of_card(nvml: Any, card: Card) -> Any:
    """NVML's handle of a card that CUDA named. Raises LookupError where NVML has no such card."""
    names = [] if card.uuid is None else [card.uuid]
    names += [f"MIG-{name[4:]}" for name in names if name.startswith("GPU-")]
    asked = [("nvmlDeviceGetHandleByUUID", name) for name in names]
    asked += [("nvmlDeviceGetHandleByPciBusId", card.pci)] if card.pci else []
    for function, name in asked:
        with suppress(Exception):  # NVMLError, or a library without the call: the next is tried
            return getattr(nvml, function)(name.encode())
    raise LookupError(f"NVML knows no card {card.uuid or card.pci}, which CUDA sees")


def handle_of(nvml: Any, index: int) -> Any:
    """NVML's handle of the device CUDA calls `index`, by the rules of its variables alone.

    For where the driver cannot be asked. Raises LookupError where CUDA sees no such device, and
    where the rules leave open which card it is: CUDA's order is the fastest first.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return _by_order(nvml, index)
    entries = cuda.entries(visible)
    if index >= len(entries):
        raise LookupError(f'CUDA sees no such device (CUDA_VISIBLE_DEVICES="{visible}")')
    entry = entries[index]
    return _by_order(nvml, int(entry)) if entry.isdigit() else _by_name(nvml, entry)


def _by_order(nvml: Any, position: int) -> Any:
    """The card at a place of CUDA's order, where that is NVML's order or all cards are alike."""
    count = nvml.nvmlDeviceGetCount()
    if position >= count:
        raise LookupError(f"CUDA sees no device {position}; this machine has {count}")
    handles = [nvml.nvmlDeviceGetHandleByIndex(at) for at in range(count)]
    if os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID" and count > 1:
        names = sorted({_text(nvml.nvmlDeviceGetName(handle)) for handle in handles})
        if len(names) > 1:
            raise LookupError(
                f"cards of several kinds ({', '.join(names)}), and CUDA numbers the fastest first: "
                "set CUDA_DEVICE_ORDER=PCI_BUS_ID, so that readings come from the card in use"
            )
    return handles[position]


def _by_name(nvml: Any, entry: str) -> Any:
    """The card whose UUID begins so, if only one does; a slice of a card by its whole name."""
    handles = [nvml.nvmlDeviceGetHandleByIndex(at) for at in range(nvml.nvmlDeviceGetCount())]
    mine = [one for one in handles if _text(nvml.nvmlDeviceGetUUID(one)).startswith(entry)]
    if len(mine) > 1:
        raise LookupError(f"CUDA_VISIBLE_DEVICES: {len(mine)} cards begin with {entry}")
    return mine[0] if mine else nvml.nvmlDeviceGetHandleByUUID(entry.encode())


def _text(value: str | bytes) -> str:
    """NVML's strings, which older bindings give as bytes."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return text.rstrip("\0").strip()


class NvmlDevice(NullDevice):
    """One NVIDIA GPU: the one that CUDA calls `index` here, or `card` where that is known already.

    `nvml` is the module (a stand-in in tests, for which the driver is not asked), `handle` NVML's
    own of a card that needs no search. Raises LookupError where CUDA sees no such card.
    """

    energy_source = "nvml.total_energy"
    power_source = "nvml.power"

    def __init__(
        self, index: int = 0, nvml: Any = None, card: Card | None = None, handle: Any = None
    ) -> None:
        self._nvml: Any = nvml if nvml is not None else library()
        if handle is None:
            if card is None and nvml is None:
                card = cuda.card(index)
            by_name = card is not None
            handle = handle_of_card(self._nvml, card) if by_name else handle_of(self._nvml, index)
        self._handle = handle
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
        mask = self._event_reasons("throttle")
        if mask is None:
            return ()
        return tuple(text for bit, text in _THROTTLE if mask & self._bit(bit))

    def _event_reasons(self, reading: str) -> int | None:
        """The mask of reasons for the present clock."""
        # Renamed in driver 535; the old name is what older libraries know.
        newer = hasattr(self._nvml, "nvmlDeviceGetCurrentClocksEventReasons")
        function = "ClocksEventReasons" if newer else "ClocksThrottleReasons"
        return self._ask(reading, f"nvmlDeviceGetCurrent{function}")

    def violations_s(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, policy in _POLICIES.items():
            seconds = self._try(f"violations.{name}", lambda policy=policy: self._violated(policy))
            if seconds is not None:
                found[name] = seconds
        self.missing.pop("violations", None)
        if not found:
            reasons = {self.missing.pop(f"violations.{name}") for name in _POLICIES}
            self.missing["violations"] = "; ".join(sorted(reasons))
        return found

    def _violated(self, policy: str) -> float:
        number = getattr(self._nvml, f"NVML_PERF_POLICY_{policy}")
        nanoseconds = self._nvml.nvmlDeviceGetViolationStatus(self._handle, number).violationTime
        if nanoseconds >= _NO_COUNT:
            raise ValueError("the counter holds no value")
        return nanoseconds / 1e9

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
        """Capped where an application clock was set below the maximum, or is what limits now.

        NVML has no query for locked clocks: `missing` then says what else is known.
        """
        mask = self._event_reasons("pinned") or 0
        shipped = self._ask(
            "pinned", "nvmlDeviceGetDefaultApplicationsClock", self._nvml.NVML_CLOCK_SM
        )
        asked = self._ask("pinned", "nvmlDeviceGetApplicationsClock", self._nvml.NVML_CLOCK_SM)
        refused = self.missing.get("pinned")
        highest = self.max_sm_hz()
        changed = None not in (asked, shipped, highest) and asked != shipped
        if mask & self._bit("ApplicationsClocksSetting") or (changed and asked * _MHZ < highest):
            return "capped"
        told = "NVML cannot say whether clocks are locked"
        if asked is None:
            told += f", nor the application clock ({refused})"
        else:
            told += f"; application clock {asked} MHz{', as shipped' if asked == shipped else ''}"
        self.missing["pinned"] = told
        return None

    def close(self) -> None:
        self._try("close", lambda: self._nvml.nvmlShutdown())
