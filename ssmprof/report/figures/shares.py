"""Where the time goes over context: a panel of stacked shares per contender, with a 50 % line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssmprof.report import canvas
from ssmprof.report.theme import BANDS, UNATTRIBUTED, Band, sentinel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEAST = 0.002
_LABELLED = 0.13


@dataclass(frozen=True)
class Panel:
    """Shares of one contender: context -> family -> share, 1 being the whole."""

    title: str
    shares: dict[int, dict[str, float]]
    note: str = ""


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
    figure = canvas.figure(2.35 * rows + 0.55)
    height = figure.get_figheight()
    left, right, top, bottom = 0.062, 0.975, 0.33 / height, 0.62 / height
    gap_x, gap_y = 0.035, 0.62 / height
    wide = (right - left - gap_x * (columns - 1)) / columns
    tall = (1 - top - bottom - gap_y * (rows - 1)) / rows
    used: dict[str, Band] = {}
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        low = 1 - top - (row + 1) * tall - row * gap_y
        axes = figure.add_axes((left + column * (wide + gap_x), low, wide, tall))
        _panel(axes, panel, index, first=column == 0)
        used |= {band.name: band for band, _ in bands(panel)}
    _legend(figure, [band for band in (*BANDS, UNATTRIBUTED) if band.name in used])
    return figure


def _panel(axes: Axes, panel: Panel, index: int, first: bool) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator

    canvas.plain(axes, grid="x")
    contexts = sorted(panel.shares)
    canvas.context_axis(axes, contexts, most=5)
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
    below = [0.0] * len(contexts)
    for band, values in bands(panel):
        above = [low + value for low, value in zip(below, values, strict=True)]
        _band(axes, band, contexts, below, above, f"band-{index}-{_slug(band.name)}")
        below = above
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
    widths = [high - low for low, high in zip(below, above, strict=True)]
    # Named where it is thickest, away from the edges, in its own text colour.
    inner = range(len(contexts) // 5, len(contexts) - len(contexts) // 5)
    at = max(inner or range(len(contexts)), key=lambda index: widths[index])
    if widths[at] > _LABELLED and band.token:
        along = at / max(len(contexts) - 1, 1)
        side = 0 if along < 0.35 else 1 if along < 0.65 else 2
        x = contexts[at] * (1.15, 1.0, 0.87)[side]
        middle = (below[at] + above[at]) / 2
        # Beside the 50 % line, not under it.
        middle = middle - 0.07 if abs(middle - 0.5) < 0.05 else middle
        canvas.note(
            axes, x, middle, band.name.split(",")[0], band.text,
            va="center", ha=("left", "center", "right")[side], zorder=6, fontsize=9.5,
        )  # fmt: skip


def _legend(figure: Figure, used: list[Band]) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(
            facecolor=sentinel(band.token) if band.token else "none",
            edgecolor=sentinel("muted"), hatch=band.hatch, linewidth=0.8, label=band.name,
        )
        for band in used
    ]  # fmt: skip
    legend = figure.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0.045, 0.0), ncols=len(handles),
        frameon=False, fontsize=9.5, handlelength=1.3, columnspacing=1.2, borderpad=0,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_color(sentinel("fg"))
