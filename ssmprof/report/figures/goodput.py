"""Share of requests within limits over requests per second, one line per contender."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ssmprof.report import canvas, placement
from ssmprof.report.theme import sentinel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ssmprof.report.names import Names


def draw(shares: Mapping[str, tuple[tuple[float, float], ...]], names: Names) -> Figure:
    """Block -> (requests per second, share within the limits); the line of nine in ten is drawn."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    figure = canvas.figure(3.4)
    axes = figure.add_axes((0.115, 0.16, 0.64, 0.74))
    canvas.plain(axes)
    canvas.heading(axes, "requests within the limits, %")
    canvas.axis_title(axes, "requests per second")
    rates = [rate for points in shares.values() for rate, _ in points]
    axes.set_xscale("log")
    axes.set_xlim(min(rates) / 1.1, max(rates) * 1.1)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 3.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: canvas.plain_number(value)))
    canvas.linear_axis(axes, 108)
    axes.axhline(90, color=sentinel("muted"), linewidth=0.8)
    canvas.note(axes, min(rates), 84, "nine in ten", "muted", ha="left", va="top")
    ends: list[tuple[float, float, str, str]] = []
    for block, points in shares.items():
        how = canvas.line_arguments(names[block])
        axes.plot(
            [x for x, _ in points], [100 * y for _, y in points], gid=f"series-{block}", **how
        )
        rate, share = points[-1]
        ends.append((rate, 100 * share, names[block].label, canvas.style_of(names[block]).token))
    placement.label_ends(axes, ends, 0.06)
    return figure
