"""Per-kernel times of a point as a table, and where in the block an op runs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from ssmprof.analysis.compare.conditions import device_of
from ssmprof.analysis.compare.logs import geometric_mean
from ssmprof.records import Conditions, KernelTime, Measurement, Run, median
from ssmprof.report.rows import number
from ssmprof.report.tables import Column, Table
from ssmprof.report.words import percent
from ssmprof.units import format_context, three_digits

_LAYER = re.compile(r"^(?:model\.)?layers?\.(?:\d+|\*)\.")


def place(kernel: KernelTime) -> str:
    """Where in the block an op runs: its scope without the number of the layer."""
    return _within_layer(kernel.scope) or kernel.op


@lru_cache(maxsize=4096)
def _within_layer(scope: str) -> str:
    return _LAYER.sub("", scope)


def rows_of(measured: list[Measurement], top: int | None = None) -> list[dict[str, Any]]:
    """Kernels of one point over its rounds, heaviest first; the rest summed up as "other kernels".

    Times are geometric means over the rounds; the share is of the un-instrumented whole.
    """
    times_s: dict[tuple[str, str, str, str], list[float]] = {}
    calls: dict[tuple[str, str, str, str], int] = {}
    wholes: list[float] = []
    for one in measured:
        if one.attribution is None:
            continue
        wholes.append(one.attribution.whole_s)
        sums: dict[tuple[str, str, str, str], tuple[float, int]] = {}
        for kernel in one.attribution.kernels:
            key = (kernel.family, place(kernel), kernel.kernel, kernel.provider or "")
            before, count = sums.get(key, (0.0, 0))
            sums[key] = (before + median(kernel.times_s), count + kernel.calls)
        for key, (time_s, count) in sums.items():
            times_s.setdefault(key, []).append(time_s)
            calls[key] = count
    if not wholes:
        return []
    whole_s = geometric_mean(wholes)
    rows = [
        {
            "family": family,
            "where": where,
            "kernel": kernel,
            "provider": provider or None,
            "calls": calls[family, where, kernel, provider],
            "time_s": geometric_mean(found),
            "share": geometric_mean(found) / whole_s,
        }
        for (family, where, kernel, provider), found in times_s.items()
    ]
    rows.sort(key=lambda row: -row["time_s"])
    if top is not None and len(rows) > top:
        rest = rows[top:]
        rows = rows[:top]
        rows.append(
            {
                "family": "all",
                "where": f"{len(rest)} other kernels",
                "kernel": None,
                "provider": None,
                "calls": sum(row["calls"] for row in rest),
                "time_s": sum(row["time_s"] for row in rest),
                "share": sum(row["share"] for row in rest),
            }
        )
    for row in rows:
        row["per_call_s"] = row["time_s"] / row["calls"] if row["calls"] else None
    return rows


COLUMNS = (
    Column("family", "family"),
    Column("where", "where"),
    Column("kernel", "kernel", lambda name: name if len(name) <= 44 else f"{name[:43]}…"),
    number(lambda count: f"{count:,}", "calls", "calls"),
    number(lambda s: three_digits(s * 1e6), "per_call_s", "µs/call"),
    number(lambda s: three_digits(s * 1e3), "time_s", "ms"),
    number(percent, "share", "share"),
)


def by_length(run: Run) -> dict[tuple[str, int], list[Measurement]]:
    """(contender, context) -> its measurements, for whoever asks for many of them."""
    found: dict[tuple[str, int], list[Measurement]] = {}
    for one in run.measurements():
        found.setdefault((one.point.block, one.point.context), []).append(one)
    return found


def table(
    run: Run,
    block: str,
    context: int,
    conditions: Conditions,
    top: int | None = None,
    among: Iterable[Measurement] | None = None,
) -> Table:
    """Per-kernel times of one contender at one context, `among` these measurements of the run."""
    measured = [
        one
        for one in (run.measurements() if among is None else among)
        if one.point.block == block
        and one.point.context == context
        and one.point.conditions(device_of(run, one)) == conditions
    ]
    caption = f"Kernels of {block} at {format_context(context)} tokens, {conditions.label()}"
    return Table(caption, COLUMNS, tuple(rows_of(measured, top)))
