"""What ssmprof runs on: `detect()` finds the device that can tell most about itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal

from ssmprof.devices.base import Device, NullDevice
from ssmprof.devices.cuda import Card, entries
from ssmprof.errors import ConfigError, NoDeviceError

Wanted = Literal["any", "cuda", "cpu"]


def _nvml(card: Card | None) -> Device:
    from ssmprof.devices.nvml import NvmlDevice

    return NvmlDevice(card=card)


def _replay(_: Card | None) -> Device:
    from ssmprof.devices.jetson.replay import open_replay

    return open_replay()


def _jetson(_: Card | None) -> Device:
    from ssmprof.devices.jetson.device import detect as find_board

    board = find_board()
    if board is None:
        raise LookupError("no Tegra in the device tree")
    first = next(iter(entries(os.environ.get("CUDA_VISIBLE_DEVICES", "0"))), "none")
    if first == "none" or (first.isdigit() and int(first)):
        raise LookupError("CUDA_VISIBLE_DEVICES hides the board's only GPU")
    return board


def _cpu(_: Card | None) -> Device:
    from ssmprof.devices.cpu import CpuDevice

    return CpuDevice()


# Best first: each is tried in turn, and one that cannot be opened says why in its exception.
DETECTORS: dict[str, tuple[Literal["cuda", "cpu"], Callable[[Card | None], Device]]] = {
    "replay": ("cpu", _replay),
    "jetson": ("cuda", _jetson),
    "nvml": ("cuda", _nvml),
    "cpu": ("cpu", _cpu),
}


def detect(wanted: Wanted = "any", card: Card | None = None) -> Device:
    """Open the first device of the wanted kind; close it when done.

    `card` is the one that torch measures, in a process that has asked it; without it CUDA's first.

    Raises NoDeviceError, with what each detector said, if there is none, and ConfigError for a
    captured tree (`SSMPROF_JETSON_TREE`) that cannot be replayed.
    """
    reasons: list[str] = []
    for name, (kind, opener) in DETECTORS.items():
        if wanted not in ("any", kind):
            continue
        try:
            return opener(card)
        except ConfigError:
            raise  # asked for by name, and not usable
        except Exception as error:  # ImportError, NVMLError, OSError: all mean "not here"
            reasons.append(f"{name}: {type(error).__name__}: {error}")
    raise NoDeviceError(
        f"no {wanted} device found",
        cause="; ".join(reasons) or None,
        fix="nvidia-smi shows whether the driver sees a GPU; --device cpu measures the processor",
    )


__all__ = ["DETECTORS", "Card", "Device", "NullDevice", "detect"]
