"""The machine and the software a measurement belongs to.

`bare` needs no torch and serves the parent where no worker ever said hello; `probe` runs in the
worker. Both leave a reading that is not there None, with the reason in `missing`. What does not
change from worker to worker is read once, before the fork (`prepare`).
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from ssmprof.chips import find_chip
from ssmprof.devices import NullDevice, detect
from ssmprof.devices.base import Device
from ssmprof.devices.cpu import cpu_name
from ssmprof.errors import NoDeviceError
from ssmprof.mixers.packages import PACKAGES
from ssmprof.private import without_own
from ssmprof.records import Environment

CARD = "SSMPROF_CARD"  # where cards of one name are told apart: which one this process has


def called(name: str) -> str:
    """The name of a device: the driver's, and which card it is where that matters."""
    card = os.environ.get(CARD)
    return f"{name} #{card}" if card else name


def bare(kind: Literal["cuda", "cpu"]) -> Environment:
    """What can be said without torch and without a worker."""
    try:
        device: Device = detect(kind)
    except NoDeviceError as error:
        device = NullDevice(kind, str(error.cause or error), kind)
    try:
        return _environment(_common(device, kind))
    finally:
        device.close()


def probe(device: Device, kind: Literal["cuda", "cpu"]) -> Environment:
    """Everything, from inside the process that measures; initialises CUDA where that is the device.

    Raises NoDeviceError where torch sees no CUDA device.
    """
    import torch

    values = _common(device, kind)
    values["torch"] = str(torch.__version__)
    values["cpu_threads"] = torch.get_num_threads()
    values["triton"] = version("triton") or version("pytorch-triton")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise NoDeviceError("torch sees no CUDA device", fix="ssmprof doctor")
        properties, board = torch.cuda.get_device_properties(0), "board" in values
        values |= {
            # torch calls every Orin "Orin"; a board knows its own name.
            "device": values["device"] if board else called(properties.name),
            "chip": values["chip"] if board else find_chip(properties.name) or values["chip"],
            "cuda": torch.version.cuda,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "sm_count": properties.multi_processor_count,
            "memory_bytes": properties.total_memory,
            "l2_bytes": getattr(properties, "L2_cache_size", None),
            "unified_memory": bool(getattr(properties, "is_integrated", False)),
        }
    return _environment(values)


def _environment(values: dict[str, Any]) -> Environment:
    """The record, without the names of this user, host and home."""
    clean: dict[str, Any] = {
        name: without_own(value) if isinstance(value, str) and name != "kind" else value
        for name, value in values.items()
    }
    clean["missing"] = {name: without_own(why) for name, why in values["missing"].items()}
    return Environment(**clean)


def prepare() -> None:
    """Read what is the same for every worker: versions, the state of the sources, the tables."""
    git()
    kernel_tables()
    for name in PACKAGES:
        version(name)


def _common(device: Device, kind: Literal["cuda", "cpu"]) -> dict[str, Any]:
    pinned = device.pinned()
    values: dict[str, Any] = {
        "device": called(device.name),
        "kind": kind,
        "ssmprof": version("ssmprof") or "0.1.0",
        "python": platform.python_version(),
        "platform": f"{platform.system().lower()}-{platform.machine()}",
        "chip": find_chip(device.name),
        "memory_bytes": device.memory_bytes(),
        # WSL has no such file, though the driver's own library answers.
        "driver": (_driver() or device.driver()) if kind == "cuda" else None,
        "cpu": cpu_name(),
        "clocks_locked": None if pinned is None else pinned == "pinned",
        "providers": {
            module: found for name, module in PACKAGES.items() if (found := version(name))
        },
        "kernel_tables": kernel_tables(),
        "git": git(),
    }
    # A board knows what a plain GPU has no word for.
    board = device.onboard
    if board is not None:
        of_board = ("board", "l4t", "power_mode", "sm_cap_hz", "memory_cap_hz")
        values |= {name: found for name in of_board if (found := getattr(board, name))}
        # By its number: a module that is not in the table has no peaks.
        values["chip"] = board.chip if kind == "cuda" else None
    absent: dict[str, str] = {}
    if kind == "cuda" and values["driver"] is None:
        absent["driver"] = device.missing.get("driver", "not readable")
    return values | {"missing": absent}


@cache
def version(distribution: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@cache
def git() -> str | None:
    """Commit of the checkout this package runs from, `+` if its code was changed since."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty=+"]
    try:
        found = subprocess.run(
            command, capture_output=True, text=True, timeout=5.0, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


@cache
def kernel_tables() -> str | None:
    """12 hex digits of the kernels' tuning tables; other tables may be other times."""
    package = find_spec("ssmprof_kernels")
    if package is None or package.origin is None:
        return None
    tables = sorted(Path(package.origin).parent.glob("configs/*.json"))
    if not tables:
        return None
    found = hashlib.sha256()
    for table in tables:
        found.update(table.name.encode())
        found.update(table.read_bytes())
    return found.hexdigest()[:12]


@cache
def _driver() -> str | None:
    try:
        first = Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    except (OSError, IndexError):
        return None
    words = [word for word in first.split() if word.count(".") >= 1 and word[0].isdigit()]
    return words[0] if words else None
