"""Closure of an eager call: its ops and gaps on the device against the host's clock."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch

from ssmprof.records import median

_TURNS = 15


def eager_closure(call: Callable[[], Any]) -> float:
    """|wall - (ops + gaps) - around| / wall of one eager call.

    Wall is host time from submission until the device is idle. Ops and gaps tile the span between
    an event before the first op and one after the last; a profiler would stretch the gaps of a
    launch-bound call by tens of per cent. Around is an empty submission: launch and wake-up.
    """
    walls: list[float] = []
    spans: list[float] = []
    for _ in range(_TURNS):
        walls.append(_wall_s(call))
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        spans.append(begin.elapsed_time(end) / 1e3)
    cell = torch.ones(1, device="cuda")
    around_s = median(_wall_s(lambda: cell.add_(0.0)) for _ in range(_TURNS))
    wall_s = median(walls)
    return abs(wall_s - median(spans) - around_s) / wall_s


def _wall_s(call: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    began = perf_counter()
    call()
    torch.cuda.synchronize()
    return perf_counter() - began
