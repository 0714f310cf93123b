"""What a device can say about itself while it is measured, and the device that can say nothing.

Every reading a device cannot give is None, and `missing` then holds the reason under the reading's
name. No method raises: a failed reading is a missing one, asked again at the next call. Units are
SI: hertz, watts, joules, degrees Celsius, bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, Protocol, TypeVar, runtime_checkable

from ssmprof.devices.onboard import Onboard
from ssmprof.records import Clocks, TelemetrySample

Pinned = Literal["pinned", "capped", "free"]
Kind = Literal["cuda", "cpu"]
PowerScope = Literal["device", "module", "system", "rail"]
Value = TypeVar("Value")


@runtime_checkable
class Device(Protocol):
    """One device: its name, its present state, and why a reading is missing.

    `onboard` is what a board adds, None for a card with a memory of its own.
    `sources` names where a reading comes from, on devices that have more than one source;
    `least_power_updates` is how often power must change for its integral to be an energy, and
    `power_resolution_w` its smallest step, None where that is not known.
    """

    onboard: Onboard | None
    missing: dict[str, str]
    sources: dict[str, str]
    least_power_updates: int
    power_resolution_w: float | None

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Kind: ...

    @property
    def energy_source(self) -> str | None:
        """Where `energy_j` comes from (`nvml.total_energy`), None without a counter."""
        ...

    @property
    def power_source(self) -> str | None:
        """Where `power_w` comes from."""
        ...

    @property
    def power_scope(self) -> PowerScope:
        """What power and energy cover."""
        ...

    def driver(self) -> str | None:
        """Version of the device's driver."""
        ...

    def sm_hz(self) -> float | None:
        """Present clock of the compute units."""
        ...

    def memory_hz(self) -> float | None:
        """Present clock of the memory."""
        ...

    def max_sm_hz(self) -> float | None:
        """Highest clock the device may reach as it is configured now."""
        ...

    def temperature_c(self) -> float | None: ...

    def power_w(self) -> float | None: ...

    def power_limit_w(self) -> float | None: ...

    def energy_j(self) -> float | None:
        """A counter that only rises; differences of it are energy."""
        ...

    def throttle(self) -> tuple[str, ...]:
        """Reasons why the clock is below what was asked for, empty when there is none."""
        ...

    def violations_s(self) -> dict[str, float]:
        """Counters that only rise: seconds in which a limit held the clock down, by limit.

        Names are the fields of `records.Violations`; one that is not there has its reason in
        `missing`, under `violations.` and its name, or all of them under `violations`.
        """
        ...

    def memory_bytes(self) -> int | None:
        """Memory of the device."""
        ...

    def used_bytes(self) -> int | None:
        """Memory of the device in use by anybody, driver reserve left out."""
        ...

    def process_bytes(self, pid: int) -> int | None:
        """Memory of the device that this process holds."""
        ...

    def load(self) -> float | None:
        """Share of recent time the device was busy, 0 to 1."""
        ...

    def processes(self) -> tuple[int, ...] | None:
        """Process ids that hold the device, None if the device does not tell."""
        ...

    def pinned(self) -> Pinned | None:
        """Whether the clock is locked, capped below its maximum, or free."""
        ...

    def close(self) -> None:
        """Give handles back; further readings are missing."""
        ...


class NullDevice:
    """A device that cannot tell anything: every reading is missing for the same reason.

    Base of the others, which override what they can read.
    """

    kind: Kind = "cpu"
    onboard: Onboard | None = None
    energy_source: str | None = None
    power_source: str | None = None
    power_scope: PowerScope = "device"
    least_power_updates: int = 0
    power_resolution_w: float | None = None

    def __init__(self, name: str, reason: str, kind: Kind = "cpu") -> None:
        self._name = name
        self.kind = kind
        self.reason = reason
        self.missing: dict[str, str] = {}
        self.sources: dict[str, str] = {}

    @property
    def name(self) -> str:
        return self._name

    def _absent(self, reading: str) -> None:
        self.missing.setdefault(reading, self.reason)

    def driver(self) -> str | None:
        return self._absent("driver")

    def sm_hz(self) -> float | None:
        return self._absent("sm_hz")

    def memory_hz(self) -> float | None:
        return self._absent("memory_hz")

    def max_sm_hz(self) -> float | None:
        return self._absent("max_sm_hz")

    def temperature_c(self) -> float | None:
        return self._absent("temperature_c")

    def power_w(self) -> float | None:
        return self._absent("power_w")

    def power_limit_w(self) -> float | None:
        return self._absent("power_limit_w")

    def energy_j(self) -> float | None:
        return self._absent("energy_j")

    def throttle(self) -> tuple[str, ...]:
        self._absent("throttle")
        return ()

    def violations_s(self) -> dict[str, float]:
        self._absent("violations")
        return {}

    def memory_bytes(self) -> int | None:
        return self._absent("memory_bytes")

    def used_bytes(self) -> int | None:
        return self._absent("used_bytes")

    def process_bytes(self, pid: int) -> int | None:
        return self._absent("process_bytes")

    def load(self) -> float | None:
        return self._absent("load")

    def processes(self) -> tuple[int, ...] | None:
        return self._absent("processes")

    def pinned(self) -> Pinned | None:
        return self._absent("pinned")

    def close(self) -> None:
        return None

    def _try(self, reading: str, read: Callable[[], Value]) -> Value | None:
        """One reading on its own: any failure of it is a missing value with its reason."""
        try:
            value = read()
        except Exception as error:
            self.missing[reading] = f"{type(error).__name__}: {error}"
            return None
        self.missing.pop(reading, None)
        return value


def read_clocks(device: Device, *, before_hz: float | None = None) -> Clocks:
    """Clocks, temperature, power and throttle reasons of this moment as one record.

    `before_hz` is the SM clock read before the timed samples; the present one is the clock after.
    """
    after = device.sm_hz()
    return Clocks(
        sm_before_hz=before_hz,
        sm_after_hz=after,
        memory_hz=device.memory_hz(),
        temperature_c=device.temperature_c(),
        power_w=device.power_w(),
        throttle=device.throttle(),
        pinned=device.pinned(),
        source=_source(device),
        missing=dict(device.missing),
    )


def _source(device: Device) -> str:
    """One source, or `reading from source` for each where a device has several."""
    if not device.sources:
        return device.power_source or device.kind
    return ", ".join(f"{name} from {source}" for name, source in sorted(device.sources.items()))


def read_telemetry(device: Device) -> TelemetrySample:
    """One cheap sample of everything that changes while a device works."""
    return TelemetrySample(
        unix_s=time.time(),
        sm_hz=device.sm_hz(),
        memory_hz=device.memory_hz(),
        temperature_c=device.temperature_c(),
        power_w=device.power_w(),
        used_bytes=device.used_bytes(),
        load=device.load(),
        throttle=device.throttle(),
    )
