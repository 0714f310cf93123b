"""Who is faster over batch and context: measured places, and the line between two contenders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssmprof.report import canvas
from ssmprof.report.theme import sentinel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ssmprof.report.names import Name, Names

_LINES = ((5, 2), (1.5, 1.5), (8, 2, 1.5, 2))


@dataclass(frozen=True)
class Border:
    """Where two contenders are equal: (batch, context) in ascending batches.

    Drawn where each of the two is fastest somewhere; any other line parts nothing.
    """

    label: str
    between: tuple[str, str]
    places: tuple[tuple[int, float], ...]


def draw(winners: Mapping[tuple[int, int], str], borders: Sequence[Border], names: Names) -> Figure:
    """Batches over lengths; a mark per measured place in the winner's colour and shape."""
    contexts = sorted({at for _, at in winners})
    batches = sorted({batch for batch, _ in winners})
    leading = set(winners.values())
    borders = [one for one in borders if leading.issuperset(one.between)]
    shown = [one for one in names.values() if one.block in set(winners.values())]
    below = canvas.legend_height([one.label for one in shown] + [one.label for one in borders])
    height = 3.5 + below
    figure = canvas.figure(height)
    axes = figure.add_axes((0.1, (0.55 + below) / height, 0.87, 1 - (0.95 + below) / height))
    canvas.plain(axes)
    canvas.heading(axes, "batch, sequences at once")
    canvas.axis_title(axes)
    canvas.context_axis(axes, contexts)
    canvas.batch_axis(axes, batches)
    handles = [_marks(axes, winners, one) for one in shown]
    for index, one in enumerate(borders):
        handles += axes.plot(
            [at for _, at in one.places], [batch for batch, _ in one.places],
            color=sentinel("fg"), linewidth=1.6, label=one.label, gid=f"border-{index}",
            linestyle=(0, _LINES[index % len(_LINES)]), marker="|", markersize=5,
        )  # fmt: skip
    canvas.legend(figure, handles)
    return figure


def _marks(axes: Axes, winners: Mapping[tuple[int, int], str], name: Name) -> Any:
    mine = [place for place, block in winners.items() if block == name.block]
    how = canvas.line_arguments(name) | {"linestyle": "none", "markersize": 8}
    found = axes.plot(
        [at for _, at in mine], [batch for batch, _ in mine], gid=f"place-{name.block}",
        label=f"{name.label} is fastest", **how,
    )  # fmt: skip
    return found[0]
