"""What ssmprof runs on: `detect()` finds the device that can tell most about itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ssmprof.devices.base import Device, NullDevice
from ssmprof.errors import ConfigError, NoDeviceError

Wanted = Literal["any", "cuda", "cpu"]


def _nvml(index: int) -> Device:
    from ssmprof.devices.nvml import NvmlDevice

    return NvmlDevice(index)


def _replay(index: int) -> Device:
    from ssmprof.devices.jetson.replay import open_replay

    return open_replay()


def _jetson(index: int) -> Device:
    from ssmprof.devices.jetson.device import detect as find_board

    board = find_board()
    if board is None:
        raise LookupError("no Tegra in the device tree")
    return board


def _cpu(index: int) -> Device:
    from ssmprof.devices.cpu import CpuDevice

    return CpuDevice()


# Best first: each is tried in turn, and one that cannot be opened says why in its exception.
DETECTORS: dict[str, tuple[Literal["cuda", "cpu"], Callable[[int], Device]]] = {
    "replay": ("cpu", _replay),
    "jetson": ("cuda", _jetson),
    "nvml": ("cuda", _nvml),
    "cpu": ("cpu", _cpu),
}


def detect(wanted: Wanted = "any", index: int = 0) -> Device:
    """Open the first device of the wanted kind; close it when done.

    Raises NoDeviceError, with what each detector said, if there is none, and ConfigError for a
    captured tree (`SSMPROF_JETSON_TREE`) that cannot be replayed.
    """
    reasons: list[str] = []
    for name, (kind, opener) in DETECTORS.items():
        if wanted not in ("any", kind):
            continue
        try:
            return opener(index)
        except ConfigError:
            raise  # asked for by name, and not usable
        except Exception as error:  # ImportError, NVMLError, OSError: all mean "not here"
            reasons.append(f"{name}: {type(error).__name__}: {error}")
    raise NoDeviceError(
        f"no {wanted} device found",
        cause="; ".join(reasons) or None,
        fix="nvidia-smi shows whether the driver sees a GPU; --device cpu measures the processor",
    )


__all__ = ["DETECTORS", "Device", "NullDevice", "detect"]
