"""Closure of an eager call: what CUPTI sees of it against what the host's clock sees."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch

from ssmprof.measure.attribution import cupti
from ssmprof.records import median

_TURNS = 15


def eager_closure(call: Callable[[], Any]) -> float:
    """|wall - kernels - gaps| / wall of one eager call, gaps within the call and around it.

    Wall is host time from submission until the device is idle, without a profiler. The gap before
    the first kernel and after the last one is what an empty submission takes.
    """
    walls: list[float] = []
    for _ in range(_TURNS):
        torch.cuda.synchronize()
        began = perf_counter()
        call()
        torch.cuda.synchronize()
        walls.append(perf_counter() - began)
    cycles = cupti.profile(call, _TURNS)
    spans = [
        max(kernel.start_s + kernel.duration_s for kernel in cycle) - cycle[0].start_s
        for cycle in cycles
    ]
    wall_s = median(walls)
    return abs(wall_s - median(spans) - _around_s()) / wall_s


def _around_s() -> float:
    """Host seconds of submitting one tiny kernel and waiting for it: launch and wake-up."""
    cell = torch.ones(1, device="cuda")
    found: list[float] = []
    for _ in range(_TURNS):
        torch.cuda.synchronize()
        began = perf_counter()
        cell.add_(0.0)
        torch.cuda.synchronize()
        found.append(perf_counter() - began)
    return median(found)
