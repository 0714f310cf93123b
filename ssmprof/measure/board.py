"""What a board with one memory for CPU and GPU adds to a measurement; nothing on other devices.

A timing during which the board swapped is void, clocks that came loose in between are told, and an
allocation that failed with memory to spare names the driver releases known for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from msgspec import structs

from ssmprof.devices.base import Device, Pinned
from ssmprof.devices.jetson.memory import REGRESSED_L4T
from ssmprof.devices.onboard import Onboard
from ssmprof.measure.environment import version
from ssmprof.records import Environment, Failure, Note
from ssmprof.units import format_bytes

# A page or two moves by itself when nothing is short; the smallest tensor of a model is larger.
_SWAP_NOISE_BYTES = 2**20
Timed = TypeVar("Timed")


def assembler(device: Device) -> dict[str, str]:
    """Make Triton use the board's own ptxas where its own is too old; what was set, for the record.

    Must run before the first kernel is compiled in this process.
    """
    if device.onboard is None:
        return {}
    found = device.onboard.compiler_settings(version("triton"), os.environ)
    os.environ.update(found)
    return found


def unswapped(device: Device, time_it: Callable[[], Timed]) -> tuple[Timed, tuple[Note, ...]]:
    """A timing during which the board did not swap: taken once more where it did.

    Raises MemoryError where the second one swaps as well: the point does not fit this memory.
    """
    board = device.onboard
    if board is None:
        return time_it(), ()
    first, grown = _watched(board, time_it)
    if grown <= _SWAP_NOISE_BYTES:
        return first, ()
    again, more = _watched(board, time_it)
    if more > _SWAP_NOISE_BYTES:
        raise MemoryError(
            f"the board swapped {format_bytes(more)} while the call was timed, twice: no timing"
        )
    text = f"the board swapped {format_bytes(grown)} during a first timing, which was discarded"
    return again, (Note(kind="swapped", text=text),)


def _watched(board: Onboard, time_it: Callable[[], Timed]) -> tuple[Timed, int]:
    before = board.swap_used_bytes()
    result = time_it()
    after = board.swap_used_bytes()
    return result, 0 if before is None or after is None else after - before


def loosened(before: Pinned | None, after: Pinned | None) -> tuple[Note, ...]:
    """Clocks that were pinned before a block and are not after it: services undo a pin silently."""
    if before != "pinned" or after in ("pinned", None):
        return ()
    return (Note(kind="clock", text=f"clocks were pinned before the samples and {after} after"),)


def suspected(failure: Failure, environment: Environment | None, free: int | None) -> Failure:
    """The failure, with the driver named where it refused memory that was there.

    `free` is what the board could give before the worker started, in bytes, margin taken off.
    """
    release = environment.l4t if environment is not None else None
    if failure.reason != "out-of-memory" or release not in REGRESSED_L4T:
        return failure
    asked = failure.asked_bytes or failure.predicted_bytes
    if asked is None or free is None or asked >= free:
        return failure
    text = f"suspect driver_regression: L4T {release} refuses memory that is free"
    return structs.replace(failure, detail=f"{failure.detail}; {text}", free_bytes=free)
