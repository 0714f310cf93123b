"""Rows of the benchmark against the bars of shapes.toml: medians, intervals, geometric means.

Promises: pure arithmetic on rows, no torch. A ratio is peer time over our time, taken per round in
which both ran, so drift of the clock cancels; its interval is the distribution-free one of the
median.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Any

OWN = "ssmprof"
Row = dict[str, Any]


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """Median and the order statistics that hold it with at least 95 % (all values when few)."""
    ordered = sorted(values)
    n = len(ordered)
    below = 0
    tail = 0.5**n
    # Largest k with P(Binomial(n, 1/2) <= k - 1) <= 2.5 %.
    while below + 1 < n / 2 and tail <= 0.025:
        below += 1
        tail += math.comb(n, below) * 0.5**n
    low = max(0, below - 1)
    return statistics.median(ordered), ordered[low], ordered[n - 1 - low]


def geometric_mean(values: Iterable[float]) -> float:
    """exp(mean(log)); NaN of nothing."""
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def kept(row: Row, where: dict[str, int]) -> bool:
    """Whether a cell lies in the part of the grid that `where` names."""
    tests = {
        "min_length": lambda w: row["length"] >= w,
        "max_length": lambda w: row["length"] <= w,
        "min_batch": lambda w: row["batch"] >= w,
        "max_batch": lambda w: row["batch"] <= w,
        "min_width": lambda w: row["width"] >= w,
        "not_multiple_of": lambda w: row["length"] % w != 0,
    }
    return all(tests[key](value) for key, value in where.items())


def _cell(row: Row) -> tuple[Any, ...]:
    return row["op"], row["shape"], row["length"], row["batch"], row["mode"]


def ratios(
    rows: list[Row], op: str, peer: str, mode: str, where: dict[str, int], mine: str = OWN
) -> list[float]:
    """Peer time over `mine` per cell; of several peers of that prefix the fastest counts."""
    own = {_cell(r): r["ms"] for r in rows if r["provider"] == mine and r["ms"] is not None}
    best: dict[tuple[Any, ...], float] = {}
    for r in rows:
        if r["op"] == op and r["mode"] == mode and kept(r, where) and r["ms"] is not None:
            name = r["provider"]
            if (name == peer or name.startswith(f"{peer}-")) and _cell(r) in own:
                best[_cell(r)] = min(r["ms"], best.get(_cell(r), math.inf))
    return [ms / own[cell] for cell, ms in best.items()]


def judge(rows: list[Row], table: dict[str, Any]) -> list[Row]:
    """One line per bar: the reached figure, floor and aim, and whether each is met."""
    lines: list[Row] = []
    for bar in table.get("bar", []):
        where, mode, mine = bar.get("where", {}), bar.get("mode", "graph"), bar.get("own", OWN)
        found = ratios(rows, bar["op"], bar["peer"], mode, where, mine)
        if not found:
            continue
        worst = min(found)
        reached = geometric_mean(found)
        lines.append(
            {
                "op": bar["op"],
                "own": mine,
                "early": _early(rows, bar["op"], mine),
                "against": bar["peer"],
                "mode": mode,
                "where": where,
                "cells": len(found),
                "reached": reached,
                "worst": worst,
                "floor": bar["floor"],
                "aim": bar["aim"],
                "floor_met": reached >= bar["floor"] and worst >= bar.get("cell", 0.0),
                "aim_met": reached >= bar["aim"],
            }
        )
    for bar in table.get("share", []):
        mine = bar.get("own", OWN)
        own = [r for r in rows if r["op"] == bar["op"] and r["provider"] == mine]
        own = [r for r in own if r["mode"] == "graph" and kept(r, bar["where"])]
        found = [_share(r, bar["ceiling"]) for r in own if r["ms"] is not None]
        if found:
            reached = geometric_mean(found)
            lines.append(
                {
                    "op": bar["op"],
                    "own": mine,
                    "early": _early(rows, bar["op"], mine),
                    "against": f"{bar['ceiling']} ceiling",
                    "mode": "graph",
                    "where": bar["where"],
                    "cells": len(found),
                    "reached": reached,
                    "worst": min(found),
                    "floor": bar["floor"],
                    "aim": bar["aim"],
                    "floor_met": reached >= bar["floor"],
                    "aim_met": reached >= bar["aim"],
                }
            )
    return lines


def _early(rows: list[Row], op: str, provider: str) -> bool | None:
    """Whether the provider's updates start early; None where nothing of the kind exists."""
    of_it = (r for r in rows if r["op"] == op and r["provider"] == provider)
    return next((r.get("early") for r in of_it), None)


def _share(row: Row, ceiling: str) -> float:
    names = ("bandwidth", "matrix", "exponentials", "launch")
    if ceiling == "any":
        return max(row[f"share_{name}"] for name in names)
    return row[f"share_{ceiling}"]
