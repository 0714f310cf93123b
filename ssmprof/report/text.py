"""The report for a terminal: a table per facet and the verdict below it."""

from __future__ import annotations

from ssmprof.analysis.findings import Analysis
from ssmprof.harmless import markdown_cell
from ssmprof.records import Run
from ssmprof.report import rows
from ssmprof.report.conclusions import verdicts
from ssmprof.report.facets import Comparison, compare
from ssmprof.report.tables import Column, Table, render
from ssmprof.units import format_context, format_time

_MOST_COLUMNS = 9


def summary(run: Run, analysis: Analysis) -> str:
    """Median times over context and the verdict, for every facet of the run."""
    parts = []
    for facet, said in verdicts(run, analysis).items():
        table = _times(compare(run, facet))
        parts.append(f"{facet.label()} on {facet.device}\n{render(table, 'text')}{said.text}\n")
    return "\n".join(parts)


def _times(comparison: Comparison) -> Table:
    contexts = _thinned(comparison.tried)
    lines = []
    for curve in comparison.curves:
        row: dict[str, object] = {"block": curve.name.block}
        for at in contexts:
            if at in curve.values:
                row[str(at)] = format_time(curve.at(at))
            elif at in curve.failures:
                reason = curve.failures[at].reason
                row[str(at)] = "no fit" if reason in ("out-of-memory", "skipped") else reason
        lines.append(row)
    columns = [Column(str(at), format_context(at), numeric=True) for at in contexts]
    return Table("Times", (Column("block", "contender"), *columns), tuple(lines))


def _thinned(contexts: list[int]) -> list[int]:
    """At most a screen's width of contexts, ends included."""
    if len(contexts) <= _MOST_COLUMNS:
        return contexts
    last = len(contexts) - 1
    return [contexts[round(step * last / (_MOST_COLUMNS - 1))] for step in range(_MOST_COLUMNS)]


def markdown(run: Run, analysis: Analysis) -> str:
    """The same for an issue, a wiki or a CI summary."""
    parts = [f"# {markdown_cell(run.scenario.name)}\n\n{markdown_cell(run.scenario.question)}\n"]
    for facet, said in verdicts(run, analysis).items():
        table = _times(compare(run, facet))
        parts.append(
            f"## {facet.label()} on {facet.device}\n\n{render(table, 'md')}\n**{said.sentence}**"
            + (f" {'; '.join(said.notes)}." if said.notes else "")
            + "\n"
        )
    found = [one for one in analysis.crossovers if one.metric == "latency"]
    if found:
        parts.append(f"## Crossovers\n\n{render(rows.crossovers(found), 'md')}")
    parts.append(f"Trust {analysis.trust.grade}. {'; '.join(analysis.trust.reasons)}\n")
    return "\n".join(parts)
