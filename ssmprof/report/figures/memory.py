"""What fills the memory over context: a stacked panel per contender, linear, on one scale."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from ssmprof.report import canvas
from ssmprof.report.figures.curves import short
from ssmprof.report.figures.thinning import spaced
from ssmprof.report.theme import sentinel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Owner -> fill token and hatch; anything else of a peak is drawn as "other".
OWNERS: dict[str, tuple[str | None, str | None]] = {
    "weights": ("k-gemm", None),
    "KV cache": ("attn", None),
    "SSM state": ("scan", None),
    "convolution window": ("k-conv", None),
    "logits": ("k-copy", None),
    "activations": ("k-norm", None),
    "other": (None, ".."),
}

_LEAST = 0.001  # share of the axis below which a bar would be thinner than a hairline
_HALF_OCTAVES = 0.36


@dataclass(frozen=True)
class Panel:
    """Peak memory of one contender: context -> owner -> bytes, and what did not fit."""

    title: str
    parts: dict[int, dict[str, int]]
    misfits: tuple[int, ...] = ()


def unit_of(largest: float) -> tuple[float, str]:
    """The unit a memory axis is printed in."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if largest >= unit:
            return unit, name
    return 2**10, "KiB"


_MOST_BARS = 60  # of a panel: more are thinner than their edges


def _thinned(panel: Panel) -> Panel:
    kept = spaced(sorted(panel.parts), _MOST_BARS)
    misfits = tuple(spaced(sorted(panel.misfits), _MOST_BARS))
    return replace(panel, parts={at: panel.parts[at] for at in kept}, misfits=misfits)


def draw(panels: list[Panel], capacity_bytes: int | None) -> Figure:
    """Small multiples on one scale, so that heights compare across contenders."""
    panels = [_thinned(panel) for panel in panels]
    columns = canvas.columns(len(panels))
    rows = math.ceil(len(panels) / columns)
    largest = max(sum(parts.values()) for panel in panels for parts in panel.parts.values())
    unit, name = unit_of(largest)
    shows_capacity = capacity_bytes is not None and capacity_bytes < 3 * largest
    ceiling = max(largest, capacity_bytes if shows_capacity and capacity_bytes else 0) * 1.08 / unit
    least = ceiling * unit * _LEAST
    shown = [owner for owner in OWNERS if any(_shows(panel, owner, least) for panel in panels)]
    names = [*shown, *(["does not fit"] if any(panel.misfits for panel in panels) else [])]
    below = canvas.legend_height(names)
    figure = canvas.figure(1.75 * rows + 0.3 + below)
    height = figure.get_figheight()
    left, top, bottom, gap_x, gap_y = (
        0.125, 0.3 / height, (0.52 + below) / height, 0.04, 0.55 / height
    )  # fmt: skip
    wide = (0.95 - left - gap_x * (columns - 1)) / columns
    tall = (1 - top - bottom - gap_y * (rows - 1)) / rows
    every = [at for panel in panels for at in (*panel.parts, *panel.misfits)]
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        low = 1 - top - (row + 1) * tall - row * gap_y
        axes = figure.add_axes((left + column * (wide + gap_x), low, wide, tall))
        canvas.plain(axes, grid="y")
        canvas.context_axis(axes, every, most=3)
        if index + columns >= len(panels):
            canvas.axis_title(axes)
        axes.set_xlim(min(every) * 0.72, max(every) * 1.39)
        axes.set_ylim(0, ceiling)
        if column:
            axes.tick_params(labelleft=False)
        else:
            canvas.value_title(axes, name)
        canvas.note(
            axes, 0.0, 1.04, short(panel.title), "fg", transform=axes.transAxes, va="bottom",
            fontweight="bold", fontsize=11,
        )  # fmt: skip
        _stack(axes, panel, unit, ceiling * _LEAST)
        if shows_capacity and capacity_bytes:
            axes.axhline(capacity_bytes / unit, color=sentinel("bad"), linewidth=1.2)
    _legend(figure, shown, misfits="does not fit" in names)
    return figure


def _shows(panel: Panel, owner: str, least: float) -> bool:
    return any(parts.get(owner, 0) > least for parts in panel.parts.values())


def _edges(contexts: list[int]) -> list[tuple[float, float]]:
    """Left and right edge of a bar per context: as wide as its nearest neighbour leaves room."""
    octaves = [math.log2(at) for at in contexts]
    gaps = [high - low for low, high in pairwise(octaves)]
    edges = []
    for index, at in enumerate(octaves):
        half = min([_HALF_OCTAVES, *(0.43 * gap for gap in gaps[max(index - 1, 0) : index + 1])])
        edges.append((2 ** (at - half), 2 ** (at + half)))
    return edges


def _stack(axes: Axes, panel: Panel, unit: float, least: float) -> None:
    """Bars bottom up; what is thinner than `least` is left to the table."""
    contexts = sorted(panel.parts)
    below = dict.fromkeys(contexts, 0.0)
    edges = dict(zip(contexts, _edges(contexts), strict=True))
    for owner, (token, hatch) in OWNERS.items():
        values = {at: panel.parts[at].get(owner, 0) / unit for at in contexts}
        drawn = [at for at in contexts if values[at] > least]
        if drawn:
            axes.bar(
                [edges[at][0] for at in drawn], [values[at] for at in drawn],
                [edges[at][1] - edges[at][0] for at in drawn], bottom=[below[at] for at in drawn],
                align="edge", color=sentinel(token) if token else "none", hatch=hatch,
                edgecolor=sentinel("bg") if token else sentinel("muted"), linewidth=0.6, zorder=2,
            )  # fmt: skip
        below = {at: below[at] + values[at] for at in contexts}
    if panel.misfits:
        axes.plot(
            panel.misfits, [0.94] * len(panel.misfits), linestyle="none", marker="x", markersize=6,
            markeredgewidth=1.8, color=sentinel("bad"), transform=axes.get_xaxis_transform(),
        )  # fmt: skip


def _legend(figure: Figure, owners: list[str], misfits: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Patch | Line2D] = []
    for owner in owners:
        token, hatch = OWNERS[owner]
        fill = sentinel(token) if token else "none"
        handles.append(Patch(facecolor=fill, edgecolor=sentinel("muted"), hatch=hatch, label=owner))
    if misfits:
        colour = sentinel("bad")
        handles.append(
            Line2D([], [], marker="x", linestyle="none", color=colour, label="does not fit")
        )
    canvas.legend(figure, handles)
