"""How near each kernel family comes to what the device can do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssmprof.report import canvas, placement
from ssmprof.report.theme import BANDS, sentinel

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Mark:
    """One op of one contender at one context. FLOP per byte, FLOP/s, share of its time."""

    block: str
    label: str
    family: str
    intensity: float
    achieved: float
    share: float


@dataclass(frozen=True)
class Ceilings:
    """What the device can do: bytes/s, FLOP/s, and where the numbers are from."""

    bytes_per_s: float
    flops: float
    source: str


def draw(marks: list[Mark], ceilings: Ceilings) -> Figure:
    """Log-log, a named mark per part in the colour of its family; size is the share of time."""
    figure = canvas.figure(3.9)
    axes = figure.add_axes((0.115, 0.14, 0.815, 0.77))
    canvas.plain(axes)
    ridge = ceilings.flops / ceilings.bytes_per_s
    left = min(min(mark.intensity for mark in marks) / 2, ridge / 8)
    right = max(max(mark.intensity for mark in marks) * 2, ridge * 8)
    bottom = min(mark.achieved for mark in marks) / 2
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    top = max(ceilings.flops, *(mark.achieved for mark in marks)) * 2
    canvas.log_axis(axes, bottom / 1e12, top / 1e12)
    axes.xaxis.set_major_formatter(lambda value, _: canvas.plain_number(value))
    axes.xaxis.minorticks_off()
    canvas.heading(axes, f"TFLOP/s (ceilings: {ceilings.source})")
    canvas.axis_title(axes, "FLOP per byte of minimal traffic")
    roof = [
        min(ceilings.flops, x * ceilings.bytes_per_s) / 1e12 for x in (left, ridge, right)
    ]  # fmt: skip
    axes.plot([left, ridge, right], roof, color=sentinel("fg"), linewidth=1.4)
    middle = math.sqrt(left * ridge)
    canvas.note(
        axes, middle, middle * ceilings.bytes_per_s / 1e12 * 1.25,
        f"{ceilings.bytes_per_s / 1e9:,.0f} GB/s", "fg", ha="right",
    )  # fmt: skip
    canvas.note(
        axes, right / 1.1, ceilings.flops / 1e12 * 1.12, f"{ceilings.flops / 1e12:,.0f} TFLOP/s",
        "fg", ha="right", va="bottom",
    )  # fmt: skip
    tokens = {family: band.token for band in BANDS for family in band.families}
    to_axes = axes.transData + axes.transAxes.inverted()
    spots = [to_axes.transform((mark.intensity, mark.achieved / 1e12)) for mark in marks]
    # Below the ceiling, whose line would strike a label out.
    ceiling = float(to_axes.transform((right, ceilings.flops / 1e12))[1])
    heights = placement.spread([float(y) for _, y in spots], 0.052, 0.03, ceiling - 0.045)
    for mark, (x, y), height in zip(marks, spots, heights, strict=True):
        axes.scatter(
            [mark.intensity], [mark.achieved / 1e12], s=20 + 160 * mark.share,
            color=sentinel(tokens.get(mark.family) or "muted"), zorder=3, linewidth=0,
        )  # fmt: skip
        # Towards the middle, so that no label leaves the figure.
        side = -1 if x > 0.5 else 1
        reach = float(x) + 0.03 * side
        axes.plot(
            [x + 0.008 * side, reach - 0.004 * side], [y, height], transform=axes.transAxes,
            linewidth=0.6, color=sentinel("muted"),
        )  # fmt: skip
        canvas.note(
            axes, reach, height, f"{mark.block} {mark.label}", "fg", transform=axes.transAxes,
            va="center", ha="left" if side > 0 else "right", fontsize=9.5,
        )  # fmt: skip
    return figure
