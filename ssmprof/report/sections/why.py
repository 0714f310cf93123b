"""Why? Shares of time per kernel family, launch gaps, and the heaviest kernels."""

from __future__ import annotations

from ssmprof.analysis import Analysis
from ssmprof.analysis.explain.dominance import CUSTOM
from ssmprof.analysis.findings import Dominance, Launch, Share
from ssmprof.records import Conditions, Run
from ssmprof.report import kernels
from ssmprof.report.figures import shares as chart
from ssmprof.report.figures.curves import short
from ssmprof.report.lines import PANELS, reference, unshown
from ssmprof.report.names import listed
from ssmprof.report.page import Cell, Fold, Grid, Listing, Part, Picture, Section
from ssmprof.report.sections import evidence
from ssmprof.report.svg import to_svg
from ssmprof.report.tables import Column, Table
from ssmprof.report.verdicts import views_of
from ssmprof.report.words import percent
from ssmprof.units import format_context, format_time, format_zone

TOP = 8
_CLASS = {"launch-bound": "bad", "mixed": "warn", "device-bound": "ok"}


def section(run: Run, analysis: Analysis) -> Section | None:
    """None without any time per kernel."""
    parts: list[Part] = []
    for conditions in _first(analysis):
        picture = _picture(run, analysis, conditions)
        if picture:
            parts.append(picture)
    parts += evidence.ceilings(run, analysis)
    strip = _strip(analysis)
    if strip:
        parts.append(strip)
    parts.extend(_kernels(run, analysis))
    if not parts:
        return None
    parts += evidence.opportunities(run, analysis)
    return Section("why", "Why", "Why? Where the time goes", tuple(parts))


def _first(analysis: Analysis) -> list[Conditions]:
    """Per phase the first conditions with shares: smallest batch, graph before eager."""
    have = {share.conditions for share in analysis.shares if share.of == "device"}
    first: dict[str, Conditions] = {}
    for conditions in analysis.conditions:
        if conditions in have:
            first.setdefault(conditions.phase, conditions)
    return list(first.values())


def _drawn(run: Run, analysis: Analysis, conditions: Conditions) -> list[str]:
    """Contenders that are drawn one by one."""
    view = views_of(run, analysis).get((conditions, "latency"))
    if view is None:
        return [block.name for block in run.scenario.blocks]
    return [line.name.block for line in view.foremost(PANELS, reference(view))]


def _picture(run: Run, analysis: Analysis, conditions: Conditions) -> Picture | None:
    found = [
        share
        for share in analysis.shares
        if share.conditions == conditions and share.of == "device"
    ]
    panels = []
    by_block: dict[str, list[Share]] = {}
    for share in found:
        by_block.setdefault(share.block, []).append(share)
    shown = _drawn(run, analysis, conditions)
    for name in shown:
        mine = by_block.get(name, [])
        table: dict[int, dict[str, float]] = {}
        for share in mine:
            if share.family != CUSTOM:
                table.setdefault(share.context, {})[share.family] = share.share
        if table:
            zone = _zone(analysis, conditions, name)
            panels.append(chart.Panel(short(name), table, zone=zone))
    if not panels:
        return None
    answer = analysis.answer(conditions)
    measured = {(one.block, one.context) for one in answer.curves} if answer else set()
    missing = len(measured - {(share.block, share.context) for share in found})
    key = f"shares-{conditions.phase}"
    owned = [one for one in answer.dominance if one.of == "device"] if answer else []
    text = _halves(owned, conditions.phase)
    if missing:
        text += f" {missing} points are left out: their parts were not taken or miss the whole."
    text += unshown(len(by_block.keys() - set(shown)))
    title = f"Share of device time by kernel family, {conditions.phase}"
    svg = to_svg(chart.draw(panels), key, title, text)
    families = [one for one in found if one.family != CUSTOM]  # counted in its families
    return Picture(key, svg, text, _table(families, f"{title}: numbers"), title)


def _halves(found: list[Dominance], phase: str) -> str:
    """Which families take half of the time of whom from some length on, in one sentence."""
    said: dict[str, dict[str, list[str]]] = {}
    for one in found:
        if one.family != CUSTOM and one.kind in ("throughout", "from"):
            zone = format_zone(one.low_tokens, one.high_tokens)
            where = "at every length" if one.kind == "throughout" else f"from {zone} tokens on"
            said.setdefault(one.family, {}).setdefault(where, []).append(one.block)
    parts = [
        f"{family} {listed([f'in {listed(blocks)} {where}' for where, blocks in mine.items()])}"
        for family, mine in said.items()
    ]
    if not parts:
        return f"No kernel family certainly takes half of the time of a {phase} anywhere."
    return f"More than half of the time of a {phase} is {'; '.join(parts)}."


def _zone(analysis: Analysis, conditions: Conditions, block: str) -> tuple[int, int] | None:
    """The zone in which the scan passes half of a contender's device time."""
    answer = analysis.answer(conditions)
    for one in answer.dominance if answer else ():
        if (one.block, one.of, one.family) == (block, "device", "scan") and one.high_tokens:
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


def _strip(analysis: Analysis) -> Grid | None:
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
            cells.append(Cell(f"{one.gap * 100:.0f}\u00a0%", f"pill-{_CLASS[one.verdict]}", title))
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
    for conditions in _first(analysis):
        for name in _drawn(run, analysis, conditions):
            lengths = sorted(reach.get((conditions, name), ()))
            ends = [*lengths[-1:], *(lengths[:1] if conditions.phase == "prefill" else [])]
            for at in dict.fromkeys(ends):
                here = measured.get((name, at), ())
                table = kernels.table(run, name, at, conditions, TOP, here)
                if table.rows:
                    parts.append(Listing(table))
    title = "The heaviest kernels, at the longest and the shortest length"
    return [Fold(title, tuple(parts))] if parts else []
