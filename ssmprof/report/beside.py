"""Several devices' answers to one question, and what certainly changes between them."""

from __future__ import annotations

from ssmprof.analysis import Analysis
from ssmprof.analysis.compare.answer import Answer
from ssmprof.analysis.compare.devices import Difference, Moved, Opposite, beside, differences
from ssmprof.records import Run
from ssmprof.report.names import Names, name_contenders
from ssmprof.report.tables import Column, Table
from ssmprof.report.verdicts import verdicts_of
from ssmprof.units import format_context, format_zone

NOTHING = "nothing that is certain"


def questions(analysis: Analysis) -> list[list[Answer]]:
    """The answers by latency that several devices gave to the same question."""
    return [group for group in beside(analysis.latencies) if len(group) > 1]


def table(run: Run, analysis: Analysis) -> Table | None:
    """A row per question and device: its answer, and how it differs from the first device's."""
    groups = questions(analysis)
    if not groups:
        return None
    said, names = verdicts_of(run, analysis), name_contenders(run.scenario.blocks)
    rows: list[dict[str, object]] = []
    for group in groups:
        changes: list[Difference | None] = [None, *differences(group)]
        for answer, change in zip(group, changes, strict=True):
            rows.append(
                {
                    "conditions": answer.conditions.label(),
                    "device": answer.conditions.device,
                    "answer": said[answer.key].sentence,
                    "grade": answer.grade,
                    "changes": None if change is None else words(change, names) or NOTHING,
                }
            )
    columns = (
        Column("conditions", "conditions"),
        Column("device", "device"),
        Column("answer", "answer"),
        Column("grade", "trust"),
        Column("changes", f"what changes from {_first(groups)}"),
    )
    return Table("Devices side by side", columns, tuple(rows))


def told(run: Run, analysis: Analysis) -> list[str]:
    """What certainly changes between devices, one line for each question and device."""
    names = name_contenders(run.scenario.blocks)
    lines: list[str] = []
    for group in questions(analysis):
        for found in differences(group):
            where = f"{found.conditions.label()}, {found.device} and {found.device_there}"
            lines.append(f"{where}: {words(found, names) or NOTHING} changes.")
    return lines


def words(found: Difference, names: Names) -> str:
    """The certain differences of two answers in words; nothing where there are none."""
    pairs: dict[tuple[str, str], list[Opposite]] = {}
    for one in found.opposite:
        here = one.ratio < 1
        winner, loser = (one.block, one.other) if here else (one.other, one.block)
        pairs.setdefault((winner, loser), []).append(one)
    said = [
        f"{_name(loser, names)} beats {_name(winner, names)} at {_lengths(mine)} "
        f"on {found.device_there}, and loses on {found.device}"
        for (winner, loser), mine in pairs.items()
    ]
    said += [_moved(one, found, names) for one in found.moved]
    return "; ".join(said)


def _moved(one: Moved, found: Difference, names: Names) -> str:
    here, there = (
        format_zone(crossing.low_tokens, crossing.high_tokens) for crossing in (one.here, one.there)
    )
    after, before = _name(one.here.after, names), _name(one.here.before, names)
    return (
        f"{after} takes over from {before} at {there} on {found.device_there}, "
        f"at {here} on {found.device}"
    )


def _lengths(found: list[Opposite]) -> str:
    contexts = sorted(one.context for one in found)
    return ", ".join(format_context(at) for at in contexts)


def _name(block: str, names: Names) -> str:
    return names[block].label if block in names else block


def _first(groups: list[list[Answer]]) -> str:
    return groups[0][0].conditions.device
