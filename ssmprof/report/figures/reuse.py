"""Reused share of prompts over the size of a cache, one line per policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssmprof.report import canvas, placement
from ssmprof.report.theme import sentinel
from ssmprof.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A colour per policy: keys alone in the hue of attention, what needs states in others.
_STYLES = (
    ("attn", "o", "-"), ("scan", "s", (0, (5, 2))), ("hyb", "^", (0, (6, 2, 1.5, 2))),
    ("k-copy", "D", (0, (1.5, 1.5))), ("oth", "X", (0, (8, 2, 1.5, 2))),
    ("k-norm", "v", (0, (2, 1.2))),
)  # fmt: skip


@dataclass(frozen=True)
class Series:
    """Cache size in bytes -> share of the prompts' tokens that was reused."""

    label: str
    shares: dict[int, float]


def draw(series: list[Series]) -> Figure:
    """Shares in percent over sizes on a log axis, labelled at the ends of the lines."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    figure = canvas.figure(3.6)
    axes = figure.add_axes((0.115, 0.15, 0.6, 0.76))
    canvas.plain(axes)
    canvas.heading(axes, "prompt tokens reused, %")
    canvas.axis_title(axes, "size of the cache")
    sizes = sorted({size for one in series for size in one.shares})
    axes.set_xscale("log", base=2)
    axes.set_xlim(sizes[0] / 1.1, sizes[-1] * 1.1)
    axes.xaxis.set_major_locator(FixedLocator([float(size) for size in sizes]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FixedFormatter([format_bytes(size) for size in sizes]))
    most = max(share for one in series for share in one.shares.values())
    canvas.linear_axis(axes, max(1.0, 105 * most))
    ends: list[tuple[float, float, str, str]] = []
    for index, one in enumerate(series):
        token, marker, dash = _STYLES[index % len(_STYLES)]
        shown = [100 * one.shares[size] for size in sorted(one.shares)]
        axes.plot(
            sorted(one.shares), shown, color=sentinel(token), linewidth=1.9, linestyle=dash,
            marker=marker, markersize=5.0, gid=f"series-{one.label}",
        )  # fmt: skip
        ends.append((float(max(one.shares)), shown[-1], one.label, token))
    placement.label_ends(axes, ends, 0.055)
    return figure
