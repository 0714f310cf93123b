"""Ceilings, opportunities and published claims: how good what was measured is."""

from __future__ import annotations

from ssmprof.analysis.findings import Analysis, RooflinePoint
from ssmprof.chips import chips, find_chip
from ssmprof.records import Run
from ssmprof.report import rows
from ssmprof.report.facets import name_contenders
from ssmprof.report.figures import roofline as chart
from ssmprof.report.page import Listing, Part, Picture, Section
from ssmprof.report.svg import to_svg
from ssmprof.report.tables import Column, Table
from ssmprof.report.words import percent
from ssmprof.units import format_context, format_time

_MOST_ROWS = 40


def ceilings(run: Run, analysis: Analysis) -> Section | None:
    """Roofline of the default facet at the longest context with points."""
    points = [point for point in analysis.roofline if point.time_s > 0]
    if not points:
        return None
    parts: list[Part] = []
    picture = _picture(run, points)
    if picture:
        parts.append(picture)
    table = _table(points)
    parts.append(Listing(table, folded=True))
    return Section("ceilings", "Ceilings", "How near the ceilings?", tuple(parts))


def _picture(run: Run, points: list[RooflinePoint]) -> Picture | None:
    found = _ceilings(run)
    facet = points[0].facet
    here = [p for p in points if p.facet == facet and p.flops > 0 and p.moved_bytes > 0]
    if found is None or not here:
        return None
    at = max(point.context for point in here)
    names = name_contenders(run.scenario.blocks)
    whole: dict[str, float] = {}
    for point in here:
        if point.context == at:
            whole[point.block] = max(whole.get(point.block, 0.0), point.time_s)
    marks = [
        chart.Mark(
            names[p.block].letter, p.scope, p.intensity, p.achieved, p.time_s / whole[p.block]
        )
        for p in here
        if p.context == at
    ]
    text = (
        f"Families of {facet.phase} at {format_context(at)} tokens against the ceilings; "
        "the size of a mark is its share of the time."
    )
    svg = to_svg(chart.draw(marks, found), "roofline", "Roofline", text)
    return Picture("roofline", svg, text)


def _ceilings(run: Run) -> chart.Ceilings | None:
    for machine in run.environments.values():
        calibration = machine.calibration
        if calibration and calibration.copy_bytes_per_s and calibration.matmul_flops:
            return chart.Ceilings(
                calibration.copy_bytes_per_s, calibration.matmul_flops, "measured on this device"
            )
        name = machine.chip or find_chip(machine.device)
        chip = chips().get(name) if name else None
        if chip is not None:
            peak = getattr(chip, "bf16_flop_per_s", None) or getattr(chip, "bf16_flops", None)
            moved = getattr(chip, "bytes_per_s", None) or getattr(chip, "dram_bytes_per_s", None)
            if peak and moved:
                return chart.Ceilings(moved, peak, "from the data sheet")
    return None


def _table(points: list[RooflinePoint]) -> Table:
    ordered = sorted(points, key=lambda p: (p.facet, p.block, -p.context, -p.time_s))
    found = tuple(
        {
            "block": p.block,
            "phase": p.facet.phase,
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
    return Section("do", "Opportunities", "What could be changed?", (Listing(table),))


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
        parts.append(Listing(Table(caption, table.columns, rest), folded=True))
    return Section("claims", "Claims", "Do published claims hold here?", tuple(parts))
