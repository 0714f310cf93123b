"""Method and data: how it was measured, how to repeat it, and the numbers to take away."""

from __future__ import annotations

from ssmprof.records import Run
from ssmprof.report import embed
from ssmprof.report.contenders import slices
from ssmprof.report.page import Code, Downloads, Facts, Listing, Part, Prose, Section
from ssmprof.report.redact import redact
from ssmprof.units import format_context, format_duration

METHOD = (
    "The process is the unit of replication: every round measures each contender in a new worker, "
    "in an order that is reversed from round to round; a value is the geometric mean over rounds "
    "of the median of the samples, its 95 % interval Student t on their logarithms. Ratios are "
    "taken within a process or a round. A zone runs from the longest length certain for the one "
    "contender to the shortest certain for the other: 2.5 % of error over all lengths, noise "
    "between processes pooled where alike. Nothing is interpolated. Latency comes from a pass in "
    "which nobody listens; times per kernel and memory come from passes of their own. Speed says "
    "nothing about the quality of a model's answers, which was not measured."
)


def section(run: Run, sha256: str, *, identifiers: bool) -> Section:
    """Always there."""
    sweep, budget = run.scenario.sweep, run.scenario.budget
    contexts = ", ".join(format_context(at) for at in sweep.contexts)
    took = sum(outcome.wall_s for outcome in run.outcomes)
    rows = [
        ("contexts", contexts, ""),
        ("batch", ", ".join(map(str, sweep.batch)), ""),
        ("phases", ", ".join(sweep.phase), ""),
        ("rounds", str(budget.rounds), ""),
        ("samples per point", f"at least {budget.min_samples}", ""),
        ("outcomes", f"{len(run.outcomes):,}", ""),
        ("data sha256", sha256[:16], ""),
    ]
    if took:
        rows.append(("time at the points", format_duration(took), ""))
    parts: list[Part] = [Prose(METHOD), Facts(tuple(rows))]
    if cut := slices(run.scenario.blocks):
        parts.append(Listing(cut))
    if run.command:
        parts.append(Prose("To repeat it:", "note"))
        parts.append(Code(run.command if identifiers else redact(run.command)))
    abridged = embed.left_out(run)
    if abridged:
        parts.append(Prose(abridged, "warning"))
    parts.append(
        Downloads(
            (
                ("Run as JSON", "data-run", "run.json"),
                ("Points as CSV", "data-run", "points.csv"),
                ("Scenario as JSON", "data-scenario", "scenario.json"),
            )
        )
    )
    return Section("data", "Data", "Method and data", tuple(parts))
