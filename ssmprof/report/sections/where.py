"""Where does each one win? A map of all facets over context."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import replace

from ssmprof.analysis.findings import Analysis
from ssmprof.records import Run
from ssmprof.report import rows
from ssmprof.report.comparable import least_context
from ssmprof.report.envelope import compared, tie_set
from ssmprof.report.facets import Comparison, compare, facets
from ssmprof.report.page import Cell, Grid, Listing, Section
from ssmprof.report.theme import WINNER_EDGES
from ssmprof.units import format_context, format_ratio

_MOST_FOLDED = 12


def section(run: Run, analysis: Analysis) -> Section | None:
    """The winner map and the crossovers behind it; None where there is nobody to compare."""
    comparisons = [compare(run, facet) for facet in facets(run)]
    if not any(len(one.curves) > 1 for one in comparisons):
        return None
    contexts = sorted({at for one in comparisons for at in one.tried})
    several = len({one.facet.device for one in comparisons}) > 1
    mixed = len({one.facet.dtype for one in comparisons}) > 1
    withheld = analysis.trust.withheld is not None
    caption = "The fastest contender and its lead over the runner-up"
    least = least_context(run)
    if withheld:
        caption += "; measured, but not to be relied on (see Trust)"
    elif least:
        caption += f"; below {format_context(least)} without colour, since times do not compare"
    grid = Grid(
        caption,
        "batch and phase",
        tuple(format_context(at) for at in contexts),
        tuple(
            (
                _row(one, several, mixed),
                tuple(_pale(_cell(one, at), withheld or at < least) for at in contexts),
            )
            for one in comparisons
        ),
        _legend(comparisons),
    )
    found = rows.crossovers(
        one
        for one in analysis.crossovers
        if one.metric == "latency" and (one.context or one.high or least) >= least
    )
    parts = [grid, Listing(found, folded=len(found.rows) > _MOST_FOLDED)] if found.rows else [grid]
    return Section("where", "Where", "Where does each one win?", tuple(parts))


def _pale(cell: Cell, withheld: bool) -> Cell:
    """Without its fill where no verdict is given: colour would say more than the data carry."""
    filled = cell.css.startswith(("win-", "pair-"))
    return replace(cell, css="tie") if withheld and filled else cell


def _row(one: Comparison, several: bool, mixed: bool) -> str:
    where = f"{one.facet.device}: " if several else ""
    dtype = f" {one.facet.dtype}" if mixed else ""
    return f"{where}{one.facet.phase} b{one.facet.batch} {one.facet.execution}{dtype}"


def _legend(comparisons: list[Comparison]) -> str:
    names = {curve.name.letter: curve.name.label for one in comparisons for curve in one.curves}
    letters = ", ".join(f"{letter} {label}" for letter, label in names.items())
    return f"{letters}; ≈ tied; · not measured."


def _cell(one: Comparison, at: int) -> Cell:
    here = [curve for curve in one.curves if at in curve.values]
    if not here:
        failed = [curve for curve in one.curves if at in curve.failures]
        reasons = "; ".join(f"{c.name.label}: {c.failures[at].reason}" for c in failed)
        return Cell("none fits", "none", reasons) if failed else Cell("·", "void", "not measured")
    if len(here) == 1:
        name = here[0].name
        alone = all(one.absent(c.name.block, at) for c in one.curves if c is not here[0])
        if len(one.curves) > 1 and alone:
            return Cell(
                f"{name.letter} only", f"win-{name.architecture}", f"only {name.label} fits"
            )
        return Cell(f"{name.letter} ·", "void", f"only {name.label} was measured")
    tied = tie_set(one, at)
    lead = compared(one, at)
    assert lead is not None, "two contenders were measured there"
    title = "; ".join(f"{c.name.label} {c.at(at):.4g} s" for c in here)
    if len(tied) != 1:
        letters = " ".join(one.curve(block).name.letter for block in tied)
        everyone = len(tied) == len(here) > 2
        return Cell("≈ all" if everyone else f"≈ {letters}", "tie", title)
    winner = one.curve(tied[0]).name
    fill = f"win-{winner.architecture}"
    kinds = [curve.name.architecture for curve in one.curves]
    if sorted(kinds) == ["ssm", "transformer"]:
        signed = math.log2(lead.value) * (1 if winner.architecture == "ssm" else -1)
        fill = f"pair-{bisect_right(WINNER_EDGES, signed)}"
    return Cell(f"{winner.letter} {format_ratio(lead.value)}", fill, title)
