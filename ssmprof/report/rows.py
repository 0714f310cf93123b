"""Findings as tables: one function per question, the same rows for page, terminal and export."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from ssmprof.analysis.findings import Analysis, Crossover, Facet, MemoryLaw
from ssmprof.records import KernelTime, Measurement, Run, median
from ssmprof.report.facets import Comparison, device_of
from ssmprof.report.intervals import over_rounds
from ssmprof.report.tables import MISSING, Column, Table
from ssmprof.report.words import interval_of_contexts, percent, time_with_interval
from ssmprof.units import format_bytes, format_context, format_ratio, format_time, three_digits

_LAYER = re.compile(r"^(?:model\.)?layers?\.(?:\d+|\*)\.")


def _number(show: Callable[[Any], str], key: str, heading: str) -> Column:
    return Column(key, heading, show, numeric=True)


_FACET = (Column("phase", "phase"), _number(str, "batch", "batch"), Column("execution", "launch"))


def _conditions(facet: Facet) -> dict[str, Any]:
    return {
        "device": facet.device,
        "phase": facet.phase,
        "batch": facet.batch,
        "dtype": facet.dtype,
        "execution": facet.execution,
        "logits": facet.logits,
    }


def crossovers(found: Iterable[Crossover]) -> Table:
    """Crossovers of every pair: where, how sure, and the measured contexts around it."""
    rows = [
        {
            "pair": f"{one.winner} > {one.loser}",
            "winner": one.winner,
            "loser": one.loser,
            "metric": one.metric,
            **_conditions(one.facet),
            "kind": one.kind,
            "context_tokens": one.context,
            "low_tokens": one.low,
            "high_tokens": one.high,
            "ci_low_tokens": one.interval[0] if one.interval else None,
            "ci_high_tokens": one.interval[1] if one.interval else None,
            "rounds": one.rounds,
            "crossover": crossover_words(one),
            "interval": interval_of_contexts(one.interval) or None,
            "bracket": _bracket(one),
            "why": one.why or one.step,
        }
        for one in found
    ]
    columns = (
        Column("pair", "pair"),
        Column("metric", "metric"),
        *_FACET,
        Column("crossover", "crossover"),
        Column("interval", "95 % CI"),
        Column("bracket", "measured bracket"),
    )
    return Table("Where one contender overtakes another", columns, tuple(rows))


def crossover_words(one: Crossover) -> str:
    """`9.3K tokens`, `between 16K and 64K`, `tie 8K-12K`, `none in 512-64K`."""
    low = format_context(one.low) if one.low else "?"
    high = format_context(one.high) if one.high else "?"
    if one.kind == "at" and one.context is not None:
        return f"between {low} and {high}" if one.wide else f"{format_context(one.context)} tokens"
    if one.kind == "band":
        return f"tie at {low}" if low == high else f"tie, {low}–{high}"
    if one.kind == "never":
        return f"none in {low}–{high}"
    if one.kind == "only-one-fits":
        return f"only {one.winner} fits above {low}"
    return f"no answer: {one.why or 'not enough was measured'}"


def _bracket(one: Crossover) -> str:
    if one.low is None or one.high is None:
        return MISSING
    if one.kind == "never":
        return f"{one.winner} ahead throughout"
    return f"{format_context(one.low)}–{format_context(one.high)}"


def times(comparison: Comparison, per: str = "call") -> Table:
    """Every measured value of a facet, one row per context, one column per contender."""
    names = [curve.name for curve in comparison.curves]
    columns = [
        _number(format_context, "context_tokens", "context"),
        *(_number(str, name.block, name.label) for name in names),
    ]
    rows = []
    for context in comparison.tried:
        row: dict[str, Any] = {"context_tokens": context}
        for curve in comparison.curves:
            block = curve.name.block
            if context in curve.values:
                found = over_rounds(list(curve.values[context].values()))
                row[block] = _shown(comparison, found)
                row[f"{block}_median"] = curve.at(context)
                row[f"{block}_low"], row[f"{block}_high"] = found.low, found.high
            elif context in curve.failures:
                row[block] = curve.failures[context].reason
        rows.append(row)
    return Table(f"{comparison.metric} per {per}, with 95 % interval", tuple(columns), tuple(rows))


def _shown(comparison: Comparison, found: Any) -> str:
    if comparison.metric == "latency":
        return time_with_interval(found)
    if comparison.metric == "memory":
        return format_bytes(found.value)
    return f"{three_digits(found.value * 1e3)} mJ"


def place(kernel: KernelTime) -> str:
    """Where in the block an op runs: its scope without the number of the layer."""
    return _LAYER.sub("", kernel.scope) or kernel.op


def kernel_rows(measured: list[Measurement], top: int | None = None) -> list[dict[str, Any]]:
    """Kernels of one point over its rounds, heaviest first; the rest summed up as "other kernels".

    Times are medians over the rounds; the share is of the un-instrumented whole.
    """
    times_s: dict[tuple[str, str, str, str], list[float]] = {}
    calls: dict[tuple[str, str, str, str], int] = {}
    wholes: list[float] = []
    for one in measured:
        if one.attribution is None:
            continue
        wholes.append(one.attribution.whole_s)
        sums: dict[tuple[str, str, str, str], tuple[float, int]] = {}
        for kernel in one.attribution.kernels:
            key = (kernel.family, place(kernel), kernel.kernel, kernel.provider or "")
            before, count = sums.get(key, (0.0, 0))
            sums[key] = (before + median(kernel.times_s), count + kernel.calls)
        for key, (time_s, count) in sums.items():
            times_s.setdefault(key, []).append(time_s)
            calls[key] = count
    if not wholes:
        return []
    whole_s = median(wholes)
    rows = [
        {
            "family": family,
            "where": where,
            "kernel": kernel,
            "provider": provider or None,
            "calls": calls[family, where, kernel, provider],
            "time_s": median(found),
            "share": median(found) / whole_s,
        }
        for (family, where, kernel, provider), found in times_s.items()
    ]
    rows.sort(key=lambda row: -row["time_s"])
    if top is not None and len(rows) > top:
        rest = rows[top:]
        rows = rows[:top]
        rows.append(
            {
                "family": "all",
                "where": f"{len(rest)} other kernels",
                "kernel": None,
                "provider": None,
                "calls": sum(row["calls"] for row in rest),
                "time_s": sum(row["time_s"] for row in rest),
                "share": sum(row["share"] for row in rest),
            }
        )
    for row in rows:
        row["per_call_s"] = row["time_s"] / row["calls"] if row["calls"] else None
    return rows


KERNEL_COLUMNS = (
    Column("family", "family"),
    Column("where", "where"),
    Column("kernel", "kernel", lambda name: name if len(name) <= 44 else f"{name[:43]}…"),
    _number(lambda count: f"{count:,}", "calls", "calls"),
    _number(lambda s: three_digits(s * 1e6), "per_call_s", "µs/call"),
    _number(lambda s: three_digits(s * 1e3), "time_s", "ms"),
    _number(percent, "share", "share"),
)


def kernels(run: Run, block: str, context: int, facet: Facet, top: int | None = None) -> Table:
    """Per-kernel times of one contender at one context."""
    measured = [
        one
        for one in run.measurements()
        if one.point.block == block
        and one.point.context == context
        and (one.point.phase, one.point.batch, one.point.execution)
        == (facet.phase, facet.batch, facet.execution)
        and (one.point.dtype, one.point.logits) == (facet.dtype, facet.logits)
        and device_of(run, one) == facet.device
    ]
    caption = f"Kernels of {block} at {format_context(context)} tokens, {facet.label()}"
    return Table(caption, KERNEL_COLUMNS, tuple(kernel_rows(measured, top)))


def launches(analysis: Analysis) -> Table:
    """Share of the eager time in which the device waits for the host."""
    rows = tuple(
        {
            "block": one.block,
            **_conditions(one.facet),
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
        _number(str, "batch", "batch"),
        _number(format_context, "context_tokens", "context"),
        _number(format_time, "eager_s", "eager"),
        _number(format_time, "graph_s", "graph"),
        _number(percent, "gap", "launch gap"),
        Column("verdict", "verdict"),
    )
    return Table("Where the device waits for the host", columns, rows)


def _phase_first(one: MemoryLaw) -> tuple[bool, int]:
    return one.facet.phase != "prefill", one.facet.batch


def memory_laws(analysis: Analysis) -> Table:
    """Fixed bytes, bytes per token, and how far each contender fits."""
    # Graph and eager launches hold the same tensors: one row for both.
    laws = {(one.block, one.facet.phase, one.facet.batch): one for one in analysis.memory_laws}
    rows = tuple(
        {
            "block": one.block,
            **_conditions(one.facet),
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
        _number(str, "batch", "batch"),
        _number(format_bytes, "fixed_bytes", "fixed"),
        _number(lambda count: f"{count:,.0f}", "bytes_per_token", "bytes/token"),
        _number(format_context, "measured_up_to_tokens", "ran up to"),
        _number(format_context, "failed_at_tokens", "failed at"),
        _number(format_context, "predicted_limit_tokens", "limit (predicted)"),
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
        _number(format_ratio, "at_most", "at most"),
        Column("evidence", "evidence"),
    )
    return Table("Opportunities: upper bounds computed from the run", columns, rows)
