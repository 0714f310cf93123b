"""Ceilings, opportunities and published claims: parts of the sections that ask for them."""

from __future__ import annotations

from dataclasses import replace

from ssmprof.analysis import Analysis
from ssmprof.analysis.decide.cautions import cautions
from ssmprof.analysis.explain import roofline
from ssmprof.analysis.findings import Advice, RooflinePoint
from ssmprof.records import Conditions, Run
from ssmprof.report import kernels, rows
from ssmprof.report.figures import curves
from ssmprof.report.figures import roofline as chart
from ssmprof.report.lines import PANELS
from ssmprof.report.names import name_contenders
from ssmprof.report.page import Fold, Head, Listing, Part, Picture, Prose
from ssmprof.report.svg import to_svg
from ssmprof.report.tables import Column, Table
from ssmprof.report.words import percent
from ssmprof.units import format_context, format_ratio, format_time

_MOST_ROWS = 40
_MOST_MARKS = 14
_SHOWN = 0.08  # share of the time below which a part is left to the table
_WHOLE = "whole"
_TESTS = ("measured", "recomputed", "none")
_CLAIM = (
    Column("statement", "claim"), Column("claimed", "claimed"), Column("here", "here"),
    Column("verdict", "verdict"), Column("why", "how"),
)  # fmt: skip
_UNTESTED = (Column("statement", "claim"), Column("why", "why not"))


def ceilings(run: Run, analysis: Analysis) -> list[Part]:
    """Roofline of the default conditions at its longest context, and the table of all parts."""
    points = [point for point in analysis.roofline if point.time_s > 0]
    if not points:
        return []
    conditions = next(
        conditions
        for conditions in analysis.conditions
        if any(p.conditions == conditions for p in points)
    )
    here = [point for point in points if point.conditions == conditions]
    picture = _picture(run, conditions, here)
    table = _table(here)
    if picture is None:
        return [Listing(table, folded=True)]
    return [replace(picture, table=table)]


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
            curves.short(names[p.block].label),
            p.scope.rsplit(".", 1)[-1],
            families.get((p.block, p.scope), "other"),
            p.intensity,
            p.achieved,
            p.time_s / whole[p.block],
        )
        for p in shown
    ]
    text = (
        f"Parts of a {conditions.phase} at {format_context(at)} tokens against the ceilings; the "
        f"size of a mark is its share of the time."
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


def opportunities(run: Run, analysis: Analysis) -> list[Part]:
    """What could be changed, grouped by what it is; then, in a line, what the answer has already.

    How far a contender is predicted to fit stands with the memory. Of a whole cast all of it is an
    appendix.
    """
    groups: dict[str, list[Advice]] = {}
    for one in analysis.advice:
        if one.group and not one.taken:
            groups.setdefault(one.group, []).append(one)
    found = tuple(
        {
            "group": group,
            "where": "; ".join(_gain(one) for one in mine),
            "evidence": f"{mine[0].where}: {mine[0].evidence}" if mine[0].at_most else None,
        }
        for group, mine in groups.items()
    )
    columns = (
        Column("group", "what"),
        Column("where", "where, and at most how much faster"),
        Column("evidence", "evidence for the largest"),
    )
    parts: list[Part] = []
    if found:
        title = "What could be changed?"
        listing = Listing(
            Table("Upper bounds, computed from this run", columns, found), stacked=True
        )
        cast = len(run.scenario.blocks) > PANELS
        parts += [Fold(title, (listing,))] if cast else [Head(title), listing]
    if taken := [one for one in analysis.advice if one.taken]:
        best = max(taken, key=lambda one: one.at_most or 0.0)
        parts.append(
            Prose(f"{best.group}: up to {_gain(best)}, is in the times above already.", "note")
        )
    return parts


def _gain(one: Advice) -> str:
    gain = f" {format_ratio(one.at_most)}" if one.at_most else ""
    return f"{one.where}{gain}"


def rules_of_thumb(run: Run) -> list[Part]:
    """What was published on such a choice and not measured here, with its sources."""
    found = cautions(run.scenario.blocks)
    if not found:
        return []
    rows = tuple(
        {"when": one.when, "statement": one.statement, "source": one.sources} for one in found
    )
    columns = (
        Column("when", "what is asked of the model"),
        Column("statement", "published rule of thumb"),
        Column("source", "source"),
    )
    caption = f"{len(rows)} rules of thumb on such a choice: published, and not measured here"
    return [Listing(Table(caption, columns, rows), folded=True, stacked=True)]


def claims(run: Run, analysis: Analysis) -> list[Part]:
    """Published claims: those measured here, then recomputed ones, then one line for the rest.

    Those that stand among the rules of thumb are left to them.
    """
    thumb = {one.statement for one in cautions(run.scenario.blocks)}
    table = rows.claims(analysis)
    if not table.rows:
        return []
    known = {one: [row for row in table.rows if row["test"] == one] for one in _TESTS}
    known["none"] = [row for row in known["none"] if row["statement"] not in thumb]
    parts: list[Part] = [Head("Do published claims hold here?")]
    if mine := known["measured"]:
        tested = Table("Published claims that this run tests", _CLAIM, tuple(mine))
        parts.append(Listing(tested, stacked=True))
    for test, columns, caption in (
        ("recomputed", _CLAIM[:-1], "claims need no run and were recomputed"),
        ("none", _UNTESTED, "claims cannot be tested by this run"),
    ):
        if mine := known[test]:
            table = Table(f"{len(mine)} {caption}", columns, tuple(mine))
            parts.append(Listing(table, folded=True, stacked=True))
    return parts
