"""Power of a board from its INA3221 and INA238 monitors, rail by exact label.

P = bus voltage x current. Channels 1 to 3 only: 4 to 6 repeat the shunt voltages and 7 is a sum in
hardware. A total exists only where every rail of it does (`boards.toml`), and carries its scope
(module or system) and its resolution, which comes from the shunt: one step of an INA3221 is 40 uV
across it, so 8 mA on a 5 mOhm shunt and 20 mA on 2 mOhm.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from msgspec import Struct

from ssmprof.devices.jetson.board import tables
from ssmprof.devices.sysfs import Sysfs

_SHUNT_STEP_V = 40e-6
# Where monitors are found: the class has a link to each, where a container or a kernel shows it;
# their driver and the bus they hang on have them always.
_PLACES = (
    "/sys/class/hwmon/*/name",
    "/sys/bus/i2c/drivers/*/*/hwmon/*/name",
    "/sys/bus/i2c/devices/*/hwmon/*/name",
    "/sys/devices/platform/*.i2c/i2c-*/*/hwmon/*/name",
    "/sys/devices/platform/bus@0/*.i2c/i2c-*/*/hwmon/*/name",
)
Scope = Literal["module", "system"]


class Rail(Struct, frozen=True, kw_only=True):
    """One supply rail. `power_w` None: `missing` says why. `resolution_w` None: not established."""

    label: str
    source: str
    power_w: float | None
    resolution_w: float | None
    alarm: bool | None = None
    missing: str | None = None


class Total(Struct, frozen=True, kw_only=True):
    """Power of the whole: of the module, or of the system with its carrier."""

    power_w: float | None
    scope: Scope | None
    rails: tuple[str, ...]
    resolution_w: float | None
    missing: str | None = None


class PowerMonitors:
    """The monitors of a board, found by content since hwmon numbers change between boots."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs
        self._ina3221: list[tuple[str, int, str]] = []
        self._ina238: list[tuple[str, str]] = []
        self._legacy: list[tuple[str, int, str]] = []
        for folder in self._folders("ina3221"):
            self._find_channels(folder)
        for folder in self._folders("ina238"):
            label = sysfs.text(f"{folder}/label")
            if label:
                self._ina238.append((folder, label))
        if not self._ina3221:
            self._find_legacy()
        self._shunts = {
            (folder, channel): self._shunt_ohm(folder, channel, label)
            for folder, channel, label in self._ina3221
        }
        self._total: tuple[str, ...] | None = None
        self._readers: dict[str, Callable[[], tuple[float | None, str | None]]] = {
            **{entry[2]: partial(self._channel_w, *entry[:2]) for entry in self._ina3221},
            **{entry[1]: partial(self._scaled, f"{entry[0]}/power1_input", 1e6)
               for entry in self._ina238},
            **{entry[2]: partial(self._scaled, f"{entry[0]}/in_power{entry[1]}_input", 1e3)
               for entry in self._legacy},
        }  # fmt: skip

    @property
    def present(self) -> bool:
        """Whether the board has a power monitor at all."""
        return bool(self._ina3221 or self._ina238 or self._legacy)

    def rails(self) -> tuple[Rail, ...]:
        """Every labelled rail, read once."""
        found = [self._channel(*entry) for entry in self._ina3221]
        found += [self._carrier(*entry) for entry in self._ina238]
        found += [self._iio(*entry) for entry in self._legacy]
        return tuple(found)

    def total(self) -> Total:
        """The board's total by the rails it has; None with a reason where one is missing."""
        return total_of({rail.label: rail for rail in self.rails()})

    def total_power_w(self) -> tuple[float | None, str | None]:
        """The total alone, from the rails it is made of, each read once: what polling asks for.

        Returns (watts, None) or (None, the reason).
        """
        if self._total is None:
            self._total = self.total().rails
        if not self._total:
            return None, self.total().missing
        watts = 0.0
        for label in self._total:
            power_w, reason = self._readers[label]()
            if power_w is None:
                return None, f"not readable: {label} ({reason})"
            watts += power_w
        return watts, None

    def _folders(self, chip: str) -> list[str]:
        """Folders of the monitors of a kind, from the first place that has any."""
        for pattern in _PLACES:
            names = (path for path in self._sysfs.glob(pattern) if self._sysfs.text(path) == chip)
            unique = {self._sysfs.realpath(path.rsplit("/", 1)[0]): None for path in names}
            if unique:
                return list(unique)
        return []

    def _find_channels(self, folder: str) -> None:
        for channel in (1, 2, 3):
            label = self._sysfs.text(f"{folder}/in{channel}_label")
            enabled = self._sysfs.integer(f"{folder}/in{channel}_enable")
            if label and label != "NC" and enabled != 0:
                self._ina3221.append((folder, channel, label))

    def _find_legacy(self) -> None:
        """L4T R32 and earlier: industrial-I/O nodes with the product already in milliwatt."""
        for path in self._sysfs.glob("/sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_*"):
            label = self._sysfs.text(path)
            channel = path.rsplit("_", 1)[1]
            if label and label != "NC" and channel in ("0", "1", "2"):
                self._legacy.append((path.rsplit("/", 1)[0], int(channel), label))

    def _shunt_ohm(self, folder: str, channel: int, label: str) -> float | None:
        micro_ohm = self._sysfs.integer(f"{folder}/shunt{channel}_resistor")
        return micro_ohm / 1e6 if micro_ohm else tables()["shunts"].get(label)

    def _channel_w(self, folder: str, channel: int) -> tuple[float | None, str | None]:
        """Voltage times current of one channel, in watts; the files print mV and mA."""
        paths = (f"{folder}/in{channel}_input", f"{folder}/curr{channel}_input")
        product = 1e-6
        for path in paths:
            milli = self._sysfs.integer(path)
            if milli is None:
                return None, f"{path}: {self._sysfs.why(path)}"
            product *= milli
        return product, None

    def _scaled(self, path: str, per_watt: float) -> tuple[float | None, str | None]:
        value = self._sysfs.integer(path)
        if value is None:
            return None, f"{path}: {self._sysfs.why(path)}"
        return value / per_watt, None

    def _channel(self, folder: str, channel: int, label: str) -> Rail:
        power_w, reason = self._channel_w(folder, channel)
        alarms = [
            self._sysfs.integer(f"{folder}/curr{channel}_{kind}_alarm") for kind in ("max", "crit")
        ]
        known = [alarm for alarm in alarms if alarm is not None]
        shunt = self._shunts[folder, channel]
        millivolt = self._sysfs.integer(f"{folder}/in{channel}_input")
        return Rail(
            label=label,
            source="ina3221",
            power_w=power_w,
            resolution_w=_SHUNT_STEP_V / shunt * millivolt / 1e3 if shunt and millivolt else None,
            alarm=any(known) if known else None,
            missing=reason,
        )

    def _carrier(self, folder: str, label: str) -> Rail:
        power_w, reason = self._scaled(f"{folder}/power1_input", 1e6)
        return Rail(
            label=label, source="ina238", power_w=power_w, resolution_w=None, missing=reason
        )

    def _iio(self, folder: str, channel: int, label: str) -> Rail:
        power_w, reason = self._scaled(f"{folder}/in_power{channel}_input", 1e3)
        return Rail(
            label=label, source="ina3221x", power_w=power_w, resolution_w=None, missing=reason
        )


def total_of(rails: dict[str, Rail]) -> Total:
    """Sum the rails of the first total of `boards.toml` that this board's labels carry."""
    if not rails:
        return Total(
            power_w=None, scope=None, rails=(), resolution_w=None, missing="no power monitor found"
        )
    for entry in tables()["totals"]:
        labels: tuple[str, ...] = tuple(entry["rails"])
        if not all(label in rails for label in labels):
            continue
        parts = [rails[label] for label in labels]
        powers = [part.power_w for part in parts if part.power_w is not None]
        steps = [part.resolution_w for part in parts if part.resolution_w is not None]
        unread = [part.label for part in parts if part.power_w is None]
        return Total(
            power_w=sum(powers) if not unread else None,
            scope=entry["scope"],
            rails=labels,
            resolution_w=sum(steps) if len(steps) == len(parts) else None,
            missing=f"not readable: {', '.join(unread)}" if unread else None,
        )
    return Total(
        power_w=None,
        scope=None,
        rails=(),
        resolution_w=None,
        missing=f"no known total for the rails {', '.join(sorted(rails))}",
    )
