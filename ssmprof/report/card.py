"""The decision card: machine, contenders, what each metric says, what would change it, what next.

It words what `analysis` found and decides nothing; the heading says who wins, the card how far.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ssmprof.analysis import Analysis
from ssmprof.analysis.compare.answer import Answer
from ssmprof.analysis.decide.question import limiting, may_turn, next_command, turns
from ssmprof.analysis.decide.rules import SHOWN
from ssmprof.analysis.findings import Metric
from ssmprof.models.recipe import Recipe
from ssmprof.records import Run
from ssmprof.report.contenders import facts
from ssmprof.report.lines import PANELS, View
from ssmprof.report.names import Names, listed
from ssmprof.report.page import Decision, Ruling
from ssmprof.report.redact import redact
from ssmprof.report.rows import zone_words
from ssmprof.report.verdicts import Key
from ssmprof.report.words import ratio_with_interval
from ssmprof.spec import Subject
from ssmprof.units import format_context, three_digits

_ENERGY = {True: "this device gives no energy reading", False: "the scenario did not ask for it"}


def decision(run: Run, analysis: Analysis, views: dict[Key, View]) -> Decision:
    """The card of the answer in the heading."""
    answer = analysis.latencies[0] if analysis.latencies else None
    return Decision(
        machine=_machine(run, answer),
        contenders=_contenders(run.scenario.blocks),
        rulings=tuple(_rulings(run, analysis, views)),
        turns=_turns(answer, analysis, views) if answer else (),
        limits=_limits(answer) if answer else (),
        command=next_command(answer) if answer else "ssmprof doctor",
    )


def _machine(run: Run, answer: Answer | None) -> str:
    """Device and software of the heading's answer."""
    machines = list(run.environments.values())
    mine = [one for one in machines if answer and one.device == answer.conditions.device]
    if not (mine or machines):
        return "Device and software are not known."
    one = (mine or machines)[0]
    software = {
        "driver": one.driver, "CUDA": one.cuda, "PyTorch": one.torch, "Triton": one.triton,
        "ssmprof": one.ssmprof,
    }  # fmt: skip
    said = [f"{name} {redact(value)}" for name, value in software.items() if value]
    return ", ".join([redact(one.device), *said])


def _contenders(subjects: Sequence[Subject]) -> tuple[str, ...]:
    """`mamba2: 4 layers, width 1,024, 25.6 M parameters`, a line each; of many, a line for all of
    whom the same is said."""
    if len(subjects) <= PANELS:
        return tuple(f"{one.name}: {_said(one)}" for one in subjects)
    alike: dict[str, list[str]] = {}
    for one in subjects:
        alike.setdefault(_said(one), []).append(one.name)
    return tuple(f"{', '.join(names)}: {said}" for said, names in alike.items())


def _said(subject: Subject) -> str:
    """`4 layers, width 1,024, 25.6 M parameters, slice of 4 of 48 layers`."""
    found = facts(subject)
    said: list[str] = []
    if found["layer_count"]:
        count = found["layer_count"]
        said.append(f"{count} {'layer' if count == 1 else 'layers'}")
    if isinstance(subject, Recipe):
        said.append(f"width {subject.d_model:,}")
    if found["params"]:
        said.append(f"{three_digits(found['params'] / 1e6)} M parameters")
    if isinstance(subject, Recipe) and subject.slice is not None:
        said.append(f"slice of {subject.slice.layers} of {subject.slice.whole} layers")
    return ", ".join(said) or subject.architecture


def _rulings(run: Run, analysis: Analysis, views: dict[Key, View]) -> Iterable[Ruling]:
    for phase in ("prefill", "decode"):
        found = next((one for one in analysis.latencies if one.conditions.phase == phase), None)
        yield _ruling(phase.capitalize(), found, views, "not measured")
    first = analysis.latencies[0].conditions if analysis.latencies else None
    metrics: tuple[tuple[Metric, str, str], ...] = (
        ("memory", "Memory", "not measured"),
        ("energy", "Energy", _ENERGY[run.scenario.passes.energy]),
    )
    for metric, name, missing in metrics:
        mine = analysis.answer(first, metric) if first else None
        yield _ruling(name, mine, views, missing)


def _ruling(name: str, answer: Answer | None, views: dict[Key, View], missing: str) -> Ruling:
    """Who leads at both ends of the range, by how much, and where that changes."""
    if answer is None or not answer.standings:
        return Ruling(name, (missing,))
    if answer.withheld is not None:
        return Ruling(name, ("no verdict",))
    names = views[answer.key].names
    decided = [one for one in answer.standings if one.context >= answer.least_context]
    ends = dict.fromkeys(one.context for one in (*decided[:1], *decided[-1:]))
    lines = [f"{format_context(at)}: {_leader(answer, at, names)}" for at in ends]
    for one in answer.crossings[:2]:
        change = f"{names[one.before].label} → {names[one.after].label}"
        lines.append(f"{change}: {zone_words(one)}")
    if len(answer.crossings) > 2:
        lines.append(f"{len(answer.crossings) - 2} more changes: see Where")
    return Ruling(name, tuple(lines))


def _leader(answer: Answer, at: int, names: Names) -> str:
    standing = answer.standing(at)
    winners = [names[block].label for block in standing.winners] if standing else []
    if standing is None or not winners:
        return "not resolved"
    if len(winners) > 1:
        return f"{listed(winners)} {'equal' if standing.equal else 'not resolved'}"
    lead = f" {ratio_with_interval(standing.lead)}" if standing.lead else " alone"
    return f"{winners[0]}{lead}"


def _turns(answer: Answer, analysis: Analysis, views: dict[Key, View]) -> tuple[str, ...]:
    names = views[answer.key].names
    # Slices are spoken of beside the grade.
    found = [one.text for one in may_turn(answer) if one.kind != "unequal-slices"]
    for one in turns(answer, analysis.latencies):
        at = listed([format_context(context) for context in one.contexts[:4]])
        more = f" and {len(one.contexts) - 4} more" if len(one.contexts) > 4 else ""
        found.append(f"{one.conditions.label()}: {names[one.winner].phrase} at {at}{more} tokens.")
    return tuple(found) or ("Nothing else that was measured here.",)


def _limits(answer: Answer) -> tuple[str, ...]:
    found = limiting(answer)
    rest = len(found) - SHOWN
    more = (f"{rest} more: see Trust.",) if rest > 0 else ()
    return (*(one.text for one in found[:SHOWN]), *more) or ("Nothing: all checks pass.",)
