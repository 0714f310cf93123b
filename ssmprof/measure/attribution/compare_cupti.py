"""Per-op event times against CUPTI, op by op: the table that says how far parts can be trusted.

Both instruments time the same captured call: events in graphs marked at ops, CUPTI in the graph
that carries no mark inside. Half of the events are taken before the profiled replays and half after
them, in the same turns. Long calls rest between replays: at the power limit the clocks of one
second differ by several per cent from those of the next, and clocks would be compared, not tools.
The mean clock of either is kept beside the times. CUPTI widens the gaps between the kernels of one
op, so such an op agrees if it lies between the sum of its kernels and their span.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import torch
from msgspec import Struct, structs

from ssmprof.measure.attribution import cupti, graph_events
from ssmprof.measure.attribution.intervals import short_name, total_s
from ssmprof.measure.attribution.mark_cost import mark_cost
from ssmprof.measure.attribution.thinning import Turn
from ssmprof.measure.timing.spin import ClockSpan
from ssmprof.records import median

LEAST_S = 5e-6  # shorter ops are within the allowance whatever is measured
ALLOWED_S = 1e-6
ALLOWED_SHARE = 0.02
_HEAT_S = 0.3
_FEWEST = 6
# A call longer than this draws what the power limit allows; it rests a multiple of its own time.
_LONG_S = 2e-3
_RESTS = 3.0
_LONGEST_REST_S = 0.08


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
    span_s: float

    @property
    def allowance_used(self) -> float:
        """|event - CUPTI| over what is allowed: 1 µs or 2 %, the larger."""
        error = max(self.cupti_s - self.event_s, self.event_s - self.span_s, 0.0)
        if self.kernels <= 1:
            error = abs(self.event_s - self.cupti_s)
        return error / max(ALLOWED_S, ALLOWED_SHARE * self.cupti_s)


class Comparison(Struct, frozen=True, kw_only=True):
    """One call by both instruments. `closure` is |whole - sum of ops| / whole of the events.

    `event_hz` and `cupti_hz` are the mean SM clocks of the replays of either; `turns_ns` holds the
    raw intervals of every graph in nanoseconds (see `thinning.Turn`), `kinds` what they begin with.
    """

    block: str
    context: int
    rows: tuple[OpRow, ...]
    whole_s: float
    closure: float
    cupti_sum_s: float
    cupti_gap_s: float
    marks: int
    event_hz: float | None = None
    cupti_hz: float | None = None
    kinds: tuple[str, ...] = ()
    turns_ns: tuple[dict[str, Any], ...] = ()
    problem: str | None = None


def compare(
    call: Callable[[], Any],
    *,
    block: str,
    context: int,
    flush: Callable[[], None] = lambda: None,
    most: int = 20,
) -> Comparison:
    """Time every op of `call`, which must have run before, by events and by CUPTI.

    Both replay the same graphs in the same turns, with `flush` before each replay, so that caches,
    clocks and power are alike; at most `most` turns each. Raises Untraceable where the call cannot
    be captured, RuntimeError where CUPTI sees nothing.
    """
    pace = _Pace(flush)
    with torch.inference_mode():
        traced = graph_events.Traced(call, flush=pace)
        pace.rest_after(traced.turn().whole_s)
        began, heated = perf_counter(), 0
        while perf_counter() < began + _HEAT_S:
            traced.turn()
            heated += 1
        # Long calls vary little and cost much.
        turns = max(_FEWEST, min(most, heated))
        pace.clocks_hz.clear()
        traced.sample(turns // 2)
        before_hz, pace.clocks_hz = pace.clocks_hz, []
        seen = cupti.profile(
            traced.turn, turns, last=traced.ends.kernel_count, ignore=(ClockSpan.KERNEL,)
        )
        during_hz, pace.clocks_hz = pace.clocks_hz, []
        traced.sample(turns - turns // 2)
    kinds = traced.kinds()
    intervals, whole_s, _ = traced.finish(mark_cost())
    problem = cupti.join(intervals, seen)
    summed = total_s(intervals)
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
            cupti_s=interval.cupti_s,
            span_s=interval.span_s,
        )
        for position, interval in enumerate(intervals)
        if interval.span_s is not None and interval.cupti_s is not None
    ]
    return Comparison(
        block=block,
        context=context,
        rows=tuple(rows),
        whole_s=whole_s,
        closure=abs(whole_s - summed) / whole_s,
        cupti_sum_s=median(sum(cupti.own_s(cycle)) for cycle in seen),
        cupti_gap_s=cupti.gap_s(seen),
        marks=len(traced.marked.marker.events),
        event_hz=_median_or_none(before_hz + pace.clocks_hz),
        cupti_hz=_median_or_none(during_hz),
        kinds=tuple(short_name(kind) for kind in kinds),
        turns_ns=tuple(_nanoseconds(turn) for turn in traced.turns),
        problem=problem,
    )


class _Pace:
    """What comes before each replay: the clock of the one before is read, a rest, the flush."""

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush = flush
        self._rest_s = 0.0
        self._span = ClockSpan()
        self.clocks_hz: list[float] = []

    def __call__(self) -> None:
        self._span.end()
        clock_hz = self._span.hz()
        if clock_hz is not None:
            self.clocks_hz.append(clock_hz)
        sleep(self._rest_s)
        self._flush()
        self._span.begin()

    def rest_after(self, call_s: float) -> None:
        """Rest between replays of a call this long."""
        if call_s > _LONG_S:
            self._rest_s = min(_LONGEST_REST_S, _RESTS * call_s)


def _nanoseconds(turn: Turn) -> dict[str, Any]:
    """A turn in whole nanoseconds; events resolve 32 of them."""
    lists = {name: [round(s * 1e9) for s in getattr(turn, name)] for name in turn._fields[:-1]}
    return {**lists, "whole": round(turn.whole_s * 1e9)}


def _median_or_none(values: Sequence[float]) -> float | None:
    return median(values) if values else None


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
        f"{'closure':>8} {'whole us':>11} {'CUPTI us':>11} {'MHz':>5} {'CUPTI':>5}"
    ]
    for found in comparisons:
        rows = judged([found])
        used = [row.allowance_used for row in rows] or [0.0]
        lines.append(
            f"{found.block:<16} {found.context:>8,} {len(found.rows):>4} {len(rows):>5} "
            f"{percentile(used, 0.95):>6.2f} {max(used):>6.2f} {found.closure:>8.2%} "
            f"{found.whole_s * 1e6:>11,.1f} {found.cupti_sum_s * 1e6:>11,.1f} "
            f"{_mhz(found.event_hz):>5} {_mhz(found.cupti_hz):>5}"
            + (f"  {found.problem}" if found.problem else "")
        )
        lines += [
            f"    {row.event_s * 1e6:>10.2f} us, CUPTI {row.cupti_s * 1e6:>10.2f}  "
            f"{row.op}  {row.kernel[:60]}"
            for row in rows
            if every or row.allowance_used > 1
        ]
    return "\n".join(lines)


def _mhz(hertz: float | None) -> str:
    return "-" if hertz is None else f"{hertz / 1e6:.0f}"


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
