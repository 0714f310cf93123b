"""The verdict of every facet: what `report`, `sweep` and `crossover` say of a run."""

from __future__ import annotations

from dataclasses import replace

from ssmprof.analysis.clocks import DEPENDS
from ssmprof.analysis.findings import Analysis, ClockCheck, Crossover, Facet
from ssmprof.records import Run
from ssmprof.report.comparable import comparable, least_context
from ssmprof.report.envelope import Boundary
from ssmprof.report.facets import Metric, compare, facets
from ssmprof.report.figures.curves import Switch
from ssmprof.report.verdict import Verdict, verdict
from ssmprof.units import format_context

_OPENINGS = ("Use", "The", "No", "At", "Only")  # words that are no names
_OTHER_METRICS: tuple[Metric, ...] = ("energy",)


def verdicts(run: Run, analysis: Analysis) -> dict[Facet, Verdict]:
    """One verdict per facet, in the order of the page; withheld where the run is not trusted."""
    return {
        facet: _clocked(
            _of_comparable(run, facet, analysis),
            [one for one in analysis.clocks if one.facet == facet and one.verdict == DEPENDS],
        )
        for facet in facets(run)
    }


def _of_comparable(run: Run, facet: Facet, analysis: Analysis) -> Verdict:
    """What the lengths that compare say; where none does, that none is said."""
    least = least_context(run)
    here = comparable(run, compare(run, facet))
    if least and not here.contexts and not analysis.trust.withheld:
        return Verdict(
            f"No finding: every length was shorter than {format_context(least)} tokens, where "
            "these times do not compare.",
            (),
            None,
        )
    said = verdict(
        here,
        withheld=analysis.trust.withheld,
        others=tuple(comparable(run, compare(run, facet, metric)) for metric in _OTHER_METRICS),
    )
    if not least or said.withheld:
        return said
    opening, _, rest = said.sentence.partition(" ")
    opening = opening.lower() if opening in _OPENINGS else opening
    return replace(said, sentence=f"From {format_context(least)} tokens on: {opening} {rest}")


def _clocked(said: Verdict, found: list[ClockCheck]) -> Verdict:
    """A verdict that other clocks could have turned says so, and notes both figures."""
    if said.envelope is None:
        return said
    best = said.envelope.ties
    for one in found:
        mine = {one.block, one.other}
        if not one.contexts or any(mine & set(best.get(at, ())) for at in one.contexts):
            return replace(
                said,
                sentence=f"{said.sentence} This depends on clocks.",
                notes=(one.text, *said.notes),
            )
    return said


def switches(found: Verdict, facet: Facet, analysis: Analysis) -> tuple[Switch, ...]:
    """The boundaries of a verdict, each with the bootstrap interval of its pair if it has one."""
    if found.envelope is None:
        return ()
    return tuple(
        Switch(boundary, _interval(boundary, facet, analysis.crossovers))
        for boundary in found.envelope.boundaries
        if not boundary.capacity
    )


def _interval(
    boundary: Boundary, facet: Facet, crossovers: tuple[Crossover, ...]
) -> tuple[float, float] | None:
    pair = {boundary.before, boundary.after}
    low, high = boundary.bracket
    for one in crossovers:
        if one.facet != facet or one.metric != "latency" or {one.winner, one.loser} != pair:
            continue
        if one.interval and one.context is not None and low <= one.context <= high:
            return one.interval
    return None
