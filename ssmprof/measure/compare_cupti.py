"""Per-op event times against CUPTI, op by op: the table that says how far parts can be trusted.

Both instruments time the same captured call, one after the other: events in a graph marked at every
op, CUPTI in a graph that carries no mark inside. An op of several kernels is held against the span
from the first one's start to the last one's end.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct, structs

from ssmprof.measure.attribution import cupti, graph_events
from ssmprof.measure.attribution.intervals import short_name, total_s
from ssmprof.records import median

LEAST_S = 5e-6  # shorter ops are within the allowance whatever is measured
ALLOWED_S = 1e-6
ALLOWED_SHARE = 0.02


class OpRow(Struct, frozen=True, kw_only=True):
    """One op of one call by both instruments, in seconds."""

    block: str
    context: int
    position: int
    scope: str
    op: str
    kernel: str
    kernels: int
    event_s: float
    cupti_s: float

    @property
    def allowance_used(self) -> float:
        """|event - CUPTI| over what is allowed: 1 µs or 2 %, the larger."""
        return abs(self.event_s - self.cupti_s) / max(ALLOWED_S, ALLOWED_SHARE * self.cupti_s)


class Comparison(Struct, frozen=True, kw_only=True):
    """One call by both instruments. `closure` is |whole - sum of ops| / whole of the events."""

    block: str
    context: int
    rows: tuple[OpRow, ...]
    whole_s: float
    closure: float
    cupti_sum_s: float
    cupti_gap_s: float
    marks: int
    problem: str | None = None


def compare(
    call: Callable[[], Any],
    *,
    block: str,
    context: int,
    mark_cost_s: float,
    flush: Callable[[], None] = lambda: None,
    replays: int = 20,
    cycles: int = 20,
) -> Comparison:
    """Time every op of `call`, which must have run before, by events and by CUPTI.

    Both replay the two graphs in the same turns, with `flush` before each, so that caches, clocks
    and power are alike. Raises Untraceable where the call cannot be captured, RuntimeError where
    CUPTI sees nothing.
    """
    with torch.inference_mode():
        marked, whole_s, ends = graph_events.trace(call, replays, mark_cost_s, flush=flush)

        def turn() -> None:
            flush()
            marked.replay_s()
            flush()
            torch.cuda.synchronize()
            ends.graph.replay()

        seen = cupti.profile(turn, cycles, last=ends.kernel_count)
    problem = cupti.join(marked.intervals, seen)
    summed = total_s(marked.intervals)
    rows = [
        OpRow(
            block=block,
            context=context,
            position=position,
            scope=interval.op.scope,
            op=interval.op.op,
            kernel=short_name(interval.kernel),
            kernels=len(interval.kernels),
            event_s=median(interval.times_s),
            cupti_s=interval.span_s,
        )
        for position, interval in enumerate(marked.intervals)
        if interval.span_s is not None
    ]
    return Comparison(
        block=block,
        context=context,
        rows=tuple(rows),
        whole_s=whole_s,
        closure=abs(whole_s - summed) / whole_s,
        cupti_sum_s=median(sum(kernel.duration_s for kernel in cycle) for cycle in seen),
        cupti_gap_s=cupti.gap_s(seen),
        marks=len(marked.marker.events),
        problem=problem,
    )


def percentile(values: Iterable[float], share: float) -> float:
    """The value that `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("percentile of nothing")
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


def judged(comparisons: Iterable[Comparison]) -> list[OpRow]:
    """The rows that count: ops of 5 µs and more."""
    return [row for found in comparisons for row in found.rows if row.cupti_s >= LEAST_S]


def table(comparisons: Sequence[Comparison], *, every: bool = False) -> str:
    """The comparison as text: a line per call, and per op where it uses up its allowance."""
    lines = [
        f"{'block':<16} {'context':>8} {'ops':>4} {'>=5us':>5} {'p95':>6} {'worst':>6} "
        f"{'closure':>8} {'whole us':>11} {'CUPTI us':>11}"
    ]
    for found in comparisons:
        rows = judged([found])
        used = [row.allowance_used for row in rows] or [0.0]
        lines.append(
            f"{found.block:<16} {found.context:>8,} {len(found.rows):>4} {len(rows):>5} "
            f"{percentile(used, 0.95):>6.2f} {max(used):>6.2f} {found.closure:>8.2%} "
            f"{found.whole_s * 1e6:>11,.1f} {found.cupti_sum_s * 1e6:>11,.1f}"
            + (f"  {found.problem}" if found.problem else "")
        )
        lines += [
            f"    {row.event_s * 1e6:>10.2f} us, CUPTI {row.cupti_s * 1e6:>10.2f}  "
            f"{row.op}  {row.kernel[:60]}"
            for row in rows
            if every or row.allowance_used > 1
        ]
    return "\n".join(lines)


def write_csv(comparisons: Iterable[Comparison], path: Path) -> None:
    """Every op of every call, raw."""
    names = [field.name for field in structs.fields(OpRow)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "allowance_used"])
        for found in comparisons:
            for row in found.rows:
                values = [getattr(row, name) for name in names]
                writer.writerow([*values, f"{row.allowance_used:.3f}"])
