"""Where does each one win? A map of lengths and conditions that names the winner."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ssmprof.analysis import Analysis
from ssmprof.records import Run
from ssmprof.report import against, rows, words
from ssmprof.report.figures.curves import short
from ssmprof.report.figures.thinning import spaced
from ssmprof.report.lines import View
from ssmprof.report.page import Cell, Grid, Listing, Part, Section
from ssmprof.report.tables import Table
from ssmprof.report.theme import WINNER_EDGES
from ssmprof.report.verdicts import views_of
from ssmprof.units import format_context, format_ratio, format_time

_MOST_FOLDED = 12
_MOST_LENGTHS = 24


def section(run: Run, analysis: Analysis) -> Section | None:
    """The winner map and the crossings behind it; None where there is nobody to compare."""
    known = views_of(run, analysis)
    views = [known[one.key] for one in analysis.latencies]
    if not any(len(one.lines) > 1 for one in views):
        return None
    contexts = sorted({at for one in views for at in one.answer.tried})
    withheld = any(one.answer.withheld is not None for one in views)
    caption = "The fastest contender and its lead over the runner-up"
    least = max(one.answer.least_context for one in views)
    if withheld:
        caption += "; measured, but not to be relied on (see Trust)"
    elif least:
        caption += f"; below {format_context(least)} without colour, since times do not compare"
    lengths = spaced(contexts, _MOST_LENGTHS)
    if len(lengths) < len(contexts):
        caption += f"; {len(lengths)} of {len(contexts)} lengths, the numbers hold all"
    pale = [(one, one.answer.withheld is not None) for one in views]
    grid = Grid(
        caption,
        "context",
        tuple(words.heads(analysis.latencies)),
        tuple(
            (
                format_context(at),
                tuple(_pale(_cell(one, at), withheld or at < least) for one, withheld in pale),
            )
            for at in lengths
        ),
        _legend(views),
    )
    parts: list[Part] = [grid, *_against(views)]
    every = rows.pairs(analysis.latencies)
    crossing = replace(every, rows=tuple(row for row in every.rows if row["kind"] != "none"))
    tables = [_of_latency(one) for one in (rows.crossings(analysis.latencies), crossing)]
    parts += [
        Listing(one, folded=index > 0 or len(one.rows) > _MOST_FOLDED)
        for index, one in enumerate(tables)
        if one.rows
    ]
    return Section("where", "Where", "Where does each one win?", tuple(parts))


def _against(views: Sequence[View]) -> Iterable[Part]:
    """Each contender against the reference; filled where it is certainly ahead somewhere."""
    found = against.table(views)
    if found is None:
        return
    block, *zones = found.columns
    yield Grid(
        found.caption,
        block.heading,
        tuple(one.heading for one in zones),
        tuple(
            (
                block.cell(row),
                tuple(
                    Cell(one.cell(row), "tie" if row[f"ahead_{at}"] else "void")
                    for at, one in enumerate(zones)
                ),
            )
            for row in found.rows
        ),
        "Filled: certainly ahead somewhere. 4K-8K reads: behind up to 4K tokens, ahead from 8K on.",
    )


def _of_latency(table: Table) -> Table:
    """Without the metric, which is the same in every row, and without empty columns."""
    columns = tuple(
        column
        for column in table.columns
        if column.key != "metric" and any(row.get(column.key) is not None for row in table.rows)
    )
    return replace(table, columns=columns)


def _pale(cell: Cell, withheld: bool) -> Cell:
    """Without its fill where no verdict is given: colour would say more than the data carry."""
    filled = cell.css.startswith(("win-", "pair-"))
    return replace(cell, css="tie") if withheld and filled else cell


def _legend(views: list[View]) -> str:
    batches = {one.answer.conditions.batch for one in views}
    least = min(batch or 1 for batch in batches)
    return f"b{least} is a batch of {least}; a number is the lead over the runner-up."


def _cell(one: View, at: int) -> Cell:
    here = one.here(at)
    if not here:
        failed = [line for line in one.lines if at in line.failures]
        reasons = "; ".join(f"{line.name.label}: {line.failures[at]}" for line in failed)
        return Cell("none fits", "none", reasons) if failed else Cell("·", "void", "not measured")
    standing = one.answer.standing(at)
    if len(here) == 1:
        name = here[0].name
        gone = standing.absent if standing else ()
        if len(one.lines) > 1 and len(gone) == len(one.lines) - 1:
            return Cell(f"only {short(name.label)} fits", f"win-{name.architecture}")
        return Cell(f"{short(name.label)} alone", "void", f"only {name.label} was measured")
    title = "; ".join(f"{line.name.label} {format_time(line.at(at))}" for line in here)
    winners = standing.winners if standing else ()
    if len(winners) != 1 or standing is None or standing.lead is None:
        labels = [short(one.names[block].label) for block in winners]
        equal = standing is not None and standing.equal
        return Cell(_undecided(labels, equal), "tie", title)
    winner, lead = one.names[winners[0]], standing.lead.ratio
    fill = f"win-{winner.architecture}"
    kinds = [line.name.architecture for line in one.lines]
    if sorted(kinds) == ["ssm", "transformer"]:
        signed = math.log2(lead) * (1 if winner.architecture == "ssm" else -1)
        fill = f"pair-{bisect_right(WINNER_EDGES, signed)}"
    return Cell(f"{short(winner.label)} {format_ratio(lead)}", fill, title)


def _undecided(labels: list[str], equal: bool) -> str:
    """`a = b`, `a or b`; of more only how many."""
    if not labels:
        return "not resolved"
    if len(labels) == 2:
        return (" = " if equal else " or ").join(labels)
    return f"{len(labels)} equal" if equal else f"one of {len(labels)}"
