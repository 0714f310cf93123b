"""Power modes of nvpmodel: which one is active, what it allows, whether a faster one exists.

Mode ids are board specific: on an Orin Nano Super id 2 is the fastest and id 3 the slowest. Modes
are ranked by (memory clock cap, GPU clock cap, CPU clock cap), -1 meaning uncapped, never by id.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from msgspec import Struct

from ssmprof.devices.sysfs import Sysfs

STATUS = "/var/lib/nvpmodel/status"
CONF = "/etc/nvpmodel.conf"
_HEADER = re.compile(r"<\s*(POWER_MODEL|PM_CONFIG|PARAM)\s+([^>]*?)\s*>")
_ATTRIBUTE = re.compile(r"(\w+)=(\S+)")
_PMODE = re.compile(r"pmode:(?P<id>\d+)")
_QUERY = re.compile(r"^NV Power Mode: (\S+)\s*\n(?P<id>\d+)\s*$", re.MULTILINE)


class Mode(Struct, frozen=True, kw_only=True):
    """One power mode. A cap is in hertz, infinite where the mode does not cap it."""

    id: int
    name: str
    gpu_cap_hz: float = math.inf
    emc_cap_hz: float = math.inf
    cpu_cap_hz: float = math.inf

    @property
    def rank(self) -> tuple[float, float, float]:
        """Higher is faster."""
        return (self.emc_cap_hz, self.gpu_cap_hz, self.cpu_cap_hz)


class PowerModes(Struct, frozen=True, kw_only=True):
    """The modes of this board; `active` None: `missing` says why."""

    modes: tuple[Mode, ...]
    active: Mode | None
    default_id: int | None
    missing: str | None = None
    source: str | None = None

    @property
    def fastest(self) -> Mode | None:
        """The mode with the highest caps."""
        return max(self.modes, key=lambda mode: mode.rank, default=None)


def read(sysfs: Sysfs, run: Callable[[list[str]], str | None] | None = None) -> PowerModes:
    """The active mode from the status file, else `nvpmodel -q`; names and caps from the conf.

    `run` answers a command that only looks, None where it cannot.
    """
    conf = sysfs.text(CONF)
    modes, default = parse_conf(conf) if conf is not None else ((), None)
    status = sysfs.text(STATUS)
    match = _PMODE.search(status) if status is not None else None
    source = "status file"
    if match is None and run is not None:
        match = _QUERY.search(run(["nvpmodel", "-q"]) or "")
        source = "nvpmodel -q"
    if match is None:
        reason = f"{STATUS}: {sysfs.why(STATUS) or 'holds no mode'}"
        return PowerModes(modes=modes, active=None, default_id=default, missing=reason)
    number = int(match["id"], 10)
    active = next((mode for mode in modes if mode.id == number), None)
    missing = None
    if active is None:
        # Without a configuration only the id is known; with one, an id it lacks is a fault.
        missing = f"mode {number} is not in {CONF}" if modes else f"{CONF}: {sysfs.why(CONF)}"
    return PowerModes(
        modes=modes, active=active, default_id=default, missing=missing, source=source
    )


def parse_conf(text: str) -> tuple[tuple[Mode, ...], int | None]:
    """Modes and default id of an nvpmodel.conf.

    PARAM blocks hold paths under the same keywords, so values count only inside a POWER_MODEL.
    CPU caps are in kilohertz, GPU and memory caps in hertz.
    """
    modes: list[dict[str, float | int | str]] = []
    default: int | None = None
    inside = False
    for line in text.splitlines():
        header = _HEADER.search(line)
        if header:
            attributes = dict(_ATTRIBUTE.findall(header[2]))
            inside = header[1] == "POWER_MODEL" and attributes.get("ID", "").isdigit()
            if inside:
                modes.append({"id": int(attributes["ID"]), "name": attributes.get("NAME", "?")})
            elif header[1] == "PM_CONFIG" and attributes.get("DEFAULT", "").isdigit():
                default = int(attributes["DEFAULT"])
            continue
        words = line.split()
        if inside and len(words) == 3 and words[1] == "MAX_FREQ" and _is_whole(words[2]):
            key, factor = _cap_key(words[0])
            if key is not None:
                value = int(words[2])
                cap = math.inf if value < 0 else value * factor
                modes[-1][key] = min(cap, float(modes[-1].get(key, math.inf)))
    return tuple(Mode(**mode) for mode in modes), default  # type: ignore[arg-type]


def _is_whole(word: str) -> bool:
    return word.lstrip("-").isdigit()


def _cap_key(name: str) -> tuple[str | None, float]:
    if name == "GPU":
        return "gpu_cap_hz", 1.0
    if name == "EMC":
        return "emc_cap_hz", 1.0
    return ("cpu_cap_hz", 1e3) if name.startswith("CPU") else (None, 1.0)
