"""Why? Shares of time per kernel family, launch gaps, and the heaviest kernels."""

from __future__ import annotations

from ssmprof.analysis import Analysis
from ssmprof.analysis.explain.dominance import CUSTOM
from ssmprof.analysis.findings import Dominance, Launch, Share
from ssmprof.records import Conditions, Run
from ssmprof.report import kernels
from ssmprof.report.figures import shares as chart
from ssmprof.report.page import Cell, Grid, Listing, Part, Picture, Prose, Section
from ssmprof.report.svg import to_svg
from ssmprof.report.tables import Column, Table
from ssmprof.report.words import percent
from ssmprof.units import format_context, format_time, format_zone

TOP = 8
_SMALL = 0.02  # a family that never takes more than this is left out of the words
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
        for conditions in _first(analysis, of):
            picture = _picture(run, analysis, conditions, of)
            if picture:
                parts.append(picture)
    strip = _strip(run, analysis)
    if strip:
        parts.append(strip)
    parts.extend(_kernels(run, analysis))
    if not parts:
        return None
    return Section("why", "Why", "Why? Where the time goes", tuple(parts))


def _first(analysis: Analysis, of: str) -> list[Conditions]:
    """Per phase the first conditions with shares: smallest batch, graph before eager."""
    have = {share.conditions for share in analysis.shares if share.of == of}
    gaps = [share.share for share in analysis.shares if share.family == "launch-gap"]
    if of == "eager-wall" and max(gaps, default=0.0) < _LEAST_GAP:
        return []
    first: dict[str, Conditions] = {}
    for conditions in analysis.conditions:
        if conditions in have:
            first.setdefault(conditions.phase, conditions)
    return list(first.values()) if of == "device" else list(first.values())[:1]


def _picture(run: Run, analysis: Analysis, conditions: Conditions, of: str) -> Picture | None:
    found = [
        share for share in analysis.shares if share.conditions == conditions and share.of == of
    ]
    panels = []
    by_block: dict[str, list[Share]] = {}
    for share in found:
        by_block.setdefault(share.block, []).append(share)
    for block in run.scenario.blocks:
        mine = by_block.get(block.name, [])
        table: dict[int, dict[str, float]] = {}
        for share in mine:
            if share.family != CUSTOM:
                table.setdefault(share.context, {})[share.family] = share.share
        if table:
            panels.append(
                chart.Panel(block.name, table, zone=_zone(analysis, conditions, block.name, of))
            )
    if not panels:
        return None
    answer = analysis.answer(conditions)
    measured = {(one.block, one.context) for one in answer.curves} if answer else set()
    missing = len(measured - {(share.block, share.context) for share in found})
    key = f"shares-{of}-{conditions.phase}"
    owned = [one for one in answer.dominance if one.of == of] if answer else []
    text = _halves(owned) or "No family is certain to own half of the time anywhere."
    if missing:
        text += f" {missing} points are left out: their parts were not taken or miss the whole."
    title = f"Share of {_OF[of]} by kernel family, {conditions.phase}"
    svg = to_svg(chart.draw(panels), key, title, text)
    families = [one for one in found if one.family != CUSTOM]  # counted in its families
    return Picture(key, svg, text, _table(families, f"{title}: numbers"), title)


def _halves(found: list[Dominance]) -> str:
    """Where families pass half of the time, contender by contender."""
    said: dict[str, list[str]] = {}
    for one in found:
        text = _half(one)
        if text:
            said.setdefault(one.block, []).append(text)
    return " ".join(f"{block}: {', '.join(texts)}." for block, texts in said.items())


def _half(one: Dominance) -> str:
    what = "the sum of custom kernels" if one.family == CUSTOM else one.family
    zone = format_zone(one.low_tokens, one.high_tokens)
    if one.kind == "throughout":
        return f"{what} is more than half at every length"
    if one.kind == "from":
        return f"{what} passes half from {zone} tokens on"
    if one.kind == "up-to":
        return f"{what} is more than half up to {zone} tokens"
    if one.kind == "several":
        return f"{what} passes half several times, at {zone} tokens"
    most = f"at most {one.peak_share * 100:.0f} % at {format_context(one.peak_tokens)}"
    if one.kind == "never" and one.peak_share > _SMALL:
        return f"{what} does not reach half ({most})"
    if one.kind == "unresolved" and one.peak_share > _SMALL:
        return f"{what} takes {most}; where it passes half is not resolved"
    return ""


def _zone(
    analysis: Analysis, conditions: Conditions, block: str, of: str
) -> tuple[int, int] | None:
    """The zone in which the scan passes half of a contender's time."""
    answer = analysis.answer(conditions)
    for one in answer.dominance if answer else ():
        if (one.block, one.of, one.family) == (block, of, "scan") and one.high_tokens:
            return one.low_tokens or one.high_tokens, one.high_tokens
    return None


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
    least = min(one.conditions.batch or 0 for one in analysis.launches)
    keys = dict.fromkeys(
        (one.conditions, one.block)
        for one in sorted(analysis.launches, key=lambda one: one.conditions.phase != "prefill")
        if (one.conditions.batch or 0) == least
    )
    known: dict[tuple[Conditions, str], dict[int, Launch]] = {}
    for one in analysis.launches:
        known.setdefault((one.conditions, one.block), {})[one.context] = one
    for conditions, block in keys:
        mine = known[conditions, block]
        cells = []
        for at in contexts:
            one = mine.get(at)
            if one is None:
                cells.append(Cell("·", "void", "not measured"))
                continue
            graph = f", {format_time(one.graph_s)} in a graph" if one.graph_s else ""
            title = f"{one.verdict}: {format_time(one.eager_s)} eager{graph}"
            cells.append(Cell(f"{one.gap * 100:.0f} %", f"pill-{_CLASS[one.verdict]}", title))
        strips.append((f"{block} {conditions.phase} b{conditions.batch}", tuple(cells)))
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
    reach: dict[tuple[Conditions, str], set[int]] = {}
    for one in analysis.shares:
        reach.setdefault((one.conditions, one.block), set()).add(one.context)
    measured = kernels.by_length(run)
    for conditions in _first(analysis, "device"):
        for block in run.scenario.blocks:
            lengths = sorted(reach.get((conditions, block.name), ()))
            ends = [*lengths[-1:], *(lengths[:1] if conditions.phase == "prefill" else [])]
            for at in dict.fromkeys(ends):
                here = measured.get((block.name, at), ())
                table = kernels.table(run, block.name, at, conditions, TOP, here)
                if table.rows:
                    parts.append(Listing(table, folded=True))
    if parts:
        parts.insert(0, Prose("Heaviest kernels, at the longest and the shortest length."))
    return parts
