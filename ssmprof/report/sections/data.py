"""Method and data: how it was measured, how to repeat it, and the numbers to take away."""

from __future__ import annotations

from ssmprof.records import Run
from ssmprof.report import embed
from ssmprof.report.contenders import slices
from ssmprof.report.page import Code, Downloads, Facts, Listing, Part, Prose, Section
from ssmprof.report.redact import redact
from ssmprof.report.tables import Column, Table
from ssmprof.units import format_context, format_duration

METHOD = (
    "Every round measures each contender in a new process, in an order that is reversed from round "
    "to round. A value is the geometric mean over rounds of the median of a round's samples; its "
    "95 % interval is Student's, on logarithms. A ratio is taken within a process or a round. A "
    "zone runs from the longest length certain for one contender to the shortest certain for the "
    "other, with 2.5 % of error over all lengths. Nothing is interpolated. Latency has a pass of "
    "its own, without any profiler; times per kernel and memory have theirs. Quality of a model's "
    "answers was not measured."
)
GLOSSARY = (
    ("chunk", "the tokens of a prompt that a server reads in one iteration"),
    ("closure", "how far the parts of a call miss its whole, as a share"),
    ("cold", "with a cache that holds nothing of the call before"),
    ("conditions", "device, phase, batch, dtype, launch and logits: what a comparison holds fixed"),
    ("contender", "a model, a slice or a block that is compared"),
    ("facet", "one answer of several: a phase, a batch and a way to launch"),
    ("grade", "A to D: how far an answer can be believed"),
    ("held-out point", "measured, and left out of what predicts it"),
    ("own pools", "what would fit with a pool for keys and one for states"),
    ("padding", "the empty end of the last block of a prompt"),
    ("parts", "times per kernel of one call"),
    ("provider", "the implementation that runs an op"),
    ("round", "one measurement of every point, each contender in a new process"),
    ("tie", "a difference too small to matter; by default 2 %"),
    ("TTFT, TPOT", "time to the first token, and time per token after it"),
    ("visit", "a new process at lengths near a crossing, to make its zone smaller"),
    ("zone", "the lengths between the last certain for one and the first certain for another"),
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
    parts.append(Listing(_glossary(), folded=True, stacked=True))
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


def _glossary() -> Table:
    rows = tuple({"term": term, "means": means} for term, means in GLOSSARY)
    columns = (Column("term", "term"), Column("means", "means"))
    return Table("Words of this page", columns, rows)
