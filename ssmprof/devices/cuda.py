"""Which cards CUDA sees, in its own order, asked without torch and without a context.

NVML numbers cards by PCI address and CUDA the fastest first, and CUDA_VISIBLE_DEVICES hides and
renumbers for CUDA alone: the same index is not the same card. The driver is asked in a process of
its own, since a parent of workers must not touch CUDA.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

_TIMEOUT_S = 30.0  # a driver that was not loaded yet takes seconds
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_QUERY = Path(__file__).with_name("cuda_query.py")
_BUILT_FOR = re.compile(r"^(cuda|hip)\b[^=\n]*=\s*(\S+)", re.MULTILINE)


class Card(NamedTuple):
    """One card as CUDA names it: `uuid` with its prefix (GPU-, MIG-), PCI address."""

    uuid: str | None = None
    pci: str | None = None


def card(index: int) -> Card | None:
    """The card that CUDA calls `index` here; None where the driver cannot be asked.

    Raises LookupError where CUDA sees no such card, or torch was built without CUDA.
    """
    blind = torch_is_blind()
    if blind is not None:
        raise LookupError(blind)
    settings = tuple(os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"))
    cards = _cards(settings)
    if cards is None:
        return None
    if index >= len(cards):
        visible = settings[0]
        hidden = "" if visible is None else f' (CUDA_VISIBLE_DEVICES="{visible}")'
        raise LookupError(f"CUDA sees {len(cards) or 'no'} device{hidden}")
    return cards[index]


def entries(visible: str) -> list[str]:
    """What CUDA makes of CUDA_VISIBLE_DEVICES: everything before the first word that is none."""
    found: list[str] = []
    for entry in visible.split(","):
        entry = entry.strip()
        if not re.fullmatch(r"[0-9]{1,4}|(?:GPU|MIG)-[\w/-]+", entry, re.ASCII):
            break
        found.append(entry)
    return found


@cache
def _cards(_settings: tuple[str | None, ...]) -> tuple[Card, ...] | None:
    """CUDA's cards under these settings; None where the driver gives no answer."""
    # Isolated, so that nothing of the working folder is imported.
    command = [sys.executable, "-I", str(_QUERY)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
        answer = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    if answer["error"] == _NO_DEVICE:
        return ()
    if answer["error"]:
        return None
    return tuple(Card(one["uuid"], one["pci"]) for one in answer["cards"])


@cache
def torch_is_blind() -> str | None:
    """Why the installed torch can use no GPU; None where it can, or where none is installed."""
    try:
        found = find_spec("torch")  # locates it and does not import it
    except ValueError:  # a stand-in without a place
        return None
    if found is None or found.origin is None:
        return None
    try:
        text = Path(found.origin).with_name("version.py").read_text("utf-8")
    except OSError:
        return None
    built = dict(_BUILT_FOR.findall(text))
    if built and all(value == "None" for value in built.values()):
        return "the installed torch is built without CUDA"
    return None
