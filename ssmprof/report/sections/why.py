"""Why? Shares of time per kernel family, launch gaps, and the heaviest kernels."""

from __future__ import annotations

from ssmprof.analysis.findings import Analysis, Dominance, Facet, Share
from ssmprof.records import Run
from ssmprof.report import rows
from ssmprof.report.facets import facets
from ssmprof.report.figures import shares as chart
from ssmprof.report.page import Cell, Grid, Listing, Part, Picture, Prose, Section
from ssmprof.report.svg import to_svg
from ssmprof.report.tables import Column, Table
from ssmprof.report.verdict import format_switch
from ssmprof.report.words import percent
from ssmprof.units import format_context, format_time

TOP = 8
_LEAST_GAP = 0.02  # below, the wall of an eager call says what the device time says
_OF = {
    "device": "device time",
    "graph-wall": "time of a graph replay",
    "eager-wall": "time of an eager call",
}
_CLASS = {"launch-bound": "bad", "mixed": "warn", "device-bound": "ok"}


def section(run: Run, analysis: Analysis) -> Section | None:
    """None without any time per kernel."""
    parts: list[Part] = []
    # Device time is always stated; the wall with its launch gaps where host and device differ.
    for of in ("device", "eager-wall"):
        for facet in _facets(run, analysis, of):
            picture = _picture(run, analysis, facet, of)
            if picture:
                parts.append(picture)
    strip = _strip(run, analysis)
    if strip:
        parts.append(strip)
    parts.extend(_kernels(run, analysis))
    if not parts:
        return None
    return Section("why", "Why", "Why? Where the time goes", tuple(parts))


def _facets(run: Run, analysis: Analysis, of: str) -> list[Facet]:
    """Per phase the first facet with shares: smallest batch, graph before eager."""
    have = {share.facet for share in analysis.shares if share.of == of}
    gaps = [share.share for share in analysis.shares if share.family == "launch-gap"]
    if of == "eager-wall" and max(gaps, default=0.0) < _LEAST_GAP:
        return []
    first: dict[str, Facet] = {}
    for facet in facets(run):
        if facet in have:
            first.setdefault(facet.phase, facet)
    return list(first.values()) if of == "device" else list(first.values())[:1]


def _picture(run: Run, analysis: Analysis, facet: Facet, of: str) -> Picture | None:
    found = [share for share in analysis.shares if share.facet == facet and share.of == of]
    panels = []
    for block in run.scenario.blocks:
        mine = [share for share in found if share.block == block.name]
        table: dict[int, dict[str, float]] = {}
        for share in mine:
            table.setdefault(share.context, {})[share.family] = share.share
        if table:
            panels.append(chart.Panel(block.name, table))
    if not panels:
        return None
    measured = {
        (one.block, one.context)
        for one in analysis.curves
        if (one.facet, one.metric) == (facet, "latency")
    }
    missing = len(measured - {(share.block, share.context) for share in found})
    key = f"shares-{of}-{facet.phase}"
    doms = [one for one in analysis.dominances if one.facet == facet and one.of == of]
    text = _halves(doms)
    if missing:
        text += f" {missing} points are left out: their parts were not taken or miss the whole."
    title = f"Share of {_OF[of]} by kernel family, {facet.phase}"
    svg = to_svg(chart.draw(panels), key, title, text)
    return Picture(key, svg, text, _table(found, f"{title}: numbers"), title)


def _halves(found: list[Dominance]) -> str:
    """Where families pass half of the time, contender by contender."""
    said: dict[str, list[str]] = {}
    for one in found:
        text = _half(one)
        if text:
            said.setdefault(one.block, []).append(text)
    return " ".join(f"{block}: {', '.join(texts)}." for block, texts in said.items())


def _half(one: Dominance) -> str:
    if one.kind == "throughout":
        return f"{one.family} is more than half at every length"
    if one.kind == "from" and one.context is not None:
        return f"{one.family} passes half from {format_switch(one.context)} tokens on"
    if one.kind == "up-to" and one.context is not None:
        return f"{one.family} is more than half up to {format_switch(one.context)} tokens"
    if one.kind == "not-reached" and one.peak_share > 0.02:
        at = format_context(one.peak_context)
        return f"{one.family} does not reach half (at most {one.peak_share * 100:.0f} % at {at})"
    return ""


def _table(found: list[Share], caption: str) -> Table:
    families = list(dict.fromkeys(share.family for share in found))
    table: dict[tuple[str, int], dict[str, object]] = {}
    for share in found:
        key = (share.block, share.context)
        row = table.setdefault(key, {"block": share.block, "context_tokens": share.context})
        row[share.family] = share.share
    columns = (
        Column("block", "contender"),
        Column("context_tokens", "context", format_context, numeric=True),
        *(Column(family, family, percent, numeric=True) for family in families),
    )
    return Table(caption, columns, tuple(table.values()))


def _strip(run: Run, analysis: Analysis) -> Grid | None:
    """Launch gap over context, one row per contender and phase."""
    if not analysis.launches:
        return None
    contexts = sorted({one.context for one in analysis.launches})
    strips: list[tuple[str, tuple[Cell, ...]]] = []
    least = min(one.facet.batch for one in analysis.launches)
    keys = dict.fromkeys(
        (one.facet, one.block)
        for one in sorted(analysis.launches, key=lambda one: one.facet.phase != "prefill")
        if one.facet.batch == least
    )
    for facet, block in keys:
        mine = {
            one.context: one
            for one in analysis.launches
            if (one.facet, one.block) == (facet, block)
        }
        cells = []
        for at in contexts:
            one = mine.get(at)
            if one is None:
                cells.append(Cell("·", "void", "not measured"))
                continue
            graph = f", {format_time(one.graph_s)} in a graph" if one.graph_s else ""
            title = f"{one.verdict}: {format_time(one.eager_s)} eager{graph}"
            cells.append(Cell(f"{one.gap * 100:.0f} %", f"pill-{_CLASS[one.verdict]}", title))
        strips.append((f"{block} {facet.phase} b{facet.batch}", tuple(cells)))
    return Grid(
        "Launch gap: share of the eager time in which the device waits for the host",
        "contender",
        tuple(format_context(at) for at in contexts),
        tuple(strips),
        "From 50 % launch-bound: use CUDA graphs first. Below 10 % device-bound.",
    )


def _kernels(run: Run, analysis: Analysis) -> list[Part]:
    """The heaviest kernels of each contender at the longest length it has them for."""
    parts: list[Part] = []
    for facet in _facets(run, analysis, "device"):
        for block in run.scenario.blocks:
            lengths = sorted(
                {s.context for s in analysis.shares if (s.facet, s.block) == (facet, block.name)}
            )
            ends = [*lengths[-1:], *(lengths[:1] if facet.phase == "prefill" else [])]
            for at in dict.fromkeys(ends):
                table = rows.kernels(run, block.name, at, facet, TOP)
                if table.rows:
                    parts.append(Listing(table, folded=True))
    if parts:
        parts.insert(0, Prose("Heaviest kernels, at the longest and the shortest length."))
    return parts
