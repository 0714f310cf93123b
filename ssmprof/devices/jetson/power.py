"""Power of a board from its INA3221 and INA238 monitors, rail by exact label.

P = bus voltage x current. Channels 1 to 3 only: 4 to 6 repeat the shunt voltages and 7 is a sum in
hardware. A total exists only where every rail of it does (`boards.toml`), and carries its scope
(module or system) and its resolution, which comes from the shunt: one step of an INA3221 is 40 uV
across it, so 8 mA on a 5 mOhm shunt and 20 mA on 2 mOhm.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ssmprof.devices.jetson.board import tables
from ssmprof.devices.sysfs import Sysfs

_SHUNT_STEP_V = 40e-6
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
        for folder in self._folders("/sys/class/hwmon/*/name", "ina3221"):
            self._find_channels(folder)
        for folder in self._folders("/sys/class/hwmon/*/name", "ina238"):
            label = sysfs.text(f"{folder}/label")
            if label:
                self._ina238.append((folder, label))
        if not self._ina3221:
            self._find_legacy()

    def rails(self) -> tuple[Rail, ...]:
        """Every labelled rail, read once."""
        found = [self._channel(*entry) for entry in self._ina3221]
        found += [self._carrier(*entry) for entry in self._ina238]
        found += [self._iio(*entry) for entry in self._legacy]
        return tuple(found)

    def total(self, rails: tuple[Rail, ...] | None = None) -> Total:
        """The board's total by the rails it has; None with a reason where one is missing."""
        return total_of({rail.label: rail for rail in (self.rails() if rails is None else rails)})

    def _folders(self, pattern: str, chip: str) -> list[str]:
        names = (path for path in self._sysfs.glob(pattern) if self._sysfs.text(path) == chip)
        unique = {self._sysfs.realpath(path.rsplit("/", 1)[0]): None for path in names}
        return list(unique)

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

    def _channel(self, folder: str, channel: int, label: str) -> Rail:
        voltage, current = f"{folder}/in{channel}_input", f"{folder}/curr{channel}_input"
        millivolt, milliampere = self._sysfs.integer(voltage), self._sysfs.integer(current)
        alarms = [
            self._sysfs.integer(f"{folder}/curr{channel}_{kind}_alarm") for kind in ("max", "crit")
        ]
        known = [alarm for alarm in alarms if alarm is not None]
        if millivolt is None or milliampere is None:
            path = voltage if millivolt is None else current
            reason = f"{path}: {self._sysfs.why(path)}"
            return Rail(
                label=label, source="ina3221", power_w=None, resolution_w=None, missing=reason
            )
        micro_ohm = self._sysfs.integer(f"{folder}/shunt{channel}_resistor")
        shunt = micro_ohm / 1e6 if micro_ohm else tables()["shunts"].get(label)
        return Rail(
            label=label,
            source="ina3221",
            power_w=millivolt * milliampere / 1e6,
            resolution_w=_SHUNT_STEP_V / shunt * millivolt / 1e3 if shunt else None,
            alarm=any(known) if known else None,
        )

    def _carrier(self, folder: str, label: str) -> Rail:
        path = f"{folder}/power1_input"
        microwatt = self._sysfs.integer(path)
        return Rail(
            label=label,
            source="ina238",
            power_w=None if microwatt is None else microwatt / 1e6,
            resolution_w=None,
            missing=None if microwatt is not None else f"{path}: {self._sysfs.why(path)}",
        )

    def _iio(self, folder: str, channel: int, label: str) -> Rail:
        path = f"{folder}/in_power{channel}_input"
        milliwatt = self._sysfs.integer(path)
        return Rail(
            label=label,
            source="ina3221x",
            power_w=None if milliwatt is None else milliwatt / 1e3,
            resolution_w=None,
            missing=None if milliwatt is not None else f"{path}: {self._sysfs.why(path)}",
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
