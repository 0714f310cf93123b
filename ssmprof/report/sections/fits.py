"""Does it fit? Memory by owner over context, and the limit of each contender."""

from __future__ import annotations

from ssmprof.analysis import Analysis
from ssmprof.analysis.findings import MemoryPoint
from ssmprof.records import Conditions, Run
from ssmprof.report import rows
from ssmprof.report.figures import curves
from ssmprof.report.figures import memory as chart
from ssmprof.report.lines import PANELS, reference, unshown
from ssmprof.report.page import Fold, Listing, Part, Picture, Section
from ssmprof.report.svg import to_svg
from ssmprof.report.tables import Column, Table
from ssmprof.report.verdicts import views_of
from ssmprof.report.words import percent
from ssmprof.units import format_bytes, format_context

# Names of owners in the analysis -> those of the chart.
_OWNERS = {
    "weights": "weights",
    "kv": "KV cache",
    "conv_state": "convolution window",
    "ssm_state": "SSM state",
    "logits": "logits",
    "activation": "activations",
    "activations": "activations",
    "activation_peak": "activations",
}


def section(run: Run, analysis: Analysis) -> Section | None:
    """None without any memory reading."""
    parts: list[Part] = []
    owners: list[Part] = []
    cast = len(run.scenario.blocks) > PANELS
    for conditions in _first(analysis):
        peaks, filled = _pictures(run, analysis, conditions)
        parts.append(peaks)
        (owners if cast else parts).extend(filled)
    if owners:
        parts.append(Fold("What fills it", tuple(owners)))
    laws = rows.memory_laws(analysis)
    if laws.rows:
        parts.append(Listing(laws, folded=True))
    return Section("fits", "Fits", "Does it fit?", tuple(parts)) if parts else None


def _first(analysis: Analysis) -> list[Conditions]:
    have = {point.conditions for point in analysis.memory if point.fits}
    first: dict[str, Conditions] = {}
    for conditions in analysis.conditions:
        if conditions in have:
            first.setdefault(conditions.phase, conditions)
    return list(first.values())


def _pictures(
    run: Run, analysis: Analysis, conditions: Conditions
) -> tuple[Picture, list[Picture]]:
    """Peaks over context, and what they consist of where that is known."""
    points = [point for point in analysis.memory if point.conditions == conditions]
    capacity = next(
        (
            law.capacity_bytes
            for law in analysis.memory_laws
            if law.conditions == conditions and law.capacity_bytes
        ),
        None,
    )
    view = views_of(run, analysis)[conditions, "memory"]
    largest = max(line.at(at) for line in view.lines for at in line.contexts)
    unit, name = chart.unit_of(largest)
    near = capacity is not None and capacity < 64 * largest
    drawing = curves.Drawing(
        view,
        f"peak memory of a {conditions.phase} call, {name}",
        1 / unit,
        capacity=(float(capacity), "device memory") if near and capacity else None,
    )
    reading = _reading(points, conditions)
    key = f"memory-{conditions.phase}"
    title = f"Peak memory, {conditions.phase}"
    lines = to_svg(curves.draw_single(drawing), key, title, reading)
    peaks = Picture(key, lines, reading, rows.times(view, f"{conditions.phase} call"), title)
    by_block: dict[str, list[MemoryPoint]] = {}
    for point in points:
        by_block.setdefault(point.block, []).append(point)
    panels = {
        block.name: panel
        for block in run.scenario.blocks
        if (panel := _panel(by_block.get(block.name, []), block.name))
    }
    if not panels:
        return peaks, []
    wanted = {line.name.block for line in view.foremost(PANELS, reference(view))}
    drawn = [panel for name, panel in panels.items() if name in wanted]
    text = _most(drawn, conditions.phase) + unshown(len(panels) - len(drawn))
    stack = to_svg(chart.draw(drawn, capacity), f"{key}-parts", f"{title}, by owner", text)
    fills = f"What fills it, {conditions.phase}"
    table = _owners(list(panels.values()), conditions.phase)
    return peaks, [Picture(f"{key}-parts", stack, text, table, fills)]


def _most(panels: list[chart.Panel], phase: str) -> str:
    """What holds most of each contender's peak at its longest length."""
    said = []
    for panel in panels:
        at = max(panel.parts)
        owner, count = max(panel.parts[at].items(), key=lambda item: item[1])
        share = percent(count / sum(panel.parts[at].values()))
        said.append(f"{panel.title} at {format_context(at)} {owner} {share}")
    return f"The largest owner in a {phase}: {', '.join(said)}."


def _owners(panels: list[chart.Panel], phase: str) -> Table:
    """Bytes per owner at both ends of each contender's range."""
    rows = tuple(
        {"block": panel.title, "context_tokens": at, **panel.parts[at]}
        for panel in panels
        for at in dict.fromkeys((min(panel.parts), max(panel.parts)))
    )
    owners = [name for name in chart.OWNERS if any(row.get(name) for row in rows)]
    columns = (
        Column("block", "contender"),
        Column("context_tokens", "context", format_context, numeric=True),
        *(Column(owner, owner, format_bytes, numeric=True) for owner in owners),
    )
    return Table(f"Memory by owner, {phase}, at the shortest and the longest length", columns, rows)


def _panel(points: list[MemoryPoint], block: str) -> chart.Panel | None:
    parts: dict[int, dict[str, int]] = {}
    misfits = []
    for point in points:
        if not point.fits or point.peak_bytes is None:
            misfits.append(point.context)
            continue
        owned: dict[str, int] = {}
        for name, count in point.parts.items():
            owner = _OWNERS.get(name, "other")
            owned[owner] = owned.get(owner, 0) + count
        parts[point.context] = owned
    return chart.Panel(block, parts, tuple(misfits)) if parts else None


def _reading(points: list[MemoryPoint], conditions: Conditions) -> str:
    fits = [point for point in points if point.fits and point.peak_bytes is not None]
    at = max(point.context for point in fits)
    longest = sorted((p for p in fits if p.context == at), key=lambda p: p.peak_bytes or 0)
    text = ", ".join(f"{p.block} {format_bytes(p.peak_bytes or 0)}" for p in longest)
    gone = [f"{p.block} at {format_context(p.context)}" for p in points if not p.fits]
    missing = f" Did not fit: {', '.join(dict.fromkeys(gone))}." if gone else ""
    return (
        f"Peak of live tensors, {conditions.phase} at {format_context(at)} tokens: {text}.{missing}"
    )
