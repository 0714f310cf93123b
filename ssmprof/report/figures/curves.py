"""Values over context: latency with its speed-up panel, decode, energy, peak memory.

Two stacked panels, since on log-log axes alone the curves lie on top of each other exactly at the
crossover and their intervals cannot be seen; the ratio panel shows both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ssmprof.report import canvas
from ssmprof.report.envelope import TIE, Boundary
from ssmprof.report.facets import TOO_BIG, Comparison, Curve
from ssmprof.report.intervals import over_rounds, ratio
from ssmprof.report.theme import sentinel
from ssmprof.units import format_bytes, format_context, format_ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEFT = 0.082
_LONGEST_LABEL = 22
_CHARACTER_PT = 5.6  # mean width of a character of the heading
_ROW = 0.06  # height of a line of text, as a share of the axes


@dataclass(frozen=True)
class Switch:
    """A boundary with its bootstrap interval (tokens), as the hero marks it."""

    boundary: Boundary
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Drawing:
    """What to draw: the facet, the axis' heading and the factor from SI to its unit."""

    facet: Comparison
    heading: str
    scale: float
    switches: tuple[Switch, ...] = ()
    capacity: tuple[float, str] | None = None
    throttled: frozenset[tuple[str, int]] = field(default_factory=frozenset)
    reference: str | None = None
    linear: bool = False


def draw_pair(drawing: Drawing) -> Figure:
    """Value above, speed-up over the reference below, one context axis."""
    figure = canvas.figure(5.3)
    right = _right_edge(drawing.facet)
    upper = figure.add_axes((_LEFT, 0.415, right - _LEFT, 0.51))
    lower = figure.add_axes((_LEFT, 0.07, right - _LEFT, 0.285))
    draw_values(upper, drawing, labels=False)
    draw_ratio(lower, drawing)
    return figure


def draw_single(drawing: Drawing, height_in: float = 3.6) -> Figure:
    """Only the values."""
    figure = canvas.figure(height_in)
    axes = figure.add_axes((_LEFT, 0.1, _right_edge(drawing.facet) - _LEFT, 0.785))
    draw_values(axes, drawing)
    return figure


def short(label: str) -> str:
    """A label that fits beside the axes."""
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"


def _right_edge(facet: Comparison) -> float:
    """Leaves room for the longest label and, in the lower panel, the gain behind it."""
    longest = max((len(short(curve.name.label)) for curve in facet.curves), default=8)
    return 0.955 - min(0.26, 0.0102 * longest + 0.045)


def draw_values(axes: Axes, drawing: Drawing, labels: bool = True) -> None:
    """Line, marker, interval band and direct label per contender; what did not fit on top."""
    facet = drawing.facet
    canvas.plain(axes)
    canvas.context_axis(axes, facet.tried or [512, 1024], labels=labels)
    canvas.heading(axes, drawing.heading)
    curves = [curve for curve in facet.curves if curve.values]
    shown = [
        value * drawing.scale for c in curves for r in c.values.values() for value in r.values()
    ]
    if drawing.capacity:
        shown.append(drawing.capacity[0] * drawing.scale)
    if not shown:
        canvas.note(axes, 0.5, 0.5, "nothing was measured", transform=axes.transAxes, ha="center")
        axes.set_yticks([])
        return
    # Above the highest point: a line of text per contender that did not fit, and its own label.
    failed = sum(bool(curve.failures) for curve in facet.curves)
    head = 0.06 + (_ROW * failed + 0.06 if failed else 0.0)
    if drawing.linear:
        canvas.linear_axis(axes, max(shown) / (1 - head))
    else:
        reach = max(max(shown) / min(shown), 1.6)
        low, high = min(shown) / reach**0.07, max(shown) * reach ** (head / (1 - head) * 1.07)
        canvas.log_axis(axes, low, high)
    for curve in curves:
        _line(axes, curve, drawing)
    _misfits(axes, facet)
    for switch in drawing.switches:
        _mark_switch(axes, switch, heading=drawing.heading)
    if drawing.capacity:
        _capacity(axes, drawing)
    canvas.label_ends(axes, [_end(curve, drawing.scale) for curve in curves], 0.062)


def _line(axes: Axes, curve: Curve, drawing: Drawing) -> None:
    style: dict[str, Any] = canvas.line_arguments(curve.name)
    contexts = curve.contexts
    spans = [over_rounds([v * drawing.scale for v in curve.values[at].values()]) for at in contexts]
    if len(contexts) > 1:
        axes.fill_between(
            contexts, [s.low for s in spans], [s.high for s in spans], alpha=0.2, linewidth=0,
            color=style["color"], gid=f"band-{curve.name.block}",
        )  # fmt: skip
    values = [curve.at(at) * drawing.scale for at in contexts]
    axes.plot(contexts, values, gid=f"series-{curve.name.block}", **style)
    hot = [at for at in contexts if (curve.name.block, at) in drawing.throttled]
    if hot:
        marks: dict[str, Any] = style | {"linestyle": "none", "markerfacecolor": sentinel("bg")}
        axes.plot(hot, [curve.at(at) * drawing.scale for at in hot], **marks)


def _end(curve: Curve, scale: float) -> tuple[float, float, str, str]:
    last = curve.contexts[-1]
    token = canvas.style_of(curve.name).token
    return float(last), curve.at(last) * scale, short(curve.name.label), token


def _misfits(axes: Axes, facet: Comparison) -> None:
    """A cross at the top where a contender failed, in its colour; a hatch where none fits."""
    ceiling = axes.get_xaxis_transform()
    for row, curve in enumerate(curve for curve in facet.curves if curve.failures):
        failed = sorted(curve.failures)
        token = canvas.style_of(curve.name).token
        height = 0.965 - _ROW * row
        axes.plot(
            failed, [height] * len(failed), linestyle="none", marker="x", markersize=5.5,
            markeredgewidth=1.6, color=sentinel(token), transform=ceiling, clip_on=False,
            gid=f"misfit-{curve.name.block}",
        )  # fmt: skip
        reason = curve.failures[failed[0]].reason
        text = "does not fit" if reason in TOO_BIG else reason
        left = axes.get_xlim()[0] < failed[0] / 1.5
        canvas.note(
            axes, failed[0] / 1.12 if left else failed[-1] * 1.12, height,
            f"{short(curve.name.label)} {text}", token, transform=ceiling, va="center",
            ha="right" if left else "left", fontsize=9.5,
        )  # fmt: skip
    none = [at for at in facet.tried if at not in facet.contexts]
    if none:
        axes.axvspan(
            none[0] / 1.15, axes.get_xlim()[1], facecolor="none", edgecolor=sentinel("grid"),
            hatch="//", linewidth=0, zorder=0,
        )  # fmt: skip


def _mark_switch(axes: Axes, switch: Switch, heading: str = "") -> None:
    """A rule at the crossover, a strip for its interval (or for its bracket where it is wide)."""
    boundary = switch.boundary
    low, high = boundary.bracket
    if switch.interval and not boundary.wide:
        low, high = switch.interval  # type: ignore[assignment]
    if boundary.wide or switch.interval:
        axes.axvspan(low, high, color=sentinel("muted"), alpha=0.16, linewidth=0, zorder=0.5)
    if boundary.context is None:
        return
    text, middle = format_context(boundary.context), boundary.context
    if boundary.wide:
        text, middle = f"{format_context(low)} to {format_context(high)}", math.sqrt(low * high)
    else:
        axes.axvline(middle, color=sentinel("fg"), linewidth=1.0, linestyle=(0, (2, 2)))
    if heading:
        _label_switch(axes, middle, text, heading)


def _label_switch(axes: Axes, at: float, text: str, heading: str) -> None:
    """Above the axes; on a second line where the heading stands in the way."""
    share = float((axes.transData + axes.transAxes.inverted()).transform((at, 1.0))[0])
    width_pt = axes.get_position().width * canvas.WIDTH_IN * 72
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

    facet = drawing.facet
    canvas.plain(axes)
    canvas.context_axis(axes, facet.tried or [512, 1024])
    base = next((c for c in facet.curves if c.name.block == drawing.reference), None)
    if base is None or not base.values:
        axes.set_yticks([])
        return
    canvas.heading(axes, f"times as fast as {base.name.label}")
    small: dict[str, Any] = {"markersize": 4.2}
    drawn: list[tuple[Curve, list[int], list[float]]] = []
    seen = [1.0]
    for curve in facet.curves:
        shared = [at for at in curve.contexts if at in base.values]
        if curve is base or not shared:
            continue
        spans = [ratio(base.values[at], curve.values[at]) for at in shared]
        seen += [s.low for s in spans] + [s.high for s in spans]
        style: dict[str, Any] = canvas.line_arguments(curve.name)
        if len(shared) > 1:
            axes.fill_between(
                shared, [s.low for s in spans], [s.high for s in spans], alpha=0.22, linewidth=0,
                color=style["color"],
            )  # fmt: skip
        values = [span.value for span in spans]
        axes.plot(shared, values, gid=f"ratio-{curve.name.block}", **(style | small))
        drawn.append((curve, shared, values))
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
    axes.axhspan(
        1 / (1 + TIE), 1 + TIE, color=sentinel("muted"), alpha=0.25, linewidth=0, zorder=0.5
    )
    axes.axhline(1, color=sentinel("fg"), linewidth=0.9)
    for switch in drawing.switches:
        _mark_switch(axes, switch)
    ends = [
        (float(at[-1]), values[-1], _gain(curve, values[-1]), canvas.style_of(curve.name).token)
        for curve, at, values in drawn
    ]
    canvas.label_ends(axes, ends, 0.13)


def _gain(curve: Curve, value: float) -> str:
    label = short(curve.name.label)
    return f"{label if len(label) <= 16 else curve.name.letter} {format_ratio(value)}"
