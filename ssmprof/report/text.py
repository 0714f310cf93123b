"""The answers for a terminal: the sentence, its zones, its times and what limits it."""

from __future__ import annotations

from ssmprof.analysis import Analysis
from ssmprof.analysis.compare.answer import Answer
from ssmprof.analysis.decide.rules import SHOWN
from ssmprof.harmless import markdown_cell
from ssmprof.records import Run
from ssmprof.report import rows
from ssmprof.report.contenders import slices
from ssmprof.report.lines import View
from ssmprof.report.tables import Column, Table, render
from ssmprof.report.terminal import wrapped
from ssmprof.report.verdict import Verdict, dominance
from ssmprof.report.verdicts import verdicts_of, views_of
from ssmprof.units import format_context, format_time

_MOST_COLUMNS = 9


def summary(run: Run, analysis: Analysis, width: int | None = None) -> str:
    """Times over context and the verdict, for every set of conditions; first who is a slice.

    `width` is that of the screen it is for, if it is for one.
    """
    said, views = verdicts_of(run, analysis), views_of(run, analysis)
    cut = slices(run.scenario.blocks)
    parts = [f"{cut.caption}\n{render(cut, 'text', width)}"] if cut else []
    for one in analysis.latencies:
        table = _times(views[one.key])
        head = f"{one.conditions.label()} on {one.conditions.device}"
        below = _fitted(f"{said[one.key].text}\n{trust(one)}", width)
        parts.append(f"{_fitted(head, width)}{render(table, 'text', width)}{below}")
    return "\n".join(parts)


def _fitted(text: str, width: int | None) -> str:
    """Whole lines, for the screen if it is for one."""
    return f"{text}\n" if width is None else wrapped(text, width)


def told(view: View, said: Verdict, width: int | None = None) -> str:
    """One answer in a few lines: the sentence, its notes, dominance and trust."""
    answer = view.answer
    lines = [f"{answer.conditions.label()} on {answer.conditions.device}: {said.sentence}"]
    lines += [f"  {note}" for note in said.notes]
    if owns := dominance(answer.dominance, view.names):
        lines.append(f"  {owns}")
    lines.append(f"  {trust(answer)}")
    return _fitted("\n".join(lines), width).rstrip()


def trust(answer: Answer) -> str:
    """The grade and the facts that limit it most."""
    facts = " ".join(one.text for one in answer.limits[:SHOWN])
    return f"Trust {answer.grade}. {facts}".strip()


def _times(view: View) -> Table:
    contexts = _thinned(view.answer.tried)
    lines: list[dict[str, object]] = []
    for line in view.lines:
        row: dict[str, object] = {"block": line.name.block}
        for at in contexts:
            if at in line.points:
                row[str(at)] = format_time(line.at(at))
            elif at in line.failures:
                reason = line.failures[at]
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
    said, views = verdicts_of(run, analysis), views_of(run, analysis)
    parts = [f"# {markdown_cell(run.scenario.name)}\n\n{markdown_cell(run.scenario.question)}\n"]
    if cut := slices(run.scenario.blocks):
        parts.append(f"{cut.caption}:\n\n{render(cut, 'md')}")
    for one in analysis.latencies:
        table, verdict = _times(views[one.key]), said[one.key]
        notes = f" {'; '.join(verdict.notes)}." if verdict.notes else ""
        parts.append(
            f"## {one.conditions.label()} on {one.conditions.device}\n\n"
            f"{render(table, 'md')}\n**{verdict.sentence}**{notes}\n\n{trust(one)}\n"
        )
    found = rows.crossings(analysis.latencies)
    if found.rows:
        parts.append(f"## Crossings\n\n{render(found, 'md')}")
    return "\n".join(parts)
