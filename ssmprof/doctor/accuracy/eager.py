"""Closure of an eager call: its ops and gaps on the device against the host's clock."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch

from ssmprof.records import median

# A host that is busy for a moment must not be half of the turns.
_TURNS_S = 0.25
_FEWEST, _MOST = 15, 150


def eager_closure(call: Callable[[], Any]) -> float:
    """|wall - (ops + gaps) - around| / wall of one eager call.

    Wall is host time from submission until the device is idle. Ops and gaps tile the span between
    an event before the first op and one after the last; a profiler would stretch the gaps of a
    launch-bound call by tens of per cent. Around is an empty submission: launch and wake-up. The
    three are measured in turns, so that a slower second of the host is in each of them.
    """
    cell = torch.ones(1, device="cuda")
    walls: list[float] = []
    spans: list[float] = []
    arounds: list[float] = []
    began = perf_counter()
    while len(walls) < _FEWEST or (len(walls) < _MOST and perf_counter() < began + _TURNS_S):
        walls.append(_wall_s(call))
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        spans.append(begin.elapsed_time(end) / 1e3)
        arounds.append(_wall_s(lambda: cell.add_(0.0)))
    wall_s = median(walls)
    return abs(wall_s - median(spans) - median(arounds)) / wall_s


def _wall_s(call: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    began = perf_counter()
    call()
    torch.cuda.synchronize()
    return perf_counter() - began
