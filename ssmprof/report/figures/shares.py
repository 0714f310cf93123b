"""Where the time goes over context: a panel of stacked shares per contender, with a 50 % line."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ssmprof.report import canvas
from ssmprof.report.figures.thinning import spaced
from ssmprof.report.theme import BANDS, UNATTRIBUTED, Band, sentinel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEAST = 0.002
_LINE_PT = 13.0  # height that a name needs
_CHARACTER_PT = 5.6
_STEPS = 48


@dataclass(frozen=True)
class Panel:
    """Shares of one contender: context -> family -> share, 1 being the whole.

    `zone` is where the scan passes one half (tokens).
    """

    title: str
    shares: dict[int, dict[str, float]]
    note: str = ""
    zone: tuple[int, int] | None = None


def _thinned(panel: Panel) -> Panel:
    kept = spaced(sorted(panel.shares))
    return replace(panel, shares={at: panel.shares[at] for at in kept})


def bands(panel: Panel) -> list[tuple[Band, list[float]]]:
    """Band -> share per context, bottom up, without empty ones; what is missing is a band."""
    found: list[tuple[Band, list[float]]] = []
    contexts = sorted(panel.shares)
    for band in BANDS:
        values = [sum(panel.shares[at].get(name, 0.0) for name in band.families) for at in contexts]
        if max(values, default=0.0) > _LEAST:
            found.append((band, values))
    rest = [max(0.0, 1.0 - sum(panel.shares[at].values())) for at in contexts]
    if max(rest, default=0.0) > 0.01:
        found.append((UNATTRIBUTED, rest))
    return found


def draw(panels: list[Panel]) -> Figure:
    """Small multiples with one legend below them."""
    columns = canvas.columns(len(panels))
    rows = math.ceil(len(panels) / columns)
    panels = [_thinned(panel) for panel in panels]
    used = {band.name for panel in panels for band, _ in bands(panel)}
    shown = [band for band in (*BANDS, UNATTRIBUTED) if band.name in used]
    below = canvas.legend_height([band.name for band in shown])
    figure = canvas.figure(1.75 * rows + 0.3 + below)
    height = figure.get_figheight()
    left, right, top, bottom = 0.125, 0.95, 0.3 / height, (0.52 + below) / height
    gap_x, gap_y = 0.046, 0.55 / height
    wide = (right - left - gap_x * (columns - 1)) / columns
    tall = (1 - top - bottom - gap_y * (rows - 1)) / rows
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        low = 1 - top - (row + 1) * tall - row * gap_y
        axes = figure.add_axes((left + column * (wide + gap_x), low, wide, tall))
        _panel(axes, panel, index, first=column == 0)
        if index + columns >= len(panels):
            canvas.axis_title(axes)
    _legend(figure, shown)
    return figure


def _panel(axes: Axes, panel: Panel, index: int, first: bool) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator

    canvas.plain(axes, grid="x")
    contexts = sorted(panel.shares)
    canvas.context_axis(axes, contexts, most=3)
    canvas.note(
        axes, 0.0, 1.04, panel.title, "fg", transform=axes.transAxes, va="bottom",
        fontweight="bold", fontsize=11,
    )  # fmt: skip
    if panel.note:
        canvas.note(
            axes, 1.0, 1.04, panel.note, transform=axes.transAxes, va="bottom", ha="right",
            fontsize=9.5,
        )  # fmt: skip
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
    axes.yaxis.set_major_formatter(FixedFormatter(["0", "50 %", "100 %"] if first else [""] * 3))
    if first:
        canvas.value_title(axes, "share of time", 40)
    below = [0.0] * len(contexts)
    for band, values in bands(panel):
        above = [low + value for low, value in zip(below, values, strict=True)]
        _band(axes, band, contexts, below, above, f"band-{index}-{_slug(band.name)}")
        below = above
    if panel.zone is not None:
        axes.axvspan(*panel.zone, color=sentinel("fg"), alpha=0.14, linewidth=0, zorder=4)
    axes.axhline(0.5, color=sentinel("fg"), linewidth=1.1, linestyle=(0, (4, 2)), zorder=5)


def _slug(name: str) -> str:
    """A band's name as part of an id."""
    return name.split(",")[0].replace(" ", "-")


def _band(
    axes: Axes, band: Band, contexts: list[int], below: list[float], above: list[float], gid: str
) -> None:
    if len(contexts) == 1:
        # A lone point has no area: draw a bar around it.
        contexts = [round(contexts[0] / 1.04), round(contexts[0] * 1.04)]
        below, above = below * 2, above * 2
    fill = sentinel(band.token) if band.token else "none"
    axes.fill_between(
        contexts, below, above, facecolor=fill, hatch=band.hatch, linewidth=1.2, zorder=2,
        edgecolor=sentinel("bg") if band.token else sentinel("muted"), gid=gid,
    )  # fmt: skip
    name = band.name.split(",")[0]
    spot = _room(axes, contexts, below, above, name) if band.token else None
    if spot:
        canvas.note(axes, *spot, name, band.text, va="center", ha="center", zorder=6, fontsize=9.5)


def _room(
    axes: Axes, contexts: list[int], below: list[float], above: list[float], name: str
) -> tuple[float, float] | None:
    """Where a name stands inside its band, as near to the middle as there is room, or None.

    Not on the 50 % line: a band that the line cuts offers its larger part.
    """
    size, point = axes.get_window_extent(), axes.figure.dpi / 72
    wide_pt, tall_pt = size.width / point, size.height / point
    low, high = (math.log2(edge) for edge in axes.get_xlim())
    octaves = [math.log2(at) for at in contexts]
    half = (high - low) * _CHARACTER_PT * (len(name) + 1) / wide_pt / 2
    spots: list[tuple[float, float, float]] = []
    for step in range(_STEPS + 1):
        at = octaves[0] + (octaves[-1] - octaves[0]) * step / _STEPS
        if at - half < octaves[0] or at + half > octaves[-1]:
            continue
        under = [at - half, at, at + half, *(x for x in octaves if abs(x - at) < half)]
        floor = max(_between(octaves, below, x) for x in under)
        roof = min(_between(octaves, above, x) for x in under)
        for bottom, top in ((floor, min(roof, 0.5)), (max(floor, 0.5), roof)):
            if top - bottom > _LINE_PT / tall_pt:
                spots.append((top - bottom, at, (bottom + top) / 2))
    if not spots:
        return None
    most, middle = max(room for room, *_ in spots), (octaves[0] + octaves[-1]) / 2
    good = [(abs(at - middle), at, height) for room, at, height in spots if room > 0.8 * most]
    _, at, height = min(good)
    return 2.0**at, height


def _between(xs: list[float], ys: list[float], x: float) -> float:
    """Linear interpolation inside the range of `xs`."""
    index = min(max(bisect_right(xs, x), 1), len(xs) - 1)
    left, right = xs[index - 1], xs[index]
    return ys[index - 1] + (ys[index] - ys[index - 1]) * (x - left) / (right - left)


def _legend(figure: Figure, used: list[Band]) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(
            facecolor=sentinel(band.token) if band.token else "none",
            edgecolor=sentinel("muted"), hatch=band.hatch, linewidth=0.8, label=band.name,
        )
        for band in used
    ]  # fmt: skip
    canvas.legend(figure, handles)
