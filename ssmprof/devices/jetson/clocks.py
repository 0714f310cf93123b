"""Clocks and caps of GPU, memory and CPU; whether they are pinned; load, temperature, throttling.

A kernel time without the GPU clock beside it is not a measurement: unpinned clocks move times two-
to threefold on these boards. Pinned means that the lowest and the highest allowed clock agree.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ssmprof.devices.sysfs import Sysfs

Pinned = Literal["pinned", "capped", "free"]
_GPU_NODES = ("gpu", "ga10b", "gv11b")
_LOADS = ("/sys/devices/platform/gpu.0/load", "/sys/devices/gpu.0/load")
_BWMGR = "/sys/class/devfreq/bwmgr/cur_freq"
_ABSENT = "no GPU under /sys/class/devfreq"


class GpuClock(Struct, frozen=True, kw_only=True):
    """The GPU's clock domain. Hertz; `load` is a ratio; None with a reason in `missing`."""

    node: str | None
    current_hz: float | None = None
    lowest_hz: float | None = None
    cap_hz: float | None = None
    highest_hz: float | None = None
    governor: str | None = None
    load: float | None = None
    missing: str | None = None

    @property
    def pinned(self) -> Pinned | None:
        """Whether the clock can move; None where the limits are not readable.

        `capped`: it moves below a cap that is lower than what the chip could do (`highest_hz`).
        """
        if self.lowest_hz is None or self.cap_hz is None:
            return None
        if self.lowest_hz == self.cap_hz:
            return "pinned"
        return "capped" if self.highest_hz and self.cap_hz < self.highest_hz else "free"


class Throttle(Struct, frozen=True, kw_only=True):
    """Cumulative over-current events since boot (oc1 under-voltage, oc2 average, oc3 peak)."""

    events: dict[str, int]
    active: tuple[str, ...]
    boot_id: str | None = None


class ClockTree:
    """Clock files of one board, found once by content."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs
        self._gpu = self._find_gpu()
        self._zones = [
            (kind.removesuffix("-thermal"), path.rsplit("/", 1)[0] + "/temp")
            for path in sysfs.glob("/sys/class/thermal/thermal_zone*/type")
            if (kind := sysfs.text(path))
        ]
        self._soctherm = [
            path.rsplit("/", 1)[0]
            for path in sysfs.glob("/sys/class/hwmon/*/name")
            if sysfs.text(path) == "soctherm_oc"
        ]
        self._boot_id = sysfs.text("/proc/sys/kernel/random/boot_id")
        self._has_bwmgr = bool(sysfs.glob(_BWMGR))
        # Listing these folders is the dearest part of a reading, and they do not change.
        self._alerts = {
            path.rsplit("/", 1)[0] + "/cur_state": kind
            for path in sysfs.glob("/sys/class/thermal/cooling_device*/type")
            if (kind := sysfs.text(path) or "").endswith("throttle-alert")
        }

    def _find_gpu(self) -> str | None:
        for folder in self._sysfs.glob("/sys/class/devfreq/*"):
            node = self._sysfs.text(f"{folder}/device/of_node/name") or ""
            name = folder.rsplit("/", 1)[1]
            if any(part in node for part in _GPU_NODES) or name.startswith("gpu-gpc"):
                return folder
        return None

    def _hertz(self, path: str) -> float | None:
        # A float from the start: records that travel as JSON must hash alike before and after.
        whole = self._sysfs.integer(path)
        return None if whole is None else float(whole)

    def gpu(self) -> GpuClock:
        """Clock, caps, governor and load of the GPU, in one attempt."""
        if self._gpu is None:
            return GpuClock(node=None, missing=_ABSENT)
        values = {
            name: self._hertz(f"{self._gpu}/{name}")
            for name in ("cur_freq", "min_freq", "max_freq")
        }
        absent = [name for name, value in values.items() if value is None]
        return GpuClock(
            node=self._gpu.rsplit("/", 1)[1],
            current_hz=values["cur_freq"],
            lowest_hz=values["min_freq"],
            cap_hz=values["max_freq"],
            highest_hz=self._highest_hz(),
            governor=self._sysfs.text(f"{self._gpu}/governor"),
            load=self.load(),
            missing=f"not readable: {', '.join(absent)}" if absent else None,
        )

    def has_gpu(self) -> bool:
        """Whether the board shows its GPU's clock at all."""
        return self._gpu is not None

    def has_load(self) -> bool:
        """Whether the board has a file for the GPU's load, readable or not."""
        return any(self._sysfs.glob(path) for path in (f"{self._gpu}/device/load", *_LOADS))

    def zones(self) -> tuple[str, ...]:
        """Names of the thermal zones."""
        return tuple(zone for zone, _ in self._zones)

    def sm_cap_hz(self) -> float | None:
        """The highest clock the GPU may reach in the active power mode."""
        return None if self._gpu is None else self._hertz(f"{self._gpu}/max_freq")

    def sm_hz(self) -> float | None:
        """The GPU's clock of this moment, in one read."""
        return None if self._gpu is None else self._hertz(f"{self._gpu}/cur_freq")

    def junction_c(self) -> tuple[float | None, str]:
        """The headline temperature `tj` in one read, or None and why."""
        for zone, path in self._zones:
            if zone == "tj":
                milli = self._sysfs.integer(path)
                if milli is None or milli < -200_000:
                    return None, self._sysfs.why(path) or "placeholder of a gated sensor"
                return milli / 1000, ""
        return None, "no tj zone"

    def load(self) -> float | None:
        """Share of recent time the GPU was busy, relative to its clock of the moment."""
        for path in (f"{self._gpu}/device/load", *_LOADS):
            permille = self._sysfs.integer(path)
            if permille is not None and 0 <= permille <= 1000:
                return permille / 1000
        return None

    def _highest_hz(self) -> float | None:
        words = (self._sysfs.text(f"{self._gpu}/available_frequencies") or "").split()
        return max((float(word) for word in words if word.isdigit()), default=None)

    def emc_cap_hz(self) -> float | None:
        """The cap of the memory clock in this power mode; the live clock needs root."""
        return self._hertz("/sys/kernel/nvpmodel_clk_cap/emc") or None

    def emc_hz(self) -> float | None:
        """The live memory clock, where a board shows it without root (Thor's bwmgr)."""
        return self._hertz(_BWMGR) if self._has_bwmgr else None

    def cpu_pinned(self) -> Pinned | None:
        """Whether every CPU cluster has one allowed clock only."""
        states: list[bool] = []
        for folder in self._sysfs.glob("/sys/devices/system/cpu/cpufreq/policy*"):
            low = self._sysfs.integer(f"{folder}/scaling_min_freq")
            high = self._sysfs.integer(f"{folder}/scaling_max_freq")
            if low is None or high is None:
                return None
            states.append(low == high)
        return None if not states else ("pinned" if all(states) else "free")

    def temperatures_c(self) -> tuple[dict[str, float], dict[str, str]]:
        """Temperature by zone, and the reason for each zone that gave none (a gated block)."""
        found: dict[str, float] = {}
        missing: dict[str, str] = {}
        for zone, path in self._zones:
            milli = self._sysfs.integer(path)
            if milli is None or milli < -200_000:
                missing[zone] = self._sysfs.why(path) or "placeholder of a gated sensor"
            else:
                found[zone] = milli / 1000
        return found, missing

    def throttle(self) -> Throttle:
        """Over-current counters and active throttle alerts, to be compared over a timed block."""
        events = {
            f"oc{number}": count
            for folder in self._soctherm
            for number in (1, 2, 3)
            if (count := self._sysfs.integer(f"{folder}/oc{number}_event_cnt")) is not None
        }
        active = tuple(
            kind for path, kind in self._alerts.items() if (self._sysfs.integer(path) or 0) > 0
        )
        return Throttle(
            events=events,
            active=active,
            boot_id=self._boot_id,
        )

    def fan(self) -> float | None:
        """Duty of the fan, 0 to 1; read only."""
        for path in self._sysfs.glob("/sys/class/hwmon/*/name"):
            if self._sysfs.text(path) == "pwmfan":
                duty = self._sysfs.integer(path.rsplit("/", 1)[0] + "/pwm1")
                return None if duty is None else duty / 255
        return None


def throttle_reasons(before: Throttle, after: Throttle, seconds: float) -> tuple[str, ...]:
    """What slowed the board between two readings; a reboot in between voids the counters.

    oc3 (peak current) fires in normal use of the highest modes and halves the clocks for about a
    millisecond each time; it is named above 10 per second. oc1 and oc2 are named at once.
    """
    reasons = list(after.active)
    if before.boot_id != after.boot_id:
        return (*reasons, "rebooted")
    for name, count in after.events.items():
        delta = count - before.events.get(name, count)
        if delta > (10 * seconds if name == "oc3" else 0):
            reasons.append(f"{name}: {delta} events")
    return tuple(reasons)
