"""What kernels must know of a device: capability, multiprocessors, shared memory; shape buckets.

Promises: asked once per device. `pretend` puts facts in the place of a device's own, so that code
for a GPU which is not there can be planned and compiled.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from typing import NamedTuple

import torch

#: Opt-in shared memory of one thread block in bytes, per compute capability (CUDA C++ Programming
#: Guide, table "Technical Specifications per Compute Capability"); used where no device is present.
SHARED_BYTES = {
    80: 166_912,
    86: 101_376,
    87: 166_912,
    89: 101_376,
    90: 232_448,
    100: 232_448,
    103: 232_448,
    110: 232_448,
    120: 101_376,
    121: 101_376,
}

_LENGTHS = ((256, "256"), (1024, "1K"), (4096, "4K"), (16384, "16K"))
_FILLS = ((0.5, "p0.5"), (1.0, "p1"), (2.0, "p2"), (4.0, "p4"))

LENGTH_BUCKETS = (*(name for _, name in _LENGTHS), "more")
FILL_BUCKETS = (*(name for _, name in _FILLS), "pmore")


class DeviceFacts(NamedTuple):
    """Capability (0 on a CPU), multiprocessors, shared memory of one block in bytes, name."""

    sm: int
    sm_count: int
    shared_bytes: int
    name: str


_facts: dict[torch.device, DeviceFacts] = {}


def length_bucket(length: int) -> str:
    """Coarse bucket of a sequence length in tokens: '256', '1K', '4K', '16K' or 'more'."""
    for limit, name in _LENGTHS:
        if length <= limit:
            return name
    return "more"


def fill_bucket(programs: int, sm_count: int) -> str:
    """How many programs each multiprocessor gets: 'p0.5', 'p1', 'p2', 'p4' or 'pmore'."""
    for limit, name in _FILLS:
        if programs <= limit * sm_count:
            return name
    return "pmore"


def facts(device: torch.device) -> DeviceFacts:
    """Capability, multiprocessor count and shared-memory limit of `device`; cached."""
    known = _facts.get(device)
    if known is None:
        if device.type == "cuda":
            p = torch.cuda.get_device_properties(device)
            shared = int(p.shared_memory_per_block_optin)
            known = DeviceFacts(p.major * 10 + p.minor, p.multi_processor_count, shared, p.name)
        else:
            # One virtual multiprocessor: the interpreter runs programs one after the other.
            known = DeviceFacts(0, 1, 1 << 30, platform.machine())
        _facts[device] = known
    return known


@contextlib.contextmanager
def pretend(device: torch.device, facts: DeviceFacts) -> Iterator[None]:
    """Answer `facts` for `device` in this context."""
    known = _facts.get(device)
    _facts[device] = facts
    try:
        yield
    finally:
        del _facts[device]
        if known is not None:
            _facts[device] = known
