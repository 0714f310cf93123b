"""Where the labels of lines stand: never on each other, and on a line only where no place is left.

What is free is asked in points of the figure, with the text's size as matplotlib's font has it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from ssmprof.report.canvas import TEXT_PT, note
from ssmprof.report.theme import sentinel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Spot = tuple[float, float]
_AIR_PT = 3.0  # between a text and a line, whose markers are 5.5 wide
#: Beside the end of a line, best first: shares of the text's width and height by which its middle
#: is off the end, and the points that are added in that direction.
_SIDES = (
    *((-0.5, 0.5, 2, 8), (-0.5, -0.5, 2, -8), (0.5, 0.5, -2, 8), (0.5, -0.5, -2, -8)),
    *((0.0, 0.5, 0, 8), (0.0, -0.5, 0, -8), (0.5, 0.0, 8, 0), (-0.5, 0.0, -8, 0)),
)
_AWAY = (1.0, 2.0, 3.5)  # how much further off, where nothing nearer is free
_RULED_PT = 12.0  # a text further off than this is led to by a rule


class Box(NamedTuple):
    """A rectangle: its sides."""

    left: float
    bottom: float
    right: float
    top: float

    def wider(self, by: float) -> Box:
        """The same with air around it."""
        return Box(self.left - by, self.bottom - by, self.right + by, self.top + by)

    def holds(self, other: Box) -> bool:
        """Whether `other` lies within."""
        return (
            self.left <= other.left and other.right <= self.right
            and self.bottom <= other.bottom and other.top <= self.top
        )  # fmt: skip

    def meets(self, other: Box) -> bool:
        """Whether the two overlap."""
        return (
            self.left < other.right and other.left < self.right
            and self.bottom < other.top and other.bottom < self.top
        )  # fmt: skip

    def cut_by(self, one: Spot, other: Spot) -> bool:
        """Whether a straight line, or a point that is given twice, has a part inside."""
        first, last = 0.0, 1.0
        for at, step, low, high in (
            (one[0], other[0] - one[0], self.left, self.right),
            (one[1], other[1] - one[1], self.bottom, self.top),
        ):
            if step == 0:
                if not low < at < high:
                    return False
                continue
            enters, leaves = sorted(((low - at) / step, (high - at) / step))
            first, last = max(first, enters), min(last, leaves)
        return first <= last


def beside(
    end: Spot, size: Spot, room: Box, texts: Sequence[Box], lines: Sequence[tuple[Spot, Spot]]
) -> Box:
    """The place of a text of `size` near the end of a line: the first that meets nothing.

    Where none is free it stands on as few lines as can be, and on no text while that can be had.
    """
    best, least = None, (0, 0, 0)
    for away in _AWAY:
        for across, up, right, above in _SIDES:
            x = end[0] + across * size[0] + right * away
            y = end[1] + up * size[1] + above * away
            box = Box(x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2)
            aired = box.wider(_AIR_PT)
            cost = (
                int(not room.holds(box)),
                sum(box.meets(other) for other in texts),
                sum(aired.cut_by(*line) for line in lines),
            )
            if cost == (0, 0, 0):
                return box
            if best is None or cost < least:
                best, least = box, cost
    assert best is not None
    return best


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions as near as possible to `wanted`, at least `gap` apart and inside [low, high].

    Pools neighbours that collide and centres each pool on its mean (isotonic regression), so order
    is kept and no label moves further than its neighbours force it to.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    pools: list[list[float]] = []
    for turn, index in enumerate(order):
        pools.append([wanted[index] - turn * gap, 1.0])
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            value, weight = pools.pop()
            pools[-1][0] = (pools[-1][0] * pools[-1][1] + value * weight) / (pools[-1][1] + weight)
            pools[-1][1] += weight
    flat = [value for value, weight in pools for _ in range(int(weight))]
    ceiling = high - (len(order) - 1) * gap
    placed = [0.0] * len(wanted)
    for turn, index in enumerate(order):
        placed[index] = min(max(flat[turn], low), ceiling) + turn * gap
    return placed


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]], gap: float) -> None:
    """Direct labels right of the axes: (x, y, text, token), never on each other.

    A line that ends before the others is named at its end instead, beside all that was drawn
    until now. `gap` is the height of a line of text as a share of the axes.
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    last = max((x for x, *_ in ends), default=0.0)
    long = [end for end in ends if end[0] == last]
    heights = [float(to_axes.transform((x, y))[1]) for x, y, _, _ in long]
    for (x, _, text, token), height, at in zip(
        long, heights, spread(heights, gap, 0.03, 0.97), strict=True
    ):
        start = float(to_axes.transform((x, 1.0))[0])
        if abs(at - height) > 0.015:
            axes.plot(
                [start + 0.012, 1.006], [height, at], transform=axes.transAxes, linewidth=0.7,
                color=sentinel("muted"), clip_on=False,
            )  # fmt: skip
        note(axes, 1.012, at, text, token, transform=axes.transAxes, va="center", fontweight="bold")
    for x, y, text, token in ends:
        if x < last:
            _name_end(axes, (x, y), text, token)


def _name_end(axes: Axes, end: Spot, text: str, token: str) -> None:
    """A label at the end of a line, with a rule to it where it had to stand off."""
    figure = axes.figure
    scale = 72 / figure.dpi
    point = _points([axes.transData.transform(end)], scale)[0]
    drawn, room = _texts(axes, scale), _box(axes.bbox, scale)
    made = axes.annotate(
        text, end, (0, 0), textcoords="offset points", va="center", ha="center",
        fontsize=TEXT_PT, fontweight="bold", color=sentinel(token), parse_math=False,
    )  # fmt: skip
    size = _box(made.get_window_extent(), scale)
    wide, high = size.right - size.left, size.top - size.bottom
    box = beside(point, (wide, high), room, drawn, list(_lines(axes, scale)))
    off = (box.left + box.right) / 2 - point[0], (box.bottom + box.top) / 2 - point[1]
    made.set_position(off)
    near = (
        min(max(point[0], box.left), box.right), min(max(point[1], box.bottom), box.top)
    )  # fmt: skip
    if math.dist(point, near) > _RULED_PT:
        ways = axes.transAxes.inverted().transform(
            [(x / scale, y / scale) for x, y in (point, near)]
        )
        axes.plot(
            *zip(*ways, strict=True), transform=axes.transAxes, linewidth=0.7,
            color=sentinel("muted"),
        )  # fmt: skip


def _points(places: Iterable[Any], scale: float) -> list[Spot]:
    return [(float(place[0]) * scale, float(place[1]) * scale) for place in places]


def _box(found: object, scale: float) -> Box:
    return Box(*(float(getattr(found, side)) * scale for side in ("x0", "y0", "x1", "y1")))


def _texts(axes: Axes, scale: float) -> list[Box]:
    return [_box(text.get_window_extent(), scale) for text in axes.texts if text.get_text()]


def _lines(axes: Axes, scale: float) -> Iterable[tuple[Spot, Spot]]:
    """What is drawn as a line, piece by piece; of markers alone each one."""
    for line in axes.lines:
        places = _points(line.get_transform().transform(line.get_xydata()), scale)
        if line.get_linestyle() in ("None", "none", ""):
            yield from ((place, place) for place in places)
        else:
            yield from pairwise(places)
