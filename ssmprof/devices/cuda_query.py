"""A program: the cards that CUDA sees, in its order, as one line of JSON. Makes no context.

{"error": 0, "cards": [{"uuid": "GPU-...", "pci": "0000:1b:00.0"}]}; `error` is CUDA's own code, or
-1 without a driver. Imports nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import json
import uuid


def cards() -> dict[str, object]:
    """Ask the driver; a question that it refuses is null for that card."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return {"error": -1, "cards": []}
    error = driver.cuInit(0)
    count = ctypes.c_int()
    error = error or driver.cuDeviceGetCount(ctypes.byref(count))
    found = [] if error else [_card(driver, index) for index in range(count.value)]
    return {"error": error, "cards": found}


def _card(driver: ctypes.CDLL, index: int) -> dict[str, str | None]:
    device = ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), index)
    # Version 2 names a slice of a card (MIG) by its own number.
    identity = getattr(driver, "cuDeviceGetUuid_v2", None) or driver.cuDeviceGetUuid
    raw, address = (ctypes.c_ubyte * 16)(), ctypes.create_string_buffer(32)
    named = identity(raw, device) == 0 and any(raw)
    placed = driver.cuDeviceGetPCIBusId(address, len(address), device) == 0
    return {
        "uuid": f"GPU-{uuid.UUID(bytes=bytes(raw))}" if named else None,
        "pci": address.value.decode("ascii", "replace") if placed else None,
    }


if __name__ == "__main__":
    print(json.dumps(cards()))
