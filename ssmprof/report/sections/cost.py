"""What does it cost? Decode time per token, time to a whole answer, energy."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from ssmprof.analysis import Analysis
from ssmprof.analysis.compare.answer import Answer
from ssmprof.records import Run
from ssmprof.report.figures import curves
from ssmprof.report.lines import View
from ssmprof.report.page import Listing, Part, Picture, Prose, Section
from ssmprof.report.rows import times
from ssmprof.report.svg import to_svg
from ssmprof.report.tables import Column, Table
from ssmprof.report.verdicts import verdicts_of, views_of
from ssmprof.units import format_context, format_time

ANSWERS = (128, 512, 2048)


def section(run: Run, analysis: Analysis) -> Section | None:
    """None where neither decode nor energy was measured."""
    parts: list[Part] = []
    views = views_of(run, analysis)
    decode = next((one for one in analysis.latencies if one.conditions.phase == "decode"), None)
    if decode is not None:
        parts.append(_decode(run, analysis, views[decode.key]))
        prefill = _matching(analysis, decode)
        if prefill is not None:
            table = _answers(views[prefill.key], views[decode.key])
            parts.append(Listing(table, True, "TTFT + N × TPOT, from the two measured times."))
    parts.extend(_energy(run, analysis))
    return Section("cost", "Cost", "What does it cost?", tuple(parts)) if parts else None


def _matching(analysis: Analysis, decode: Answer) -> Answer | None:
    """The prefill that differs from a decode in nothing but the phase and the logits."""
    wanted = replace(decode.conditions, phase="prefill", logits="none")
    have = [one for one in analysis.latencies if one.conditions.reads_whole]
    return next((one for one in have if replace(one.conditions, logits="none") == wanted), None)


def _decode(run: Run, analysis: Analysis, view: View) -> Part:
    said = verdicts_of(run, analysis)[view.answer.key]
    shown = not view.answer.withheld
    drawing = curves.Drawing(view, "decode: time per token (TPOT), ms", 1e3, zones=shown)
    title = "Decode: time per token"
    svg = to_svg(curves.draw_single(drawing), "decode", title, said.text)
    return Picture("decode", svg, said.text, times(view, "decoded token"), title)


def _answers(prefill: View, decode: View) -> Table:
    """Time to a whole answer of N tokens, per contender and context."""
    rows: list[dict[str, Any]] = []
    for line in prefill.lines:
        steps = next((one for one in decode.lines if one.name.block == line.name.block), None)
        shared = [at for at in line.contexts if steps and at in steps.points]
        for at in _few(shared):
            assert steps is not None, "shared contexts exist only where both were measured"
            row: dict[str, Any] = {
                "block": line.name.block,
                "context_tokens": at,
                "ttft_s": line.at(at),
                "tpot_s": steps.at(at),
            }
            row |= {f"answer_{n}_s": line.at(at) + n * steps.at(at) for n in ANSWERS}
            rows.append(row)
    columns = (
        Column("block", "contender"),
        Column("context_tokens", "context", format_context, numeric=True),
        Column("ttft_s", "TTFT", format_time, numeric=True),
        Column("tpot_s", "TPOT", format_time, numeric=True),
        *(
            Column(f"answer_{n}_s", f"{format_context(n)} tokens", format_time, numeric=True)
            for n in ANSWERS
        ),
    )
    return Table("Time to a whole answer", columns, tuple(rows))


def _few(contexts: list[int]) -> list[int]:
    """First, middle and last."""
    if len(contexts) < 4:
        return contexts
    return [contexts[0], contexts[len(contexts) // 2], contexts[-1]]


def _energy(run: Run, analysis: Analysis) -> list[Part]:
    views = views_of(run, analysis)
    for answer in analysis.answers:
        if answer.metric != "energy" or not answer.curves:
            continue
        conditions = answer.conditions
        mine = [one for one in analysis.energy if one.conditions == conditions]
        read = {origin for one in mine for origin in one.origins}
        if len({scope for scope, _ in read}) > 1:
            text = "; ".join(f"{source} covers the {scope}" for scope, source in sorted(read))
            return [Prose(f"Energy: not drawn, two scopes share no axis ({text}).", "warning")]
        scope, source = min(read)
        phase = conditions.phase
        heading = f"energy per token, {phase}, mJ (of the {scope})"
        view = views[answer.key]
        drawing = curves.Drawing(view, heading, 1e3, per_token=True)
        reading = f"Energy per token, {phase}, of the {scope}, idle included; read from {source}."
        svg = to_svg(
            curves.draw_single(drawing), "energy", "Energy per token over context", reading
        )
        table = times(view, "token", per_token=True)
        return [Picture("energy", svg, reading, table, "Energy per token")]
    return []  # the first page says why
