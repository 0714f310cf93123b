"""Ceilings, opportunities and published claims: how good what was measured is."""

from __future__ import annotations

from ssmprof.analysis import Analysis
from ssmprof.analysis.explain import roofline
from ssmprof.analysis.findings import RooflinePoint
from ssmprof.records import Conditions, Run
from ssmprof.report import kernels, rows
from ssmprof.report.figures import roofline as chart
from ssmprof.report.names import name_contenders
from ssmprof.report.page import Listing, Part, Picture, Section
from ssmprof.report.svg import to_svg
from ssmprof.report.tables import Column, Table
from ssmprof.report.words import percent
from ssmprof.units import format_context, format_time

_MOST_ROWS = 40
_MOST_MARKS = 14
_SHOWN = 0.08  # share of the time below which a part is left to the table
_WHOLE = "whole"
_MOST_ADVICE = 8


def ceilings(run: Run, analysis: Analysis) -> Section | None:
    """Roofline of the default conditions at its longest context, and the table of all parts."""
    points = [point for point in analysis.roofline if point.time_s > 0]
    if not points:
        return None
    conditions = next(
        conditions
        for conditions in analysis.conditions
        if any(p.conditions == conditions for p in points)
    )
    here = [point for point in points if point.conditions == conditions]
    parts: list[Part] = []
    picture = _picture(run, conditions, here)
    if picture:
        parts.append(picture)
    parts.append(Listing(_table(here), folded=True))
    return Section("ceilings", "Ceilings", "How near the ceilings?", tuple(parts))


def _picture(run: Run, conditions: Conditions, points: list[RooflinePoint]) -> Picture | None:
    machine = next((m for m in run.environments.values() if m.device == conditions.device), None)
    found = roofline.ceilings(machine, conditions.dtype) if machine else None
    at = max(point.context for point in points)
    here = [p for p in points if p.context == at and p.flops > 0 and p.moved_bytes > 0]
    if found is None or not here:
        return None
    names = name_contenders(run.scenario.blocks)
    whole: dict[str, float] = {}
    for point in here:
        whole[point.block] = max(whole.get(point.block, 0.0), point.time_s)
    ops = [p for p in here if p.scope != _WHOLE and p.time_s > _SHOWN * whole[p.block]]
    shown = sorted(ops or here, key=lambda p: -p.time_s / whole[p.block])[:_MOST_MARKS]
    families = _families(run)
    marks = [
        chart.Mark(
            names[p.block].letter,
            p.scope,
            families.get((p.block, p.scope), "other"),
            p.intensity,
            p.achieved,
            p.time_s / whole[p.block],
        )
        for p in shown
    ]
    text = (
        f"Parts of a {conditions.phase} at {format_context(at)} tokens against the ceilings; the "
        f"size of a mark is its share of the time, letters name contenders. Ceilings: "
        f"{found.source}."
    )
    limits = chart.Ceilings(found.bytes_per_s, found.flops, found.source)
    svg = to_svg(chart.draw(marks, limits), "roofline", "Roofline", text)
    return Picture(
        "roofline", svg, text, title=f"Parts of a {conditions.phase} against the ceilings"
    )


def _families(run: Run) -> dict[tuple[str, str], str]:
    """(contender, part) -> kernel family, by the first kernel seen there."""
    found: dict[tuple[str, str], str] = {}
    for one in run.measurements():
        if one.attribution is not None:
            for kernel in one.attribution.kernels:
                found.setdefault((one.point.block, kernels.place(kernel)), kernel.family)
    return found


def _table(points: list[RooflinePoint]) -> Table:
    ordered = sorted(points, key=lambda p: (p.block, -p.context, -p.time_s))
    found = tuple(
        {
            "block": p.block,
            "phase": p.conditions.phase,
            "context_tokens": p.context,
            "scope": p.scope,
            "time_s": p.time_s,
            "floor_s": p.floor_s,
            "of_ceiling": p.of_ceiling,
            "bound": p.bound,
            "source": p.source,
        }
        for p in ordered[:_MOST_ROWS]
    )
    columns = (
        Column("block", "contender"),
        Column("phase", "phase"),
        Column("context_tokens", "context", format_context, numeric=True),
        Column("scope", "part"),
        Column("time_s", "time", format_time, numeric=True),
        Column("floor_s", "at the ceiling", format_time, numeric=True),
        Column("of_ceiling", "of ceiling", percent, numeric=True),
        Column("bound", "bound by"),
    )
    return Table("Time against the ceiling of each part", columns, found)


def opportunities(analysis: Analysis) -> Section | None:
    """What could be changed; None without any finding."""
    table = rows.advice(analysis)
    if not table.rows:
        return None
    unique = tuple({row["finding"]: row for row in table.rows}.values())
    parts = [Listing(Table(table.caption, table.columns, unique[:_MOST_ADVICE]))]
    if len(unique) > _MOST_ADVICE:
        rest = unique[_MOST_ADVICE:]
        parts.append(Listing(Table(f"{len(rest)} more", table.columns, rest), folded=True))
    return Section("do", "Opportunities", "What could be changed?", tuple(parts))


def claims(analysis: Analysis) -> Section | None:
    """The ledger of published claims against this run; testable ones first."""
    table = rows.claims(analysis)
    tested = tuple(row for row in table.rows if row["verdict"] != "not-testable")
    rest = tuple(row for row in table.rows if row["verdict"] == "not-testable")
    if not table.rows:
        return None
    parts: list[Part] = []
    if tested:
        parts.append(Listing(Table(table.caption, table.columns, tested)))
    if rest:
        caption = f"{len(rest)} claims this run cannot test, and why"
        told = tuple(one for one in table.columns if one.key in ("statement", "claimed", "why"))
        parts.append(Listing(Table(caption, told, rest), folded=True))
    return Section("claims", "Claims", "Do published claims hold here?", tuple(parts))
