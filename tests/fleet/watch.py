"""All cards and the cores of their workers, read beside a run."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from contextlib import suppress
from statistics import median
from typing import Any, NamedTuple

import psutil
import pynvml

PERIOD_S = 0.25


class Reading(NamedTuple):
    """One card at one time."""

    at_s: float
    power_w: float
    sm_hz: float
    temperature_c: float
    load: float


class Watch:
    """Reads power, clocks and load of `cards`, and the processor time of their workers."""

    def __init__(self, cards: list[str]) -> None:
        pynvml.nvmlInit()
        self._handles = {
            card: pynvml.nvmlDeviceGetHandleByIndex(int(card))
            if card.isdigit()
            else pynvml.nvmlDeviceGetHandleByUUID(card)
            for card in cards
        }
        self._readings: dict[str, list[Reading]] = defaultdict(list)
        self._cores: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._assigned: dict[str, int] = {}
        self._spent: dict[int, float] = {}
        self._parent: int | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def names(self) -> list[str]:
        """The cards' names."""
        found = [pynvml.nvmlDeviceGetName(handle) for handle in self._handles.values()]
        return [name.decode() if isinstance(name, bytes) else name for name in found]

    def of(self, parent: int | None) -> None:
        """The sweep whose workers are watched."""
        self._parent = parent
        self._spent.clear()

    def between(self, begin_s: float, end_s: float) -> list[dict[str, Any]]:
        """A row per card for a stretch of time (seconds since the epoch)."""
        rows: list[dict[str, Any]] = []
        for card in self._handles:
            mine = [one for one in self._readings[card] if begin_s <= one.at_s <= end_s]
            cores = [used for at, used in self._cores[card] if begin_s <= at <= end_s]
            if not mine:
                continue
            rows.append(
                {
                    "card": card,
                    "power_median_w": median(one.power_w for one in mine),
                    "power_max_w": max(one.power_w for one in mine),
                    "sm_median_hz": median(one.sm_hz for one in mine),
                    "sm_min_hz": min(one.sm_hz for one in mine),
                    "temperature_max_c": max(one.temperature_c for one in mine),
                    "load_mean": sum(one.load for one in mine) / len(mine),
                    "readings": len(mine),
                    "cores_assigned": self._assigned.get(card),
                    "cores_used_mean": sum(cores) / len(cores) if cores else None,
                    "cores_used_max": max(cores, default=None),
                }
            )
        return rows

    def close(self) -> None:
        """Read no more."""
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        before = time.monotonic()
        while not self._end.wait(PERIOD_S):
            for card, handle in self._handles.items():
                with suppress(pynvml.NVMLError):
                    self._readings[card].append(_read(handle))
            now = time.monotonic()
            self._count(now - before)
            before = now

    def _count(self, seconds: float) -> None:
        """Cores that each card's workers used since the last look."""
        used: dict[str, float] = defaultdict(float)
        for process in _children(self._parent):
            try:
                card = process.environ().get("CUDA_VISIBLE_DEVICES", "")
                spent = sum(process.cpu_times()[:2])
                if card not in self._handles:
                    continue
                used[card] += spent - self._spent.get(process.pid, spent)
                self._spent[process.pid] = spent
                cores = len(process.cpu_affinity() or [])
                self._assigned[card] = min(cores, self._assigned.get(card, cores))
            except psutil.Error:
                continue
        for card, spent in used.items():
            self._cores[card].append((time.time(), spent / seconds))


def _children(parent: int | None) -> list[psutil.Process]:
    try:
        return psutil.Process(parent).children(recursive=True) if parent is not None else []
    except psutil.Error:
        return []


def _read(handle: Any) -> Reading:
    return Reading(
        time.time(),
        pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
        pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM) * 1e6,
        float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
        pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
    )
