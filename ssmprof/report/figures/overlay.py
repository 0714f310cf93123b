"""Runs over each other: the same ratio over context, and how a zone moved from run to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssmprof.report import canvas
from ssmprof.report.theme import sentinel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Hue means attention, scan or hybrid everywhere: runs are told apart by other tokens.
_STYLES = (
    ("fg", "o", "-"), ("k-copy", "s", (0, (5, 2))), ("k-elem", "^", (0, (6, 2, 1.5, 2))),
    ("oth", "D", (0, (1.5, 1.5))), ("k-norm", "v", (0, (8, 2, 1.5, 2))),
    ("muted", "X", (0, (2, 1))),
)  # fmt: skip


@dataclass(frozen=True)
class Zone:
    """Where one run puts a crossing: an end that is not known is None."""

    label: str
    device: str
    low_tokens: int | None
    high_tokens: int | None


def ratios(runs: Mapping[str, Mapping[int, float]], heading: str) -> Figure:
    """Run -> context -> how many times as fast; above one line the one, below it the other."""
    figure = canvas.figure(3.9)
    below = canvas.legend_height(list(runs))
    figure.set_figheight(3.5 + below)
    height = 3.5 + below
    axes = figure.add_axes((0.1, (0.55 + below) / height, 0.87, 1 - (0.95 + below) / height))
    canvas.plain(axes)
    canvas.heading(axes, heading)
    canvas.axis_title(axes)
    canvas.context_axis(axes, sorted({at for run in runs.values() for at in run}))
    values = [value for run in runs.values() for value in run.values()]
    canvas.log_axis(axes, min(*values, 0.9) / 1.08, max(*values, 1.1) * 1.08)
    axes.axhline(1.0, color=sentinel("muted"), linewidth=1.0)
    handles = []
    for index, (label, points) in enumerate(runs.items()):
        token, marker, dash = _STYLES[index % len(_STYLES)]
        at = sorted(points)
        handles += axes.plot(
            at, [points[one] for one in at], color=sentinel(token), linewidth=1.8, linestyle=dash,
            marker=marker, markersize=5, label=label, gid=f"run-{index}",
        )  # fmt: skip
    canvas.legend(figure, handles)
    return figure


def history(zones: Sequence[Zone]) -> Figure:
    """A bar per run from the end of one contender's lengths to the start of the other's.

    An open end is drawn to the edge of the axes and has an arrow there.
    """
    height = 0.95 + 0.46 * len(zones)
    figure = canvas.figure(height)
    axes = figure.add_axes((0.06, 0.55 / height, 0.9, 1 - 0.75 / height))
    canvas.plain(axes, "x")
    canvas.axis_title(axes)
    ends = [at for one in zones for at in (one.low_tokens, one.high_tokens) if at]
    low, high = min(ends) // 2 or 1, max(ends) * 2
    canvas.context_axis(axes, [low, high])
    axes.set_ylim(len(zones) - 0.6, -0.8)
    axes.set_yticks([])
    devices = list(dict.fromkeys(one.device for one in zones))
    for place, one in enumerate(zones):
        token = _STYLES[devices.index(one.device) % len(_STYLES)][0]
        canvas.note(
            axes, 0.01, place - 0.18, one.label, "fg", va="bottom", ha="left",
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
        first, last = one.low_tokens or low, one.high_tokens or high
        axes.plot(
            [first, last], [place, place], color=sentinel(token), linewidth=7,
            solid_capstyle="butt", gid=f"zone-{place}",
        )  # fmt: skip
        axes.plot([first, last], [place, place], color=sentinel(token), linestyle="none",
                  marker="|", markersize=12)  # fmt: skip
        for missing, at, sign in ((one.low_tokens, low, "<"), (one.high_tokens, high, ">")):
            if missing is None:
                axes.plot([at], [place], color=sentinel(token), marker=sign, markersize=9)
    return figure
