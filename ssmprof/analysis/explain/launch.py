"""Whether the device waits for the host: launch-bound, mixed or device-bound, per point.

From eager wall, graph wall and the sum of kernel times (docs/how-it-works/attribution.md). A
launch-bound point says "use graphs" before it says anything about kernels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ssmprof.analysis.explain.dominance import family_times
from ssmprof.analysis.explain.pairing import Cell, cells
from ssmprof.analysis.findings import Launch
from ssmprof.limits import LAUNCH_BOUND, MIXED
from ssmprof.records import Conditions, Measurement, Outcome, Point, median


def launches(
    outcomes: Sequence[Outcome], conditions_of: Mapping[Point, Conditions]
) -> list[Launch]:
    """A verdict for every point timed eagerly on a device whose own time is known apart."""
    found = [_launch(cell) for cell in cells(outcomes, conditions_of)]
    return [launch for launch in found if launch is not None]


def _launch(cell: Cell) -> Launch | None:
    if cell.eager_conditions is None:
        return None
    eager_s = median(one.time_s for one in cell.eager.values())
    graph_s = median(one.time_s for one in cell.graph.values()) if cell.graph else None
    device_s = _device_s([*cell.graph.values(), *cell.eager.values()])
    reference = graph_s if graph_s is not None else device_s
    if reference is None or eager_s <= 0:  # below what can be timed
        return None
    gap = max(0.0, 1 - reference / eager_s)
    counts = [one.launches for one in cell.eager.values() if one.launches]
    counts += [one.launches for one in cell.graph.values() if one.launches]
    return Launch(
        conditions=cell.eager_conditions,
        block=cell.block,
        context=cell.context,
        eager_s=eager_s,
        graph_s=graph_s,
        device_s=device_s,
        gap=gap,
        busy=None if device_s is None else min(1.0, device_s / eager_s),
        verdict=(
            "launch-bound" if gap >= LAUNCH_BOUND else "mixed" if gap >= MIXED else "device-bound"
        ),
        host_s_per_launch=eager_s / median(counts) if counts else None,
    )


def _device_s(measurements: Sequence[Measurement]) -> float | None:
    sums = [
        math.fsum(family_times(one.attribution).values())
        for one in measurements
        if one.attribution is not None and one.attribution.route != "wall-clock"
    ]
    return median(sums) if sums else None
