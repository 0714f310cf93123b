"""Which board is this: module, SoC, L4T release, from the first source that answers.

All sources are collected; the others stay as evidence, and where they disagree with the winner that
is a warning, since carrier makers copy device trees.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

from msgspec import Struct

from ssmprof.devices.sysfs import Sysfs

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_P_NUMBER = re.compile(r"p(\d{4})-(\d{4})")
_TNSPEC = re.compile(r"^TNSPEC\s+(\d{4})-\d+-(\d{4})", re.MULTILINE)
_L4T = re.compile(r"R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)")
_PACKAGE = re.compile(r"^nvidia-l4t-core\s+(\d+\.\d+(?:\.\d+)?)", re.MULTILINE)
_MEMORY = re.compile(r"^MemTotal:\s+(\d+) kB$", re.MULTILINE)
# Firmware keeps part of the nominal memory; recorded boards show 0.8 to 0.98 of it.
_VISIBLE = (0.75, 1.0)

Run = Callable[[list[str]], "str | None"]


class Board(Struct, frozen=True, kw_only=True):
    """A Jetson board. `l4t` is the stored truth, `jetpack` a label that may be None."""

    soc: str | None
    compute_capability: str | None
    p_number: str | None
    module: str | None
    chip: str | None
    model: str | None
    l4t: str | None
    jetpack: str | None
    boot_id: str | None
    evidence: dict[str, str]
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        """What to call it: the module where it is known, else what the device tree says."""
        return self.module or self.model or "unknown Jetson"


@cache
def tables() -> dict[str, Any]:
    """The board data of `boards.toml`."""
    text = resources.files("ssmprof.devices.jetson").joinpath("boards.toml").read_text("utf-8")
    return tomllib.loads(text)


def is_jetson(sysfs: Sysfs) -> bool:
    """Whether the device tree names an NVIDIA Tegra SoC; also seen from inside a container."""
    return any(part.startswith("nvidia,tegra") for part in _compatible(sysfs))


def identify(sysfs: Sysfs, run: Run | None = None) -> Board | None:
    """The board, or None if this machine is no Jetson.

    `run` answers a command that only looks (None: it cannot), for what no file tells.
    """
    model = sysfs.text("/proc/device-tree/model")
    compatible = _compatible(sysfs)
    jetson_by_model = model is not None and "jetson" in model.lower()
    if not is_jetson(sysfs) and not (jetson_by_model and not compatible):
        return None
    soc = next(
        (p.removeprefix("nvidia,") for p in compatible if p.startswith("nvidia,tegra")), None
    )
    p_numbers = _p_numbers(sysfs, compatible)
    l4t_sources = _l4t(sysfs, run)
    p_number = next(iter(p_numbers.values()), None)
    l4t = l4t_sources.get("nv_tegra_release") or l4t_sources.get("nvidia-l4t-core")
    module = _module(p_number)
    warnings = [
        f"{source} says {other}, {first} says {p_number}: taken from {first}"
        for first in list(p_numbers)[:1]
        for source, other in p_numbers.items()
        if other != p_number
    ]
    if soc is None:
        soc = module.get("soc")
    warnings += _memory_warnings(sysfs, module)
    return Board(
        soc=soc,
        compute_capability=tables()["capabilities"].get(soc),
        p_number=p_number,
        module=module.get("name"),
        chip=module.get("chip"),
        model=model,
        l4t=l4t,
        jetpack=tables()["jetpack"].get(l4t),
        boot_id=sysfs.text("/proc/sys/kernel/random/boot_id"),
        evidence={**p_numbers, **l4t_sources},
        warnings=tuple(warnings),
    )


def _memory_warnings(sysfs: Sysfs, module: dict[str, Any]) -> list[str]:
    """A module whose memory is not what its P-number says was identified wrongly, or altered."""
    match, nominal_gb = _MEMORY.search(sysfs.text("/proc/meminfo") or ""), module.get("memory_gb")
    if match is None or nominal_gb is None:
        return []
    share = int(match[1]) * 1024 / (nominal_gb * 2**30)
    if _VISIBLE[0] <= share <= _VISIBLE[1]:
        return []
    found = int(match[1]) * 1024 / 2**30
    return [f"{module['name']} has {nominal_gb} GB, the kernel shows {found:.1f} GiB"]


def _module(p_number: str | None) -> dict[str, Any]:
    modules: dict[str, dict[str, Any]] = tables()["modules"]
    if p_number is None:
        return {}
    return modules.get(p_number) or modules.get(p_number.split("-")[0]) or {}


def _compatible(sysfs: Sysfs) -> tuple[str, ...]:
    return sysfs.strings("/proc/device-tree/compatible")


def _p_numbers(sysfs: Sysfs, compatible: tuple[str, ...]) -> dict[str, str]:
    """P-number of the module by source, strongest first; carriers (p3768, p3737) are skipped."""
    found: dict[str, str] = {}
    known = {name.split("-")[0] for name in tables()["modules"]}
    boardids = sysfs.text("/proc/device-tree/nvidia,boardids") or ""
    for source, text in (("compatible", " ".join(compatible)), ("boardids", boardids)):
        for match in _P_NUMBER.finditer(text):
            if f"p{match[1]}" in known:
                found.setdefault(source, match[0])
    boot = sysfs.text("/etc/nv_boot_control.conf")
    match = _TNSPEC.search(boot) if boot else None
    if match:  # COMPATIBLE_SPEC of the same file can name another SKU
        found["TNSPEC"] = f"p{match[1]}-{match[2]}"
    return found


def _l4t(sysfs: Sysfs, run: Run | None) -> dict[str, str]:
    """Release by source; a Tegra kernel name alone tells no release (most containers)."""
    found: dict[str, str] = {}
    release = sysfs.text("/etc/nv_tegra_release")
    match = _L4T.search(release.splitlines()[0]) if release else None
    if match:
        found["nv_tegra_release"] = f"{match[1]}.{match[2]}"
    elif run is not None:
        package = run(["dpkg-query", "--show", "nvidia-l4t-core"])
        match = _PACKAGE.search(package) if package else None
        if match:
            found["nvidia-l4t-core"] = match[1]
    kernel = sysfs.text("/proc/sys/kernel/osrelease")
    if kernel is not None and kernel.endswith("-tegra"):
        found["kernel"] = kernel
    return found
