"""The picture a stranger reads in five seconds: one ratio over context under its finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssmprof.report import canvas
from ssmprof.report.theme import sentinel
from ssmprof.units import format_context, format_ratio, format_zone

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH_IN, _HEIGHT_IN = 8.6, 4.6


@dataclass(frozen=True)
class Side:
    """One of the two: how it is called, and its colour."""

    label: str
    token: str


@dataclass(frozen=True)
class Poster:
    """How many times as fast `block` is as `base`, by context: value and interval."""

    title: str
    below: str
    base: Side
    block: Side
    ratios: dict[int, tuple[float, float, float]]
    zone: tuple[int, int] | None


def draw(found: Poster) -> Figure:
    """Above the line the one is faster, below it the other; the ground is painted."""
    figure = canvas.figure(_HEIGHT_IN, _WIDTH_IN)
    figure.patch.set_visible(True)
    figure.patch.set_facecolor(sentinel("bg"))
    figure.text(0.045, 0.955, found.title, fontsize=15, fontweight="bold", va="top",
                color=sentinel("fg"), parse_math=False)  # fmt: skip
    figure.text(0.045, 0.865, found.below, fontsize=10.5, va="top", color=sentinel("muted"),
                parse_math=False)  # fmt: skip
    axes = figure.add_axes((0.075, 0.13, 0.83, 0.64))
    canvas.plain(axes)
    at = sorted(found.ratios)
    values = [found.ratios[one][0] for one in at]
    canvas.context_axis(axes, at, most=10)
    canvas.axis_title(axes)
    low = min(0.8, *(found.ratios[one][1] for one in at)) / 1.4
    high = max(1.25, *(found.ratios[one][2] for one in at)) * 1.25
    axes.set_yscale("log", base=2)
    axes.set_ylim(low, high)
    _ticks(axes, low, high)
    for side, to in ((found.block, max), (found.base, min)):
        ends = [to(1.0, one) for one in values]
        axes.fill_between(at, 1.0, ends, color=sentinel(side.token), alpha=0.16, linewidth=0,
                          interpolate=True)  # fmt: skip
    axes.axhline(1.0, color=sentinel("fg"), linewidth=1.2)
    if found.zone is not None:
        axes.axvspan(*found.zone, color=sentinel("grid"), alpha=0.55, linewidth=0)
        middle = (found.zone[0] * found.zone[1]) ** 0.5
        canvas.note(axes, middle, high / 1.03, f"crossover\n{format_zone(*found.zone)}", "fg",
                    ha="center", va="top", fontweight="bold")  # fmt: skip
    lows, highs = ([found.ratios[one][k] for one in at] for k in (1, 2))
    axes.fill_between(at, lows, highs, color=sentinel("fg"), alpha=0.18, linewidth=0)
    axes.plot(at, values, color=sentinel("fg"), linewidth=2.2, marker="o", markersize=5)
    for index in (0, -1):
        side = found.block if values[index] >= 1 else found.base
        times = values[index] if values[index] >= 1 else 1 / values[index]
        text = f"{side.label} {format_ratio(times)} at {format_context(at[index])}"
        first = index == 0
        axes.annotate(
            text, (at[index], values[index]), (8 if first else -8, -6 if values[index] < 1 else 6),
            textcoords="offset points", ha="left" if first else "right",
            va="top" if values[index] < 1 else "bottom", fontsize=11, fontweight="bold",
            color=sentinel(side.token), parse_math=False,
        )  # fmt: skip
    for side, height in ((found.block, 1.05), (found.base, 1 / 1.05)):
        canvas.note(
            axes, 0.995, height, f"{side.label} is faster", side.token, ha="right",
            va="bottom" if height > 1 else "top", transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    return figure


def _ticks(axes: object, low: float, high: float) -> None:
    """Round ratios, each with its sign."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    known = [at for at in (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0) if low <= at <= high]
    axis = axes.yaxis  # type: ignore[attr-defined]
    axis.set_major_locator(FixedLocator(known))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(
        FixedFormatter([f"1/{1 / at:g}" if at < 1 else f"{at:g}x" for at in known])
    )
