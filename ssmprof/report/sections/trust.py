"""How far can this be believed? Grade, checks, failures, environment, clocks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ssmprof.analysis import Analysis
from ssmprof.analysis.compare.answer import Answer, LimitKind
from ssmprof.analysis.decide.rules import RULES
from ssmprof.records import Check, Environment, Run, TelemetrySample
from ssmprof.report.decided import chosen
from ssmprof.report.figures import telemetry
from ssmprof.report.names import listed
from ssmprof.report.page import Facts, Head, Listing, Part, Picture, Prose, Section
from ssmprof.report.redact import redact
from ssmprof.report.sections import evidence
from ssmprof.report.svg import to_svg
from ssmprof.report.tables import Column, Table
from ssmprof.report.theme import MARKS
from ssmprof.report.words import percent
from ssmprof.units import format_bytes, format_context

_SHOWN = (
    "device", "chip", "compute_capability", "sm_count", "cpu", "cpu_threads", "board", "l4t",
    "power_mode", "driver", "cuda", "torch", "triton", "python", "ssmprof", "git", "platform",
)  # fmt: skip


def section(run: Run, analysis: Analysis, *, identifiers: bool) -> Section:
    """Always there: a number without its conditions means nothing."""
    weight = "warning" if analysis.grade in "CD" else "plain"
    parts: list[Part] = [Prose(_grades(analysis.latencies), weight)]
    found = _found(analysis)
    if found.rows:
        parts.append(Listing(found, stacked=True))
    parts.append(Listing(_rules({row["found"] for row in found.rows}), folded=True))
    parts += evidence.claims(run, analysis)
    parts += evidence.rules_of_thumb(run)
    parts.append(Head("Where it was measured"))
    for number, machine in enumerate(run.environments.values(), start=1):
        name = "the machine" if len(run.environments) == 1 else f"machine {number}"
        parts.append(_environment(machine, identifiers=identifiers))
        if machine.calibration and machine.calibration.checks:
            parts.append(_checks(machine.calibration.checks, name))
        if machine.missing:
            parts.append(_missing(machine.missing, name))
    if run.decisions:
        parts.append(Listing(chosen(run), folded=True))
    failures = _failures(run)
    if failures.rows:
        parts.append(Listing(failures, folded=len(failures.rows) > 6))
    if telemetry.available(run.telemetry):
        title = "Clock, temperature and power"
        text = _beside(run.telemetry)
        svg = to_svg(telemetry.draw(run.telemetry), "telemetry", title, text)
        parts.append(Picture("telemetry", svg, text, title=title))
    return Section("trust", "Trust", "How far can this be believed?", tuple(parts))


def _grades(answers: Sequence[Answer]) -> str:
    """The grade of every answer, those of one grade together."""
    known: dict[str, list[str]] = {}
    for one in answers:
        known.setdefault(one.grade, []).append(_where(one))
    if len(known) == 1 and len(answers) > 1:
        return f"Trust: {answers[0].grade} for every answer."
    found = (f"{grade} for {listed(where)}" for grade, where in known.items())
    return f"Trust: {'; '.join(found) or 'nothing was measured'}."


def _where(one: Answer) -> str:
    conditions = one.conditions
    return f"{conditions.phase} b{conditions.batch} {conditions.execution}"


def _found(analysis: Analysis) -> Table:
    """Every kind of fact that limits an answer, once, with the answers it limits and their points.

    What was found, in words, stands on the first page for the answer of the heading.
    """
    said: dict[tuple[str, LimitKind], list[str]] = {}
    fixes: dict[LimitKind, str | None] = {}
    for one in analysis.latencies:
        for limit in one.limits:
            points = f" ({limit.points:,})" if limit.points else ""
            said.setdefault((limit.grade, limit.kind), []).append(f"{_where(one)}{points}")
            fixes[limit.kind] = limit.fix
    every = len(analysis.latencies)
    rows = tuple(
        {
            "grade": grade,
            "found": RULES[kind].when,
            "where": _all(where, every),
            "fix": fixes[kind],
        }
        for (grade, kind), where in sorted(said.items(), key=lambda item: -ord(item[0][0]))
    )
    columns = (
        Column("grade", "grade"),
        Column("found", "found in this run"),
        Column("where", "limits (points)"),
        Column("fix", "how to improve it"),
    )
    return Table("What the grades are made of", columns, rows)


def _all(where: Sequence[str], every: int) -> str:
    plain = len(where) == every and not any("(" in one for one in where)
    return "all" if plain else ", ".join(where)


def _rules(met: Collection[str]) -> Table:
    """The rules that nothing here met."""
    rows = tuple(
        {"grade": rule.grade, "when": rule.when} for rule in RULES.values() if rule.when not in met
    )
    return Table(
        "The other rules: D withholds the verdict, C widens or moves zones, B is noted",
        (Column("grade", "grade"), Column("when", "when")), rows,
    )  # fmt: skip


def _beside(samples: tuple[TelemetrySample, ...]) -> str:
    """The range of each strip, and how often the device throttled itself."""
    ranges = []
    for name, read in telemetry.available(samples):
        values = [value for sample in samples if (value := read(sample)) is not None]
        what, unit = name.split(", ")
        ranges.append(f"{what} {min(values):,.0f} to {max(values):,.0f} {unit}")
    share = sum(bool(sample.throttle) for sample in samples) / len(samples)
    often = f"throttled in {percent(share)} of the readings, shaded" if share else "never throttled"
    return f"Beside the run, in minutes: {', '.join(ranges)}; {often}."


def _environment(machine: Environment, *, identifiers: bool) -> Facts:
    rows: list[tuple[str, str, str]] = []
    for name in _SHOWN:
        value = getattr(machine, name)
        if value is not None:
            text = str(value) if identifiers else redact(str(value))
            rows.append((name.replace("_", " "), text, ""))
    for name in ("sm_cap_hz", "memory_cap_hz"):
        hertz = getattr(machine, name)
        if hertz is not None:
            rows.append((name.removesuffix("_hz").replace("_", " "), f"{hertz / 1e6:,.0f} MHz", ""))
    if machine.memory_bytes:
        kind = " (unified)" if machine.unified_memory else ""
        rows.append(("memory", format_bytes(machine.memory_bytes) + kind, ""))
    if machine.clocks_locked is None:
        rows.append(("clocks", "not known", ""))
    elif machine.clocks_locked:
        rows.append(("clocks", "locked", "ok"))
    else:
        rows.append(("clocks", "not locked", "warn"))
    rows += [(f"provider of {op}", name, "") for op, name in sorted(machine.providers.items())]
    return Facts(tuple(rows))


def _checks(checks: tuple[Check, ...], name: str) -> Listing:
    rows = tuple(
        {"state": MARKS[one.level], "check": one.name, "found": one.text, "fix": one.fix}
        for one in checks
    )
    columns = (
        Column("state", "state"),
        Column("check", "check"),
        Column("found", "found"),
        Column("fix", "how to improve it"),
    )
    return Listing(Table(f"Checks of {name}", columns, rows), folded=True, stacked=True)


def _missing(missing: dict[str, str], name: str) -> Listing:
    rows = tuple({"reading": name, "why": why} for name, why in sorted(missing.items()))
    columns = (Column("reading", "reading"), Column("why", "why it is missing"))
    return Listing(Table(f"Readings {name} cannot give", columns, rows), folded=True)


def _failures(run: Run) -> Table:
    """Points that no round could measure; one row per point."""
    measured = {one.point.key for one in run.measurements()}
    last = {one.point.key: one for one in run.failures() if one.point.key not in measured}
    rows = tuple(
        {
            "block": one.point.block,
            "phase": one.point.phase,
            "context_tokens": one.point.context,
            "batch": one.point.batch,
            "execution": one.point.execution,
            "reason": one.reason,
            "asked_bytes": one.asked_bytes or one.predicted_bytes,
            "detail": one.detail[:200],
        }
        for one in sorted(last.values(), key=lambda one: (one.point.block, one.point.context))
    )
    columns = (
        Column("block", "contender"),
        Column("phase", "phase"),
        Column("context_tokens", "context", format_context, numeric=True),
        Column("batch", "batch", numeric=True),
        Column("reason", "reason"),
        Column("asked_bytes", "asked", format_bytes, numeric=True),
        Column("detail", "detail", lambda text: text if len(text) < 90 else f"{text[:89]}…"),
    )
    return Table("Points that could not be measured: results, with their reason", columns, rows)
