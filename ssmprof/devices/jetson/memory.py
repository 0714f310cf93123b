"""Memory that CPU and GPU share: what a sweep may take, and what an end for lack of it looks like.

`cudaMemGetInfo` counts reclaimable page cache as used, so budgets come from MemAvailable, within
what a control group allows and less a margin. The thresholds of margin and watchdog are estimates
that no board has confirmed yet.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from msgspec import Struct

from ssmprof.devices.sysfs import Sysfs
from ssmprof.units import format_bytes

_LINE = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)
_CGROUP = "/sys/fs/cgroup"


class MemoryState(Struct, frozen=True, kw_only=True):
    """/proc/meminfo in bytes; None where a kernel does not print the line."""

    total_bytes: int | None
    available_bytes: int | None
    swap_used_bytes: int | None
    nvmap_used_bytes: int | None
    cgroup_room_bytes: int | None = None

    @property
    def budget_bytes(self) -> int | None:
        """What a workload may take: available, within the control group, less the margin."""
        if self.available_bytes is None or self.total_bytes is None:
            return None
        room = self.available_bytes
        if self.cgroup_room_bytes is not None:
            room = min(room, self.cgroup_room_bytes)
        return max(0, room - margin_bytes(self.total_bytes))


def margin_bytes(total_bytes: int) -> int:
    """Left free for the system: 512 MB or 8 %, whichever is more."""
    return max(512 * 10**6, int(0.08 * total_bytes))


def watchdog_bytes(total_bytes: int) -> int:
    """Below this much available memory the worker is ended before the kernel ends the box."""
    return max(256 * 10**6, int(0.04 * total_bytes))


def read(sysfs: Sysfs) -> MemoryState:
    """The memory of this moment."""
    text = sysfs.text("/proc/meminfo") or ""
    values = {name: int(kib) * 1024 for name, kib in _LINE.findall(text)}
    swap_total, swap_free = values.get("SwapTotal"), values.get("SwapFree")
    limit = sysfs.integer(f"{_CGROUP}/memory.max")  # the word "max" is no number: no limit
    current = sysfs.integer(f"{_CGROUP}/memory.current")
    return MemoryState(
        total_bytes=values.get("MemTotal"),
        available_bytes=values.get("MemAvailable"),
        swap_used_bytes=(
            None if swap_total is None or swap_free is None else swap_total - swap_free
        ),
        nvmap_used_bytes=values.get("NvMapMemUsed"),
        cgroup_room_bytes=None if limit is None or current is None else limit - current,
    )


class Watchdog:
    """Ends a worker before the kernel ends the box; a `Watch` of the measuring client.

    Runs in the parent, which holds no device context. `clock` and `sleep` exist for tests.
    """

    period_s = 0.05
    _SETTLE_S = 5.0
    _STILL_BYTES = 16 * 2**20  # between two looks: what other processes do meanwhile

    def __init__(
        self,
        sysfs: Sysfs,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._sysfs = sysfs
        self._clock = clock
        self._sleep = sleep

    def __call__(self, pid: int) -> str | None:
        """Why the worker must go, or None."""
        state = read(self._sysfs)
        if state.available_bytes is None or state.total_bytes is None:
            return None
        floor = watchdog_bytes(state.total_bytes)
        if state.available_bytes >= floor:
            return None
        left = format_bytes(state.available_bytes)
        return f"ended by the watchdog: {left} left on the board, below {format_bytes(floor)}"

    def free_bytes(self) -> int | None:
        """What is available at this moment."""
        return read(self._sysfs).available_bytes

    def room_bytes(self) -> int | None:
        """What a new worker may take; waits until memory of the last one has come back."""
        end = self._clock() + self._SETTLE_S
        state = read(self._sysfs)
        while self._clock() < end:
            self._sleep(self.period_s)
            later = read(self._sysfs)
            grown = (later.available_bytes or 0) - (state.available_bytes or 0)
            state = later
            if grown < self._STILL_BYTES:
                break
        return state.budget_bytes


def oom_kills(sysfs: Sysfs) -> int | None:
    """How often the kernel's killer has struck since boot (/proc/vmstat)."""
    match = re.search(r"^oom_kill (\d+)$", sysfs.text("/proc/vmstat") or "", re.MULTILINE)
    return None if match is None else int(match[1])


# Rule name and what the worker's message or last lines look like; first match wins. Triton's
# OutOfResources (shared memory) is no lack of memory and is excluded before.
_MESSAGES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("torch-oom", re.compile(r"torch\.(?:cuda\.)?OutOfMemoryError|CUDA out of memory")),
    ("cuda-oom", re.compile(r"CUDA error: out of memory|cudaErrorMemoryAllocation")),
    (
        "nvml-assert",
        re.compile(r"NVML_SUCCESS == r INTERNAL ASSERT FAILED.*CUDACachingAllocator", re.S),
    ),
    ("library-alloc", re.compile(r"CU(?:BLAS|DNN)_STATUS_ALLOC_FAILED")),
    ("host-memory", re.compile(r"^MemoryError\b", re.MULTILINE)),
    ("nvmap-12", re.compile(r"NvMapMemAllocInternalTagged: .*error 12|NvMapMemHandleAlloc: error")),
)


def out_of_memory_rule(message: str) -> str | None:
    """Name of the rule by which a worker's message means out of memory on a Tegra; None if none."""
    if "OutOfResources" in message:
        return None
    return next((rule for rule, pattern in _MESSAGES if pattern.search(message)), None)


# Releases whose driver fails allocations with error 12 while memory is free (CVE-2025-33177/33182).
REGRESSED_L4T = frozenset({"36.4.7", "38.2.2", "35.6.3"})
