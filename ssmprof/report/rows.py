"""Findings as tables: one function per question, the same rows for page, terminal and export."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ssmprof import limits
from ssmprof.analysis import Analysis
from ssmprof.analysis.compare.answer import Answer, Crossing, Pair, Segment
from ssmprof.analysis.findings import CurvePoint, Dominance, MemoryLaw
from ssmprof.records import Conditions
from ssmprof.report.doubts import is_doubt
from ssmprof.report.lines import View
from ssmprof.report.tables import Column, Table
from ssmprof.report.words import percent, time_with_interval
from ssmprof.units import (
    format_bytes,
    format_context,
    format_duration,
    format_ratio,
    format_time,
    format_zone,
    three_digits,
)


def number(show: Callable[[Any], str], key: str, heading: str) -> Column:
    """A column of numbers, which stand to the right."""
    return Column(key, heading, show, numeric=True)


_FACET = (Column("phase", "phase"), number(str, "batch", "batch"), Column("execution", "launch"))


def _conditions(found: Conditions) -> dict[str, Any]:
    return {
        "device": found.device,
        "phase": found.phase,
        "batch": found.batch,
        "dtype": found.dtype,
        "execution": found.execution,
        "logits": found.logits,
    }


_CROSSING = (
    Column("crossing", "crossing"),
    Column("metric", "metric"),
    *_FACET,
    Column("zone", "zone, tokens"),
    Column("why", "why"),
    Column("indifferent", "within the tie"),
)
# What `deciding` of ssmprof.analysis.compare.pairs chooses.
_SOME_PAIRS = (
    f"Pairs by themselves; of more than {limits.EVERY_PAIR} contenders, each with whoever is best "
    f"at some length, and those within {limits.ASIDE - 1:.0%} of the best with one another"
)


def crossings(answers: Iterable[Answer]) -> Table:
    """Where the winner changes, over all contenders: a row per crossing."""
    rows = [row for one in answers for row in _crossings(one, one.crossings)]
    return Table("Where the winner changes", _CROSSING, tuple(rows))


def pairs(answers: Iterable[Answer]) -> Table:
    """Crossings of every pair by itself; a pair without one has a row that says so."""
    rows: list[dict[str, Any]] = []
    caption = "Pairs by themselves"
    for one in answers:
        if len(one.contenders) > limits.EVERY_PAIR:
            caption = _SOME_PAIRS
        for pair in one.pairs:
            found = _crossings(one, pair.crossings)
            rows += found or [_without(one, pair)]
    return Table(caption, _CROSSING, tuple(rows))


def _crossings(answer: Answer, found: Iterable[Crossing]) -> list[dict[str, Any]]:
    return [
        {
            "crossing": f"{one.before} → {one.after}",
            "before": one.before,
            "after": one.after,
            "metric": answer.metric,
            **_conditions(answer.conditions),
            "kind": one.kind,
            "low_tokens": one.low_tokens,
            "high_tokens": one.high_tokens,
            "context_tokens": one.context_tokens,
            "indifferent_low_tokens": one.indifferent_low_tokens,
            "indifferent_high_tokens": one.indifferent_high_tokens,
            "why": _why(one),
            "cost_to_resolve_s": one.cost_to_resolve_s,
            "contradictions": list(one.contradictions),
            "step": one.step,
            "zone": zone_words(one),
            "indifferent": _indifferent(one),
        }
        for one in found
    ]


def _without(answer: Answer, pair: Pair) -> dict[str, Any]:
    """A pair that never changes sides, or of which that is not known."""
    return {
        "crossing": f"{pair.block}, {pair.other}",
        "before": None,
        "after": None,
        "metric": answer.metric,
        **_conditions(answer.conditions),
        "kind": "none",
        "low_tokens": pair.segments[0].low_tokens if pair.segments else None,
        "high_tokens": pair.segments[-1].high_tokens if pair.segments else None,
        "zone": "; ".join(_segment(one) for one in pair.segments) or "no common length",
        "why": None,
        "indifferent": None,
    }


def _segment(one: Segment) -> str:
    reach = format_zone(one.low_tokens, one.high_tokens)
    if len(one.winners) == 1:
        return f"{one.winners[0]} throughout ({reach})"
    return f"{'equal' if one.equal else 'not resolved'} ({reach})"


def zone_words(one: Crossing) -> str:
    """`4,352-4,480`, `A fits up to 32K`, `not resolved below 3,000`, `B may win within 2K-8K`."""
    if one.kind == "capacity":
        return f"{one.before} fits up to {format_context(one.low_tokens or 0)}"
    zone = format_zone(one.low_tokens, one.high_tokens)
    if is_doubt(one):
        return f"{one.after} may win within {zone}"
    return f"not resolved {zone}" if one.kind == "unresolved" else zone


def brief(pair: Pair, block: str) -> str:
    """From which length one of a pair is ahead, in few words: `512-8K`, `nowhere`, `equal`.

    Where it is otherwise every change of sides: `behind from 1K-2K, ahead from 3,000-16K`.
    """
    if not pair.crossings:
        return _everywhere(pair, block)
    first, *more = pair.crossings
    if first.after == block and not more:
        return zone_words(first)
    known = first.kind != "zone" and first.low_tokens is not None and not is_doubt(first)
    said = ["ahead"] if known and first.before == block else []
    for one, following in zip(pair.crossings, [*more, None], strict=True):
        said += _change(one, following, block)
    return ", ".join(said)


def _change(one: Crossing, following: Crossing | None, block: str) -> list[str]:
    """One change of sides; behind an open beginning who is ahead, where no zone says so next."""
    side = "ahead" if one.after == block else "behind"
    if one.kind == "zone":
        return [f"{side} from {zone_words(one)}"]
    if one.kind == "capacity" and one.before == block:
        return [zone_words(one).removeprefix(f"{block} ")]
    opening = one.kind == "unresolved" and one.low_tokens is None
    told = following is not None and following.kind == "zone"
    return [zone_words(one), side] if opening and not told else [zone_words(one)]


def _everywhere(pair: Pair, block: str) -> str:
    """Who is ahead where nobody hands over, but for lengths at which both are equal."""
    if not pair.segments:
        return "no common length"
    sure = {one.winners[0] for one in pair.segments if len(one.winners) == 1}
    if not sure:
        return "equal" if all(one.equal for one in pair.segments) else "not resolved"
    equal = [format_zone(one.low_tokens, one.high_tokens) for one in pair.segments if one.equal]
    return ", ".join(
        ["throughout" if block in sure else "nowhere", *(f"equal {zone}" for zone in equal)]
    )


def lost(answer: Answer, pair: Pair, block: str) -> str:
    """`, out-of-memory from 64K on`: where it could not be measured and no crossing says so."""
    failed = answer.failures.get(block, {})
    if not failed or any(one.kind == "capacity" for one in pair.crossings):
        return ""
    return f", {failed[min(failed)]} from {format_context(min(failed))} on"


def _why(one: Crossing) -> str:
    more = f", {format_duration(max(1.0, one.cost_to_resolve_s))}" if one.cost_to_resolve_s else ""
    return f"{one.why}{more}"


def _indifferent(one: Crossing) -> str | None:
    if one.indifferent_low_tokens is None:
        return None
    but = " and ".join(format_context(at) for at in one.indifferent_except[:2])
    zone = format_zone(one.indifferent_low_tokens, one.indifferent_high_tokens)
    return f"{zone} but {but}" if but else zone


def dominances(found: Iterable[Dominance]) -> Table:
    """From which length a family owns half of the time of a contender."""
    rows = tuple(
        {
            "contender": one.block,
            "family": one.family,
            "of": one.of,
            **_conditions(one.conditions),
            "kind": one.kind,
            "low_tokens": one.low_tokens,
            "high_tokens": one.high_tokens,
            "peak_share": one.peak_share,
            "peak_tokens": one.peak_tokens,
            "zone": format_zone(one.low_tokens, one.high_tokens) if one.high_tokens else None,
        }
        for one in found
    )
    columns = (
        Column("contender", "contender"),
        Column("family", "family"),
        Column("of", "share of"),
        *_FACET,
        Column("kind", "owns half"),
        Column("zone", "zone, tokens"),
        number(percent, "peak_share", "at most"),
        number(format_context, "peak_tokens", "at"),
    )
    return Table("Who owns half of the time", columns, rows)


def times(view: View, per: str = "call", per_token: bool = False) -> Table:
    """Every measured value of an answer, one row per context, one column per contender."""
    answer = view.answer
    columns = [
        number(format_context, "context_tokens", "context"),
        *(number(str, line.name.block, line.name.label) for line in view.lines),
    ]
    rows: list[dict[str, Any]] = []
    for context in answer.tried:
        row: dict[str, Any] = {"context_tokens": context}
        for line in view.lines:
            block = line.name.block
            if context in line.points:
                point = line.points[context]
                row[block] = shown(point, per_token)
                row[f"{block}_value"] = point.estimate.value
                row[f"{block}_low"], row[f"{block}_high"] = line.span(context)
            elif context in line.failures:
                row[block] = line.failures[context]
        rows.append(row)
    caption = f"{answer.metric} per {per}, with 95 % interval"
    return Table(caption, tuple(columns), tuple(rows))


def shown(point: CurvePoint, per_token: bool = False) -> str:
    """A value as a person reads it; energy per token of the call."""
    if point.metric in ("latency", "hot-latency"):
        return time_with_interval(point.estimate)
    if point.metric == "memory":
        return format_bytes(point.estimate.value)
    tokens = point.conditions.call_tokens(point.context)
    return f"{three_digits(point.estimate.value * 1e3 / (tokens if per_token else 1))} mJ"


def launches(analysis: Analysis) -> Table:
    """Share of the eager time in which the device waits for the host."""
    rows = tuple(
        {
            "block": one.block,
            **_conditions(one.conditions),
            "context_tokens": one.context,
            "eager_s": one.eager_s,
            "graph_s": one.graph_s,
            "gap": one.gap,
            "busy": one.busy,
            "verdict": one.verdict,
        }
        for one in analysis.launches
    )
    columns = (
        Column("block", "contender"),
        Column("phase", "phase"),
        number(str, "batch", "batch"),
        number(format_context, "context_tokens", "context"),
        number(format_time, "eager_s", "eager"),
        number(format_time, "graph_s", "graph"),
        number(percent, "gap", "launch gap"),
        Column("verdict", "verdict"),
    )
    return Table("Where the device waits for the host", columns, rows)


def _phase_first(one: MemoryLaw) -> tuple[bool, int]:
    return one.conditions.phase != "prefill", one.conditions.batch or 0


def memory_laws(analysis: Analysis) -> Table:
    """Fixed bytes, bytes per token, and how far each contender fits."""
    # Graph and eager launches hold the same tensors: one row for both.
    laws = {
        (one.block, one.conditions.phase, one.conditions.batch): one for one in analysis.memory_laws
    }
    rows = tuple(
        {
            "block": one.block,
            **_conditions(one.conditions),
            "fixed_bytes": one.fixed_bytes,
            "bytes_per_token": max(one.bytes_per_token, 0.0),
            "capacity_bytes": one.capacity_bytes,
            "measured_up_to_tokens": one.measured_up_to,
            "failed_at_tokens": one.failed_at,
            "predicted_limit_tokens": one.fits_up_to,
        }
        for one in sorted(laws.values(), key=_phase_first)
    )
    columns = (
        Column("block", "contender"),
        Column("phase", "phase"),
        number(str, "batch", "batch"),
        number(format_bytes, "fixed_bytes", "fixed"),
        number(lambda count: f"{count:,.0f}", "bytes_per_token", "bytes/token"),
        number(format_context, "measured_up_to_tokens", "ran up to"),
        number(format_context, "failed_at_tokens", "failed at"),
        number(format_context, "predicted_limit_tokens", "limit (predicted)"),
    )
    return Table("How memory grows, and what fits", columns, rows)


def claims(analysis: Analysis) -> Table:
    """Published claims against this run."""
    rows = tuple(
        {
            "claim": one.claim,
            "statement": one.statement,
            "source": one.source,
            "claimed": one.claimed,
            "here": one.here,
            "verdict": one.verdict,
            "why": one.why,
            "test": one.test,
        }
        for one in analysis.claims
    )
    names = (
        ("statement", "claim"), ("claimed", "claimed"), ("here", "here"), ("verdict", "verdict"),
    )  # fmt: skip
    columns = tuple(Column(key, heading) for key, heading in (*names, ("why", "why")))
    return Table("Published claims against this run", columns, rows)


def advice(analysis: Analysis) -> Table:
    """What could be changed, and at most how much it gains."""
    rows = tuple(
        {"finding": one.finding, "at_most": one.at_most, "evidence": one.evidence}
        for one in analysis.advice
    )
    columns = (
        Column("finding", "finding"),
        number(format_ratio, "at_most", "at most"),
        Column("evidence", "evidence"),
    )
    return Table("Opportunities: upper bounds computed from the run", columns, rows)
