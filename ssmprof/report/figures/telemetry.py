"""What the device did while it was measured: clock, temperature and power as small strips."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

from ssmprof.records import TelemetrySample
from ssmprof.report import canvas
from ssmprof.report.theme import sentinel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

_MOST_POINTS = 200
_Read = Callable[[TelemetrySample], float | None]
STRIPS: tuple[tuple[str, _Read], ...] = (
    ("compute clock, MHz", lambda s: s.sm_hz / 1e6 if s.sm_hz is not None else None),
    ("temperature, °C", lambda s: s.temperature_c),
    ("power, W", lambda s: s.power_w),
)


def available(samples: tuple[TelemetrySample, ...]) -> list[tuple[str, _Read]]:
    """Strips that have at least two readings."""
    return [
        (name, read)
        for name, read in STRIPS
        if sum(read(sample) is not None for sample in samples) > 1
    ]


def draw(samples: tuple[TelemetrySample, ...]) -> Figure:
    """Minutes from the start; spans in which the device throttled itself are shaded."""
    strips = available(samples)
    samples = samples[:: max(1, len(samples) // _MOST_POINTS)]
    figure = canvas.figure(0.95 * len(strips) + 0.5)
    height = figure.get_figheight()
    start = samples[0].unix_s
    for index, (name, read) in enumerate(strips):
        low = (0.47 + 0.95 * (len(strips) - 1 - index)) / height
        axes = figure.add_axes((0.115, low, 0.87, 0.62 / height))
        canvas.plain(axes, grid="y")
        canvas.heading(axes, name)
        kept = [((s.unix_s - start) / 60, read(s)) for s in samples]
        points = [(at, value) for at, value in kept if value is not None]
        axes.plot([at for at, _ in points], [v for _, v in points], color=sentinel("fg"), lw=1)
        axes.set_xlim(0, max((samples[-1].unix_s - start) / 60, 0.01))
        axes.yaxis.set_major_locator(_few())
        if index < len(strips) - 1:
            axes.tick_params(labelbottom=False)
        else:
            canvas.axis_title(axes, "minutes from the start")
        _shade(axes, [((a - start) / 60, (b - start) / 60) for a, b in throttled(samples)])
    return figure


def _shade(axes: Axes, spans: list[tuple[float, float]]) -> None:
    """All spans as one shape: a device at its limit has hundreds of them."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if not spans:
        return
    boxes = [Path([(a, 0), (b, 0), (b, 1), (a, 1), (a, 0)], closed=True) for a, b in spans]
    axes.add_patch(
        PathPatch(
            Path.make_compound_path(*boxes), transform=axes.get_xaxis_transform(),
            color=sentinel("warn"), alpha=0.25, linewidth=0,
        )
    )  # fmt: skip


def throttled(samples: tuple[TelemetrySample, ...]) -> list[tuple[float, float]]:
    """Spans from a throttled reading to the next one that is not, in seconds of the clock."""
    spans: list[tuple[float, float]] = []
    for first, last in pairwise(samples):
        if not first.throttle:
            continue
        if spans and spans[-1][1] == first.unix_s:
            spans[-1] = (spans[-1][0], last.unix_s)
        else:
            spans.append((first.unix_s, last.unix_s))
    return spans


def _few() -> MaxNLocator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(3)
