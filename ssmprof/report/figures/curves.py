"""Values over context: latency with its speed-up panel, decode, energy, peak memory.

Two stacked panels, since on log-log axes alone the curves lie on top of each other exactly at the
crossover and their intervals cannot be seen; the ratio panel shows both.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ssmprof.analysis.compare.answer import Crossing, RatioPoint
from ssmprof.analysis.compare.curve import TOO_BIG
from ssmprof.report import canvas, placement
from ssmprof.report.figures.thinning import drawn
from ssmprof.report.lines import Line, View
from ssmprof.report.theme import sentinel
from ssmprof.units import format_bytes, format_ratio, format_zone

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEFT = 0.115
_LONGEST_LABEL = 16
_GAIN = 7  # characters of a gain behind a label: " 0.910x"
_MOST_MARGIN = 0.4  # share of the figure that labels may take
_CHARACTER_PT = 5.8  # mean width of a character of the heading
_SLICE = re.compile(r"@\d{1,5}$")
_ROW = 0.08  # height of a line of text, as a share of the axes
_VALUES_GAP, _RATIO_GAP = 0.085, 0.15  # from label to label, as a share of the axes


@dataclass(frozen=True)
class Drawing:
    """What to draw: an answer's lines, the axis' heading and the factor from SI to its unit.

    `per_token` divides by the tokens of a call (energy); `zones` draws where the winner changes.
    """

    view: View
    heading: str
    scale: float
    zones: bool = False
    capacity: tuple[float, str] | None = None
    throttled: frozenset[tuple[str, int]] = field(default_factory=frozenset)
    reference: str | None = None
    linear: bool = False
    per_token: bool = False

    def unit(self, context: int) -> float:
        """What a value at this context is multiplied with."""
        if not self.per_token:
            return self.scale
        return self.scale / self.view.answer.conditions.call_tokens(context)

    @property
    def crossings(self) -> tuple[Crossing, ...]:
        """The zones to draw, where a winner hands over within what fits."""
        found = self.view.answer.crossings if self.zones else ()
        return tuple(one for one in found if one.kind == "zone")


def draw_pair(drawing: Drawing) -> Figure:
    """Value above, speed-up over the reference below, one context axis."""
    figure = canvas.figure(4.15)
    right = _right_edge(drawing.view, _GAIN)
    upper = figure.add_axes((_LEFT, 0.475, right - _LEFT, 0.42))
    lower = figure.add_axes((_LEFT, 0.135, right - _LEFT, 0.245))
    draw_values(upper, drawing, labels=False)
    draw_ratio(lower, drawing)
    return figure


def draw_single(drawing: Drawing, height_in: float = 3.3) -> Figure:
    """Only the values."""
    figure = canvas.figure(height_in)
    axes = figure.add_axes((_LEFT, 0.165, _right_edge(drawing.view) - _LEFT, 0.7))
    draw_values(axes, drawing)
    return figure


def short(label: str) -> str:
    """A label that fits beside the axes; one of a slice keeps its `@8`."""
    if len(label) <= _LONGEST_LABEL:
        return label
    tail = found[0] if (found := _SLICE.search(label)) else ""
    return f"{label[: _LONGEST_LABEL - 1 - len(tail)]}…{tail}"


def _right_edge(view: View, more: int = 0) -> float:
    """Leaves room for the longest label and, in the lower panel, the gain behind it."""
    longest = max((len(short(line.name.label)) for line in view.lines), default=8) + more
    return 0.97 - min(_MOST_MARGIN, (_CHARACTER_PT * longest + 8) / canvas.WIDTH_PT)


def draw_values(axes: Axes, drawing: Drawing, labels: bool = True) -> None:
    """Line, marker, interval band and direct label per contender; what did not fit on top."""
    view = drawing.view
    canvas.plain(axes)
    canvas.context_axis(axes, view.answer.tried or [512, 1024], labels=labels)
    if labels:
        canvas.axis_title(axes)
    canvas.heading(axes, drawing.heading)
    lines = view.measured
    shown = [
        value * drawing.unit(at)
        for line in lines
        for at in line.contexts
        for value in (line.at(at), *line.span(at))
    ]
    if drawing.capacity:
        shown.append(drawing.capacity[0] * drawing.scale)
    if not shown:
        canvas.note(axes, 0.5, 0.5, "nothing was measured", transform=axes.transAxes, ha="center")
        axes.set_yticks([])
        return
    # Above the highest point: a line of text per contender that did not fit, and its own label.
    failed = sum(bool(line.failures) for line in view.lines)
    head = 0.06 + (_ROW * failed + 0.06 if failed else 0.0)
    if drawing.linear:
        canvas.linear_axis(axes, max(shown) / (1 - head))
    else:
        reach = max(max(shown) / min(shown), 1.6)
        low, high = min(shown) / reach**0.07, max(shown) * reach ** (head / (1 - head) * 1.07)
        canvas.log_axis(axes, low, high)
    named = view.foremost(_fit(_VALUES_GAP), drawing.reference)
    for line in lines:
        _line(axes, line, drawing, faint=line not in named)
    _misfits(axes, view)
    for crossing in drawing.crossings:
        _mark_zone(axes, crossing, heading=drawing.heading)
    if drawing.capacity:
        _capacity(axes, drawing)
    placement.label_ends(axes, [_end(line, drawing) for line in named], _VALUES_GAP)


def _fit(gap: float) -> int:
    """Labels that fit beside the axes."""
    return int(0.94 / gap) + 1


def _style(line: Line, faint: bool) -> dict[str, Any]:
    """Of a line; what has no label stands back, and its name is in the legend."""
    found = canvas.line_arguments(line.name)
    return found | {"linewidth": 0.9, "marker": "", "alpha": 0.7} if faint else found


def _line(axes: Axes, line: Line, drawing: Drawing, faint: bool = False) -> None:
    style = _style(line, faint)
    contexts = line.contexts
    spans = [[bound * drawing.unit(at) for bound in line.span(at)] for at in contexts]
    values = [line.at(at) * drawing.unit(at) for at in contexts]
    places = drawn(contexts, values, [low for low, _ in spans], [high for _, high in spans])
    contexts = [contexts[place] for place in places]
    values = [values[place] for place in places]
    spans = [spans[place] for place in places]
    if len(contexts) > 1 and not faint:
        axes.fill_between(
            contexts, [low for low, _ in spans], [high for _, high in spans], alpha=0.2,
            linewidth=0, color=style["color"], gid=f"band-{line.name.block}",
        )  # fmt: skip
    axes.plot(contexts, values, gid=f"series-{line.name.block}", **style)
    hot = [at for at in contexts if (line.name.block, at) in drawing.throttled]
    if hot:
        marks: dict[str, Any] = style | {"linestyle": "none", "markerfacecolor": sentinel("bg")}
        axes.plot(hot, [line.at(at) * drawing.unit(at) for at in hot], **marks)


def _end(line: Line, drawing: Drawing) -> tuple[float, float, str, str]:
    last = line.contexts[-1]
    token = canvas.style_of(line.name).token
    return float(last), line.at(last) * drawing.unit(last), short(line.name.label), token


def _misfits(axes: Axes, view: View) -> None:
    """A cross at the top where a contender failed, in its colour; a hatch where none fits."""
    ceiling = axes.get_xaxis_transform()
    for row, line in enumerate(line for line in view.lines if line.failures):
        failed = sorted(line.failures)
        token = canvas.style_of(line.name).token
        height = 0.965 - _ROW * row
        axes.plot(
            failed, [height] * len(failed), linestyle="none", marker="x", markersize=5.5,
            markeredgewidth=1.6, color=sentinel(token), transform=ceiling, clip_on=False,
            gid=f"misfit-{line.name.block}",
        )  # fmt: skip
        reason = line.failures[failed[0]]
        text = "does not fit" if reason in TOO_BIG else reason
        left = axes.get_xlim()[0] < failed[0] / 1.5
        canvas.note(
            axes, failed[0] / 1.12 if left else failed[-1] * 1.12, height,
            f"{short(line.name.label)} {text}", token, transform=ceiling, va="center",
            ha="right" if left else "left", fontsize=9.5,
        )  # fmt: skip
    none = [at for at in view.answer.tried if at not in view.answer.contexts]
    if none:
        axes.axvspan(
            none[0] / 1.15, axes.get_xlim()[1], facecolor="none", edgecolor=sentinel("grid"),
            hatch="//", linewidth=0, zorder=0,
        )  # fmt: skip


def _mark_zone(axes: Axes, crossing: Crossing, heading: str = "") -> None:
    """A strip from end to end of the zone; a rule where it is narrow enough for one number."""
    low, high = crossing.low_tokens, crossing.high_tokens
    if low is None or high is None:
        return
    axes.axvspan(low, high, color=sentinel("muted"), alpha=0.16, linewidth=0, zorder=0.5)
    middle = math.sqrt(low * high)
    if crossing.context_tokens is not None:
        middle = float(crossing.context_tokens)
        axes.axvline(middle, color=sentinel("fg"), linewidth=1.0, linestyle=(0, (2, 2)))
    if heading:
        _label_switch(axes, middle, format_zone(low, high, crossing.context_tokens), heading)


def _label_switch(axes: Axes, at: float, text: str, heading: str) -> None:
    """Above the axes; on a second line where the heading stands in the way."""
    share = float((axes.transData + axes.transAxes.inverted()).transform((at, 1.0))[0])
    width_pt = axes.get_position().width * canvas.WIDTH_PT
    crowded = share * width_pt < _CHARACTER_PT * (len(heading) + len(text) / 2 + 1)
    axes.annotate(
        text, (at, 1.0), (0, 17 if crowded else 4), xycoords=axes.get_xaxis_transform(),
        textcoords="offset points", va="bottom", ha="center", fontweight="bold",
        fontsize=canvas.TEXT_PT, color=sentinel("fg"), parse_math=False,
    )  # fmt: skip


def _capacity(axes: Axes, drawing: Drawing) -> None:
    assert drawing.capacity is not None
    height, text = drawing.capacity
    axes.axhline(
        height * drawing.scale, color=sentinel("bad"), linewidth=1.3, linestyle=(0, (7, 3))
    )
    # On a ground of its own: a grid line may pass behind it.
    axes.annotate(
        f"{text}, {format_bytes(height)}", (0.008, height * drawing.scale), (0, 3),
        xycoords=axes.get_yaxis_transform(), textcoords="offset points", va="bottom",
        fontsize=canvas.TEXT_PT, color=sentinel("bad"), parse_math=False,
        bbox={"facecolor": sentinel("bg"), "edgecolor": "none", "pad": 0.5},
    )  # fmt: skip


def _times(value: float) -> str:
    """`4x`, `1x`, `1/4x`: a half reads as a half."""
    inverse = 1 / value
    whole = inverse > 1.5 and abs(inverse - round(inverse)) < 1e-9
    return f"1/{inverse:.0f}x" if whole else f"{value:.3g}x"


def draw_ratio(axes: Axes, drawing: Drawing) -> None:
    """How many times faster than the reference each contender is; above 1x is faster."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    view = drawing.view
    canvas.plain(axes)
    canvas.context_axis(axes, view.answer.tried or [512, 1024])
    canvas.axis_title(axes)
    base = next((one for one in view.lines if one.name.block == drawing.reference), None)
    if base is None or not base.points:
        axes.set_yticks([])
        return
    canvas.heading(axes, f"times as fast as {base.name.label}")
    small: dict[str, Any] = {"markersize": 4.2}
    ends_of: list[tuple[Line, list[int], list[float]]] = []
    seen = [1.0]
    # The reference has no label here.
    named = view.foremost(_fit(_RATIO_GAP) + 1, drawing.reference)
    for line in view.lines:
        spans = gains(view, base.name.block, line.name.block)
        if line is base or not spans:
            continue
        contexts = list(spans)
        values, lows, highs = (list(part) for part in zip(*spans.values(), strict=True))
        seen += [*lows, *highs]
        places = drawn(contexts, values, lows, highs)
        contexts = [contexts[place] for place in places]
        values, lows, highs = ([part[place] for place in places] for part in (values, lows, highs))
        faint = line not in named
        style = _style(line, faint)
        if len(contexts) > 1 and not faint:
            axes.fill_between(
                contexts, lows, highs, alpha=0.22, linewidth=0, color=style["color"]
            )  # fmt: skip
        axes.plot(
            contexts, values, gid=f"ratio-{line.name.block}", **(style if faint else style | small)
        )
        if not faint:
            ends_of.append((line, contexts, values))
    axes.set_yscale("log", base=2)
    low, high = min(seen) / 1.12, max(seen) * 1.12
    axes.set_ylim(low, high)
    powers = range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
    step = max(1, math.ceil(len(powers) / 7))
    ticks = [2.0**power for power in powers if power % step == 0]
    if len(ticks) < 3:
        ticks = [
            tick
            for tick in (0.25, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 4)
            if low < tick < high
        ]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _times(value)))
    tie = 1 + view.answer.tie
    axes.axhspan(1 / tie, tie, color=sentinel("muted"), alpha=0.25, linewidth=0, zorder=0.5)
    axes.axhline(1, color=sentinel("fg"), linewidth=0.9)
    for crossing in drawing.crossings:
        _mark_zone(axes, crossing)
    ends = [
        (float(at[-1]), values[-1], _gain(line, values[-1]), canvas.style_of(line.name).token)
        for line, at, values in ends_of
    ]
    placement.label_ends(axes, ends, _RATIO_GAP)


def gains(view: View, base: str, block: str) -> dict[int, tuple[float, float, float]]:
    """Context -> how many times faster than `base` a contender is, with the interval's ends."""
    pair = view.answer.pair(base, block)
    if pair is None or base == block:
        return {}
    return {one.context: _gains(one, pair.block == base) for one in pair.points}


def _gains(one: RatioPoint, over: bool) -> tuple[float, float, float]:
    low, high = one.interval
    return (one.ratio, low, high) if over else (1 / one.ratio, 1 / high, 1 / low)


def _gain(line: Line, value: float) -> str:
    label = short(line.name.label)
    return f"{label} {format_ratio(value)}"
