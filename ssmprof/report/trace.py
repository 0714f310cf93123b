"""Kernels as a Chrome trace (Trace Event Format): opens in ui.perfetto.dev or chrome://tracing.

Positions are laid end to end in the order of the ops, since times per op are medians over replays:
durations are measured, starts are not. A contender is a process, each of its points a thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ssmprof.records import Measurement, Run, median
from ssmprof.report.kernels import place
from ssmprof.units import format_context

_MICROSECONDS = 1e6


def chrome_trace(run: Run, only: Iterable[Measurement] | None = None) -> dict[str, Any]:
    """The first round of every point with times per kernel, or of those in `only`."""
    events: list[dict[str, Any]] = []
    processes: dict[str, int] = {}
    threads: dict[str, int] = {}
    for one in run.measurements() if only is None else only:
        if one.attribution is None or one.point.key in threads:
            continue
        point = one.point
        process = processes.setdefault(point.block, len(processes) + 1)
        thread = threads.setdefault(point.key, len(threads) + 1)
        name = f"{point.phase} {format_context(point.context)} b{point.batch} {point.execution}"
        events.append(_name("thread_name", process, thread, name))
        start = 0.0
        for kernel in one.attribution.kernels:
            length = median(kernel.times_s) * _MICROSECONDS
            events.append(
                {
                    "name": kernel.kernel or place(kernel),
                    "cat": kernel.family,
                    "ph": "X",
                    "ts": round(start, 3),
                    "dur": round(length, 3),
                    "pid": process,
                    "tid": thread,
                    "args": {"where": kernel.scope, "calls": kernel.calls, "op": kernel.op},
                }
            )
            start += length
    events += [_name("process_name", pid, 0, block) for block, pid in processes.items()]
    return {
        "displayTimeUnit": "ns",
        "otherData": {"scenario": run.scenario.name, "note": "durations measured, starts are not"},
        "traceEvents": events,
    }


def _name(kind: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}
