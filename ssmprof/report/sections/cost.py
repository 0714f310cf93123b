"""What does it cost? Decode time per token, time to a whole answer, energy."""

from __future__ import annotations

from typing import Any

from ssmprof.analysis.curves import facets as by_facet
from ssmprof.analysis.findings import Analysis, Facet
from ssmprof.records import Measurement, Run
from ssmprof.report.conclusions import switches, verdicts
from ssmprof.report.facets import Comparison, compare, facets
from ssmprof.report.figures import curves
from ssmprof.report.page import Listing, Part, Picture, Prose, Section
from ssmprof.report.rows import times
from ssmprof.report.svg import to_svg
from ssmprof.report.tables import Column, Table
from ssmprof.units import format_context, format_time

ANSWERS = (128, 512, 2048)


def section(run: Run, analysis: Analysis) -> Section | None:
    """None where neither decode nor energy was measured."""
    parts: list[Part] = []
    decode = _first(run, "decode")
    if decode is not None:
        parts.append(_decode(run, analysis, decode))
        prefill = _matching(run, decode)
        if prefill is not None:
            table = _answers(compare(run, prefill), compare(run, decode))
            parts.append(Listing(table, reading="TTFT + N × TPOT, from the two measured medians."))
    parts.extend(_energy(run))
    return Section("cost", "Cost", "What does it cost?", tuple(parts)) if parts else None


def _first(run: Run, phase: str) -> Facet | None:
    return next((facet for facet in facets(run) if facet.phase == phase), None)


def _matching(run: Run, decode: Facet) -> Facet | None:
    """The prefill facet that differs from the decode one in nothing but the phase."""
    have = [facet for facet in facets(run) if facet.phase == "prefill"]
    same = [
        facet
        for facet in have
        if (facet.device, facet.batch, facet.dtype, facet.execution)
        == (decode.device, decode.batch, decode.dtype, decode.execution)
    ]
    return same[0] if same else None


def _decode(run: Run, analysis: Analysis, facet: Facet) -> Part:
    comparison = compare(run, facet)
    said = verdicts(run, analysis)[facet]
    drawing = curves.Drawing(
        comparison, "decode: time per token (TPOT), ms", 1e3, switches(said, facet, analysis)
    )
    title = "Decode: time per token"
    svg = to_svg(curves.draw_single(drawing), "decode", title, said.text)
    return Picture("decode", svg, said.text, times(comparison, "decoded token"), title)


def _answers(prefill: Comparison, decode: Comparison) -> Table:
    """Time to a whole answer of N tokens, per contender and context."""
    rows: list[dict[str, Any]] = []
    for curve in prefill.curves:
        steps = next((c for c in decode.curves if c.name.block == curve.name.block), None)
        shared = [at for at in curve.contexts if steps and at in steps.values]
        for at in _few(shared):
            assert steps is not None, "shared contexts exist only where both were measured"
            row: dict[str, Any] = {
                "block": curve.name.block,
                "context_tokens": at,
                "ttft_s": curve.at(at),
                "tpot_s": steps.at(at),
            }
            row |= {f"answer_{n}_s": curve.at(at) + n * steps.at(at) for n in ANSWERS}
            rows.append(row)
    columns = (
        Column("block", "contender"),
        Column("context_tokens", "context", format_context, numeric=True),
        Column("ttft_s", "TTFT", format_time, numeric=True),
        Column("tpot_s", "TPOT", format_time, numeric=True),
        *(Column(f"answer_{n}_s", f"{n:,} tokens", format_time, numeric=True) for n in ANSWERS),
    )
    return Table("Time to a whole answer", columns, tuple(rows))


def _few(contexts: list[int]) -> list[int]:
    """First, middle and last."""
    if len(contexts) < 4:
        return contexts
    return [contexts[0], contexts[len(contexts) // 2], contexts[-1]]


def _energy(run: Run) -> list[Part]:
    asked = run.scenario.passes.energy
    for facet in facets(run):
        comparison = compare(run, facet, "energy")
        if not comparison.contexts:
            continue
        read = {
            (one.energy.scope, one.energy.source)
            for one in by_facet(run.outcomes, run.environments).get(facet, [])
            if isinstance(one, Measurement) and one.energy is not None
        }
        if len({scope for scope, _ in read}) > 1:
            text = "; ".join(f"{source} covers the {scope}" for scope, source in sorted(read))
            return [Prose(f"Energy: not drawn, two scopes share no axis ({text}).", "warning")]
        scope, source = min(read)
        heading = f"energy per token, {facet.phase}, mJ (of the {scope}, source: {source})"
        drawing = curves.Drawing(comparison, heading, 1e3)
        reading = (
            f"Energy per token, {facet.phase}, of the {scope}, idle included; read from {source}."
        )
        svg = to_svg(
            curves.draw_single(drawing), "energy", "Energy per token over context", reading
        )
        return [Picture("energy", svg, reading, times(comparison, "token"), "Energy per token")]
    reason = "this device gives no energy reading" if asked else "the scenario did not ask for it"
    return [Prose(f"Energy: n/a, {reason}.", "note")]
