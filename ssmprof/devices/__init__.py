"""What ssmprof runs on: `detect()` finds the device that can tell most about itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ssmprof.devices.base import Device, NullDevice
from ssmprof.errors import NoDeviceError

Wanted = Literal["any", "cuda", "cpu"]


def _nvml(index: int) -> Device:
    from ssmprof.devices.nvml import NvmlDevice

    return NvmlDevice(index)


def _cpu(index: int) -> Device:
    from ssmprof.devices.cpu import CpuDevice

    return CpuDevice()


# Best first: each is tried in turn, and one that cannot be opened says why in its exception.
DETECTORS: dict[str, tuple[Literal["cuda", "cpu"], Callable[[int], Device]]] = {
    "nvml": ("cuda", _nvml),
    "cpu": ("cpu", _cpu),
}


def detect(wanted: Wanted = "any", index: int = 0) -> Device:
    """Open the first device of the wanted kind; close it when done.

    Raises NoDeviceError, with what each detector said, if there is none.
    """
    reasons: list[str] = []
    for name, (kind, opener) in DETECTORS.items():
        if wanted not in ("any", kind):
            continue
        try:
            return opener(index)
        except Exception as error:  # ImportError, NVMLError, OSError: all mean "not here"
            reasons.append(f"{name}: {type(error).__name__}: {error}")
    raise NoDeviceError(
        f"no {wanted} device found",
        cause="; ".join(reasons) or None,
        fix="nvidia-smi shows whether the driver sees a GPU; --device cpu measures the processor",
    )


__all__ = ["DETECTORS", "Device", "NullDevice", "detect"]
