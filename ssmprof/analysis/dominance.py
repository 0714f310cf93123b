"""Which kernel family owns the time of a block, by each of three denominators.

device       the sum of the kernels: always stated
graph-wall   one graph replay, gaps between kernels included
eager-wall   the host's wall time of an eager call, launch gaps included
The rest of a wall time is the family `launch-gap`. A share is the mean over rounds with its Student
interval; a change of majority is the root of share - 1/2 over log context.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ssmprof.analysis.curves import roots
from ssmprof.analysis.findings import Denominator, Dominance, Facet, Interval, Share
from ssmprof.analysis.pairing import Cell, cells
from ssmprof.analysis.stats import mean_interval
from ssmprof.records import Attribution, Measurement, Outcome, median

HALF = 0.5
# Families whose majority is the question of this project, stated also where it is never reached.
ASKED = ("scan", "attention")
GAP = "launch-gap"


def family_times(attribution: Attribution) -> dict[str, float]:
    """Seconds of one call per family, medians of the replays."""
    found: dict[str, float] = {}
    for kernel in attribution.kernels:
        found[kernel.family] = found.get(kernel.family, 0.0) + median(kernel.times_s)
    return found


def shares(outcomes: Sequence[Outcome], facet_of: Mapping[str, Facet]) -> list[Share]:
    """Shares of every family; `facet_of` maps an outcome's key to its facet."""
    found: list[Share] = []
    for cell in cells(outcomes, facet_of):
        rounds: dict[Denominator, list[dict[str, float]]] = {}
        walls: dict[Denominator, list[float]] = {}
        for turn in cell.rounds:
            for of, times, whole in _denominators(cell, turn):
                rounds.setdefault(of, []).append(
                    {family: time / whole for family, time in times.items()}
                )
                walls.setdefault(of, []).append(whole)
        for of, tables in rounds.items():
            found.extend(_over_rounds(cell, of, tables, median(walls[of])))
    return found


def dominances(found: Iterable[Share]) -> list[Dominance]:
    """Where families exceed half of the time: those that do, and the ones always asked about."""
    series: dict[tuple[Facet, str, Denominator, str], list[Share]] = {}
    for share in found:
        key = (share.facet, share.block, share.of, share.family)
        series.setdefault(key, []).append(share)
    return [
        _dominance(key, sorted(points, key=lambda share: share.context))
        for key, points in series.items()
        if key[3] in ASKED or any(point.share > HALF for point in points)
    ]


def _denominators(cell: Cell, turn: int) -> Iterable[tuple[Denominator, dict[str, float], float]]:
    """(denominator, seconds per family with the gap, whole) of one round."""
    graph, eager = cell.graph.get(turn), cell.eager.get(turn)
    source = next((one for one in (graph, eager) if one and one.attribution), None)
    if source is None or source.attribution is None:
        return
    times = family_times(source.attribution)
    device = math.fsum(times.values())
    if device <= 0:
        return
    yield "device", times, device
    walls: tuple[tuple[Denominator, Measurement | None], ...] = (
        ("graph-wall", graph),
        ("eager-wall", eager),
    )
    for of, measured in walls:
        if measured is not None:
            whole = max(_whole(measured), device)
            yield of, {**times, GAP: times.get(GAP, 0.0) + whole - device}, whole


def _whole(measured: Measurement) -> float:
    """Un-instrumented time of the call whose parts were timed, else hot, as replayed parts are."""
    if measured.attribution is not None:
        return measured.attribution.whole_s
    return median(measured.hot_times_s or measured.times_s)


def _over_rounds(
    cell: Cell, of: Denominator, tables: Sequence[Mapping[str, float]], whole_s: float
) -> Iterable[Share]:
    facet = cell.eager_facet if of == "eager-wall" or cell.graph_facet is None else cell.graph_facet
    assert facet is not None
    for family in dict.fromkeys(family for table in tables for family in table):
        mean, interval = mean_interval([table.get(family, 0.0) for table in tables])
        if interval is not None:
            interval = (max(interval[0], 0.0), min(interval[1], 1.0))
        yield Share(
            facet=facet,
            block=cell.block,
            context=cell.context,
            family=family,
            of=of,
            share=mean,
            time_s=mean * whole_s,
            interval=interval,
        )


def _dominance(key: tuple[Facet, str, Denominator, str], points: Sequence[Share]) -> Dominance:
    facet, block, of, family = key
    peak = max(points, key=lambda point: point.share)
    lengths = [point.context for point in points]
    over = [point.share > HALF for point in points]
    changes = [index for index in range(len(over) - 1) if over[index] != over[index + 1]]
    context = low = high = interval = None
    if not any(over):
        kind = "not-reached"
    elif all(over):
        kind = "throughout"
    elif len(changes) > 1:
        kind = "several"
    else:
        kind = "from" if over[-1] else "up-to"
        index = changes[0]
        low, high = lengths[index], lengths[index + 1]
        ends = points[index], points[index + 1]
        context = _root(ends, [end.share for end in ends])
        interval = _root_interval(ends)
    return Dominance(
        facet=facet,
        block=block,
        family=family,
        of=of,
        kind=kind,
        peak_share=peak.share,
        peak_context=peak.context,
        context=context,
        low=low,
        high=high,
        interval=interval,
    )


def _root(ends: tuple[Share, Share], values: Sequence[float]) -> float:
    lengths = [float(end.context) for end in ends]
    found = roots(lengths, [value - HALF for value in values])
    return found[0] if found else lengths[0] if values[0] > HALF else lengths[1]


def _root_interval(ends: tuple[Share, Share]) -> Interval | None:
    """Where the lower and the upper ends of both shares cross one half; clipped to the bracket."""
    if ends[0].interval is None or ends[1].interval is None:
        return None
    edges = [_clipped(ends, ends[0].interval[side], ends[1].interval[side]) for side in (0, 1)]
    return min(edges), max(edges)


def _clipped(ends: tuple[Share, Share], left: float, right: float) -> float:
    found = roots([float(ends[0].context), float(ends[1].context)], [left - HALF, right - HALF])
    if found:
        return found[0]
    rising = ends[1].share > ends[0].share
    # No root: the edge stays on one side of one half over the whole bracket.
    return float(ends[0 if (left > HALF) == rising else 1].context)
