"""What all figures share: size, axes, number formats, colours; labels of lines are in `placement`.

Uses matplotlib's Figure API and never pyplot: no global state, no display. A figure is as wide as a
phone: 10 points of text are 9.5 pixels there and 15 in one of a desktop's two columns, so that one
drawing is read on both and nothing is cut off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ssmprof.report.theme import STYLES, Style, sentinel
from ssmprof.units import format_context

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ssmprof.report.names import Name

WIDTH_IN = 5.2
WIDTH_PT = WIDTH_IN * 72
TEXT_PT = 10.0


def figure(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """An empty figure without a background: the page shows through in both themes."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width_in, height_in))
    made.patch.set_visible(False)
    return made


def columns(panels: int) -> int:
    """How many small multiples stand side by side: two, or three where they then fill the rows."""
    return min(panels, 3 if panels in (3, 5, 6) or panels > 8 else 2)


def plain(axes: Axes, grid: str = "both") -> Axes:
    """Quiet frame, hairline grid, token colours."""
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(sentinel("grid"))
        spine.set_linewidth(0.9)
    axes.tick_params(
        which="both", colors=sentinel("muted"), labelsize=TEXT_PT, bottom=False, left=False, pad=5
    )  # fmt: skip
    axes.grid(visible=True, axis=grid, color=sentinel("grid"), linewidth=0.6, alpha=0.7)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    return axes


def note(axes: Axes, x: float, y: float, text: str, token: str = "muted", **how: Any) -> Any:
    """Text in a token colour at data coordinates, or as `transform` says."""
    how = {"fontsize": TEXT_PT, "color": sentinel(token), "parse_math": False} | how
    return axes.text(x, y, text, **how)


def heading(axes: Axes, text: str) -> None:
    """What an axis shows, above its top left corner: reads without turning the head."""
    note(axes, 0.0, 1.02, text, "muted", transform=axes.transAxes, va="bottom", ha="left")


def axis_title(axes: Axes, text: str = "context, tokens") -> None:
    """What the horizontal axis shows, below its middle."""
    axes.annotate(
        text, (0.5, 0.0), (0, -20), xycoords="axes fraction",
        textcoords="offset points", ha="center", va="top", fontsize=TEXT_PT,
        color=sentinel("muted"), parse_math=False,
    )  # fmt: skip


def value_title(axes: Axes, text: str, left_pt: float = 36) -> None:
    """What the vertical axis of a small multiple shows, along it."""
    axes.annotate(
        text, (0.0, 0.5), (-left_pt, 0), xycoords="axes fraction", textcoords="offset points",
        ha="center", va="center", rotation=90, fontsize=TEXT_PT, color=sentinel("muted"),
        parse_math=False,
    )  # fmt: skip


def legend_columns(names: Sequence[str]) -> int:
    """How many entries of a legend stand side by side."""
    widest = max((len(name) for name in names), default=1) * 5.2 + 30
    return max(1, min(len(names), int(WIDTH_PT / widest)))


def legend_height(names: Sequence[str]) -> float:
    """Inches that a legend below the axes takes."""
    return 0.2 * math.ceil(len(names) / legend_columns(names))


def legend(figure: Figure, handles: Sequence[Any]) -> None:
    """Entries below the axes, in as many rows as they need."""
    names = [str(handle.get_label()) for handle in handles]
    made = figure.legend(
        handles=list(handles), loc="lower left", bbox_to_anchor=(0.06, 0.0),
        ncols=legend_columns(names), frameon=False, fontsize=9.5, handlelength=1.3,
        columnspacing=1.2, borderpad=0,
    )  # fmt: skip
    for text in made.get_texts():
        text.set_color(sentinel("fg"))


def context_axis(axes: Axes, contexts: Sequence[int], labels: bool = True, most: int = 7) -> None:
    """Log2 axis of context lengths, ticks at powers of two."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    low, high = min(contexts), max(contexts)
    pad = max((high / low) ** 0.02, 1.06)
    axes.set_xscale("log", base=2)
    axes.set_xlim(low / pad, high * pad)
    first, last = math.ceil(math.log2(low) - 1e-9), math.floor(math.log2(high) + 1e-9)
    ticks = [2.0**power for power in range(first, last + 1)] or [float(low)]
    step = math.ceil(len(ticks) / most)
    ticks = ticks[::-1][::step][::-1]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    names = [format_context(tick) if labels else "" for tick in ticks]
    axes.xaxis.set_major_formatter(FixedFormatter(names))


def batch_axis(axes: Axes, batches: Sequence[int]) -> None:
    """Log2 axis of batches, a tick at each that was measured and has room."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    low, high = min(batches), max(batches)
    axes.set_yscale("log", base=2)
    axes.set_ylim(low / 1.3, high * 1.3)
    ticks = [at for at in batches if at & (at - 1) == 0] or list(batches)
    axes.yaxis.set_major_locator(FixedLocator([float(at) for at in ticks]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FixedFormatter([f"{at:,}" for at in ticks]))


def log_axis(axes: Axes, low: float, high: float) -> None:
    """Log10 axis with plain numbers; 2 and 5 are labelled too where the range is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.set_ylim(low, high)
    decades = math.log10(high / low)
    subs = (1.0,)
    if decades < 2.2:
        subs = (1.0, 2.0, 5.0)
    if decades < 0.9:
        subs = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=subs, numticks=20))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))


def linear_axis(axes: Axes, high: float) -> None:
    """From zero, with plain numbers."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_ylim(0, high)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))


def plain_number(value: float) -> str:
    """`0.05`, `20`, `3,000`: no exponent, no trailing zeros."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.6g}"


def style_of(name: Name) -> Style:
    """Colour, marker and dash of a contender: hue by architecture, the rest by its turn."""
    styles = STYLES[name.architecture]
    return styles[min(name.nth, len(styles) - 1)]


def line_arguments(name: Name) -> dict[str, Any]:
    """Keyword arguments of `Axes.plot` for a contender's line."""
    style = style_of(name)
    colour = sentinel(style.token)
    return {
        "color": colour,
        "linewidth": 1.9,
        "linestyle": (0, style.dash) if style.dash else "-",
        "marker": style.marker,
        "markersize": 5.5,
        "markerfacecolor": sentinel("bg") if style.hollow else colour,
        "markeredgecolor": colour,
        "markeredgewidth": 1.2,
    }
