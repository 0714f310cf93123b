"""What a server makes of it: my workload, what fits, the surface, goodput, and what is padded."""

from __future__ import annotations

from collections.abc import Iterable

from ssmprof.analysis import Analysis
from ssmprof.analysis.surface.places import BAR
from ssmprof.analysis.surface.planes import Plane
from ssmprof.records import Run
from ssmprof.report.figures import goodput, plane
from ssmprof.report.names import Names, listed, name_contenders
from ssmprof.report.page import Head, Listing, Part, Picture, Prose, Section
from ssmprof.report.svg import to_svg
from ssmprof.report.tables import Column, Table
from ssmprof.report.words import percent
from ssmprof.report.workload import mine
from ssmprof.serving import deployed, padding
from ssmprof.units import format_bytes, format_context, format_time, three_digits

Shares = tuple[tuple[float, float], ...]
_CONTEXTS = (1_000, 8_000, 64_000)


def section(run: Run, analysis: Analysis) -> Section | None:
    """None where there is neither a workload to compute nor a batch to compare."""
    names = name_contenders(run.scenario.blocks)
    parts: list[Part] = []
    decode = next((one for one in analysis.planes if one.conditions.phase == "decode"), None)
    if decode is not None:
        parts += _plane(decode, names)
    if analysis.planes:
        parts += _checks(analysis.planes)
        parts += _goodput(run, names)
    found = mine(analysis)
    if found is not None:
        parts += [*([Head("My workload")] if parts else []), found]
    if not parts:
        return None
    if len(run.scenario.sweep.batch) > 1:
        parts += _capacity(run)
    parts += _padding(run)
    return Section("serving", "Serving", "What does a server make of it?", tuple(parts))


def _plane(found: Plane, names: Names) -> Iterable[Part]:
    """The plane of decode steps with the lines between contenders."""
    if len(found.times) < 2 or len(found.batches) < 2:
        return
    winners: dict[tuple[int, int], str] = {}
    for batch in found.batches:
        for at in sorted({at for rows in found.times.values() for at in rows.get(batch, {})}):
            winner = found.winner(batch, at)
            if winner is not None:
                winners[batch, at] = winner
    borders = [one for one in _borders(found, names) if len(one.places) > 1]
    reading = _lines(found, names)
    title = "Decode: who is fastest, by batch and context"
    svg = to_svg(plane.draw(winners, borders, names), "plane", title, reading)
    yield Picture("plane", svg, reading, _times(found), title)


def _pairs(found: Plane) -> list[tuple[str, str]]:
    """Contenders that change places somewhere, each two once."""
    have = [(edge.before, edge.after) for edge in found.edges if edge.at_tokens is not None]
    seen: dict[frozenset[str], tuple[str, str]] = {}
    for before, after in have:
        seen.setdefault(frozenset((before, after)), (before, after))
    return list(seen.values())


def _borders(found: Plane, names: Names) -> Iterable[plane.Border]:
    for one, other in _pairs(found):
        cuts = [(e.batch, e.at_tokens) for e in found.line(one, other) if e.at_tokens is not None]
        label = f"{names[one].label} = {names[other].label}"
        yield plane.Border(label, (one, other), tuple(cuts))


def _lines(found: Plane, names: Names) -> str:
    """`The transformer gives way to Mamba-2 between 8K and 16K tokens at batch 1. ...`

    The lengths are measured ones; where the line runs between them is not.
    """
    cut = [edge for edge in found.edges if edge.at_tokens is not None]
    ways = dict.fromkeys((edge.before, edge.after) for edge in cut)
    said: list[str] = []
    for way in ways:
        mine = [edge for edge in cut if (edge.before, edge.after) == way]
        ends = list({edge.batch: edge for edge in (mine[0], mine[-1])}.values())
        where = " and ".join(
            f"between {format_context(edge.low_tokens or 0)} and "
            f"{format_context(edge.high_tokens or 0)} tokens at batch {edge.batch}"
            for edge in ends
        )
        before, after = way
        said.append(f"{names[before].opening} gives way to {names[after].phrase} {where}.")
    if said:
        return " ".join([*said, "Between measured lengths the line is interpolated."])
    return " ".join(
        f"{names[one].opening} is faster than {names[other].phrase} wherever it was measured."
        for one, other in sorted({(edge.before, edge.after) for edge in found.edges})
    )


def _times(found: Plane) -> Table:
    rows = tuple(
        {"batch": batch, "context_tokens": at}
        | {block: rows.get(batch, {}).get(at) for block, rows in found.times.items()}
        for batch in found.batches
        for at in sorted({at for rows in found.times.values() for at in rows.get(batch, {})})
    )
    columns = (
        Column("batch", "batch", numeric=True),
        Column("context_tokens", "context", format_context, numeric=True),
        *(Column(block, block, format_time, numeric=True) for block in found.times),
    )
    return Table("Seconds of a decode step", columns, rows)


def _checks(found: Iterable[Plane]) -> Iterable[Part]:
    """What lies between points, held against the points that were held out."""
    rows = tuple(
        {
            "phase": one.conditions.phase, "block": miss.block, "batch": miss.batch,
            "context_tokens": miss.context, "measured_s": miss.measured_s,
            "predicted_s": miss.predicted_s, "error": miss.error,
        }
        for one in found for miss in one.missed
    )  # fmt: skip
    if not rows:
        return
    known = [row["error"] for row in rows if row["error"] is not None]
    good = sum(abs(error) <= BAR for error in known)
    worst = max((abs(error) for error in known), default=0.0)
    outside = len(rows) - len(known)
    text = (
        f"{good} of {len(known)} held-out points are predicted within {BAR:.0%} from the "
        f"others; the worst is off by {worst:.1%}."
    )
    if outside:
        text += f" {outside} more lie beyond what was measured."
    columns = (
        Column("phase", "phase"),
        Column("block", "contender"),
        Column("batch", "batch", numeric=True),
        Column("context_tokens", "context", format_context, numeric=True),
        Column("measured_s", "measured", format_time, numeric=True),
        Column("predicted_s", "predicted", format_time, numeric=True),
        Column("error", "error", lambda value: f"{value:+.1%}", numeric=True),
    )
    yield Prose(text, "plain" if good == len(known) else "warning")
    yield Listing(Table("Points that were held out", columns, rows), folded=True)


def _goodput(run: Run, names: Names) -> Iterable[Part]:
    """Simulated service over load, from the surfaces."""
    found = deployed.offered(run)
    if found is None:
        return
    shares = {one.model: one.shares for one in found.offered}
    said = [
        f"{names[one.model].label} {three_digits(one.most)}"
        for one in found.offered
        if one.most is not None
    ]
    limits = found.limits.replace("ttft=", "TTFT ").replace(",tpot=", " and TPOT ")
    reading = (
        f"Requests per second at which nine in ten stay within {limits}: "
        f"{', '.join(said) or 'none'}. Simulated from the surface: {found.prompts} made prompts of "
        f"{found.prompt_tokens:,} tokens, answers of {found.answer_tokens:,}, in the mean, memory "
        "without end; ssmprof serving replay takes yours."
    )
    held = [one.model for one in found.offered if one.held]
    if held:
        reading += f" Steps beyond the surface took its ends: {listed(held)}."
    title = "Goodput over load"
    svg = to_svg(goodput.draw(_bend(shares), names), "goodput", title, reading)
    rows = tuple(
        {"block": one.model, "rate_per_s": rate, "share": share}
        for one in found.offered for rate, share in one.shares
    )  # fmt: skip
    columns = (
        Column("block", "contender"),
        Column("rate_per_s", "requests per second", three_digits, numeric=True),
        Column("share", "within limits", percent, numeric=True),
    )
    yield Picture(
        "goodput", svg, reading, Table(f"Goodput of {found.parameters}", columns, rows), title
    )


def _bend(shares: dict[str, Shares]) -> dict[str, Shares]:
    """From an octave before anybody is late: what is below is 100 %."""
    first = min((rate for one in shares.values() for rate, share in one if share < 1), default=0.0)
    return {
        block: tuple(point for point in one if point[0] >= first / 2.5) or one
        for block, one in shares.items()
    }


def _capacity(run: Run) -> Iterable[Part]:
    """Sequences that fit on the run's device, by engine and context."""
    longest = max(run.scenario.sweep.contexts)
    contexts = [at for at in _CONTEXTS if at <= 2 * longest] or [longest]
    found = deployed.fits(run, contexts)
    rows = tuple(
        {
            "block": row.model, "engine": f"{row.engine} {row.engine_version}",
            "context_tokens": row.context_tokens, "sequences": row.sequences,
            "waste_share": row.waste_share, "separate_sequences": row.separate_sequences,
            "block_tokens": row.block_tokens, "kv_bytes_per_token": row.kv_bytes_per_token,
            "state_bytes_per_sequence": row.state_bytes_per_sequence or None,
        }
        for one in found for row in one.rows
    )  # fmt: skip
    yield Head("How many sequences fit?")
    if rows:
        columns = (
            Column("block", "contender"),
            Column("engine", "engine"),
            Column("context_tokens", "context", lambda value: f"{value:,}", numeric=True),
            Column("sequences", "sequences", lambda value: f"{value:,}", numeric=True),
            Column("waste_share", "waste", percent, numeric=True),
            Column("separate_sequences", "own pools", lambda value: f"{value:,}", numeric=True),
            Column("block_tokens", "block", lambda value: f"{value:,}", numeric=True),
            Column("kv_bytes_per_token", "keys per token", format_bytes, numeric=True),
            Column("state_bytes_per_sequence", "state", format_bytes, numeric=True),
        )
        share = percent(deployed.UTILIZATION)
        caption = (
            f"Sequences in {share} of the device's memory, less weights, by each engine's rules"
        )
        yield Listing(Table(caption, columns, rows))
    for one in found:
        if one.why_not is not None:
            yield Prose(f"{one.model}: {one.why_not}", "note")


def _padding(run: Run) -> Iterable[Part]:
    """Findings of `ssmprof advise` that follow from an engine's blocks."""
    for one in padding.advice(run):
        yield Prose(f"{one.finding} ({one.evidence}).", "note")
