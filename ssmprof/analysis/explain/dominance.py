"""Which kernel family owns the time of a block, by each of three denominators.

device       the sum of the kernels: always stated
graph-wall   one graph replay, gaps between kernels included
eager-wall   the host's wall time of an eager call, launch gaps included
The rest of a wall time is the family `launch-gap`. A share is the mean over processes with its
Student interval. Where a family passes one half is found like a crossing of two contenders, the
family and all the rest of the call: the same signs, zones and certainty.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from ssmprof.analysis.compare.curve import Contender, Ratio
from ssmprof.analysis.compare.estimate import mean_interval
from ssmprof.analysis.compare.modes import ONE_MODE
from ssmprof.analysis.compare.noise import noise_of
from ssmprof.analysis.compare.pairs import Compared, Key, read
from ssmprof.analysis.compare.zone import Standing, changes
from ssmprof.analysis.explain.pairing import Cell, cells
from ssmprof.analysis.findings import Denominator, Dominance, DominanceKind, Share
from ssmprof.limits import HALF
from ssmprof.records import Attribution, Conditions, KernelTime, Measurement, Outcome, Point, median

# Families whose majority is the question of this project, stated also where it is never reached.
ASKED = ("scan", "attention")
DENOMINATORS: tuple[Denominator, ...] = ("device", "graph-wall", "eager-wall")
CUSTOM = "custom"  # all kernels that torch does not bring, of a block with a scan
GAP = "launch-gap"
_OF_TORCH = ("torch", "sdpa", "reference", "cudnn")
_OWN_FAMILIES = ("scan", "conv")
_OVER, _UNDER = "over", "under"


class Shares(NamedTuple):
    """Shares of one block at one length: family -> one value per process, and the whole."""

    conditions: Conditions
    block: str
    context: int
    of: Denominator
    rounds: dict[int, dict[str, float]]
    whole_s: float


def family_times(attribution: Attribution) -> dict[str, float]:
    """Seconds of one call per family, medians of the replays."""
    found: dict[str, float] = {}
    for kernel in attribution.kernels:
        found[kernel.family] = found.get(kernel.family, 0.0) + median(kernel.times_s)
    return found


def is_custom(kernel: KernelTime) -> bool:
    """Whether a kernel is one that torch does not bring: a scan, its convolution, a provider's."""
    if kernel.provider is not None:
        return not kernel.provider.startswith(_OF_TORCH)
    return kernel.family in _OWN_FAMILIES


def measured(
    outcomes: Sequence[Outcome],
    conditions_of: Mapping[Point, Conditions],
    wanted: Collection[Denominator] = DENOMINATORS,
) -> list[Shares]:
    """Shares of every family and process, of the times that are wanted."""
    found: list[Shares] = []
    for cell in cells(outcomes, conditions_of):
        tables: dict[Denominator, dict[int, dict[str, float]]] = {}
        walls: dict[Denominator, list[float]] = {}
        for replicate in cell.rounds:
            for of, times, whole in _denominators(cell, replicate):
                if of not in wanted:
                    continue
                shares = {family: time / whole for family, time in times.items()}
                tables.setdefault(of, {})[replicate] = shares
                walls.setdefault(of, []).append(whole)
        for of, rounds in tables.items():
            eager = of == "eager-wall" or cell.graph_conditions is None
            conditions = cell.eager_conditions if eager else cell.graph_conditions
            assert conditions is not None
            whole_s = median(walls[of])
            found.append(Shares(conditions, cell.block, cell.context, of, rounds, whole_s))
    return found


def shares(found: Iterable[Shares]) -> list[Share]:
    """The mean share of every family at every point."""
    return [share for one in found for share in _means(one)]


def dominances(found: Sequence[Shares]) -> list[Dominance]:
    """Where families exceed half of the time: those that do, and the ones always asked about."""
    groups: dict[tuple[Conditions, Denominator], dict[str, list[Shares]]] = {}
    for one in found:
        blocks = groups.setdefault((one.conditions, one.of), {})
        blocks.setdefault(one.block, []).append(one)
    told: list[Dominance] = []
    for (conditions, of), blocks in groups.items():
        pairs: dict[Key, Compared] = {}
        for block, points in blocks.items():
            points.sort(key=lambda one: one.context)
            for family in _asked(points):
                if compared := _against_rest(block, family, points):
                    pairs[block, family] = compared
        read([pairs], tie=0.0, floor=0.0)
        for (block, family), one in pairs.items():
            told.append(_dominance(conditions, of, block, family, one, blocks[block]))
    return told


def _asked(points: Sequence[Shares]) -> list[str]:
    present = {family for one in points for table in one.rounds.values() for family in table}
    over = {
        family for one in points for family in present - {CUSTOM} if _mean_share(one, family) > HALF
    }
    asked = [family for family in ASKED if family in present]
    if "scan" in present:
        asked.append(CUSTOM)
    return [*asked, *sorted(over - set(asked))]


def _against_rest(block: str, family: str, points: Sequence[Shares]) -> Compared | None:
    """The family and the rest of the call as two contenders."""
    logs: dict[int, dict[int, Ratio]] = {}
    for one in points:
        for replicate, table in one.rounds.items():
            share = table.get(family, 0.0)
            if 0 < share < 1:
                ratio = Ratio(math.log(share / (1 - share)), False)
                logs.setdefault(one.context, {})[replicate] = ratio
    if not logs:
        return None
    mine, rest = (Contender(f"{block} {name}", {}, {}, {}) for name in (family, "rest"))
    noises = {False: noise_of(logs, False), True: None}
    return Compared(mine, rest, logs, dict.fromkeys((False, True), ONE_MODE), noises)


def _dominance(
    conditions: Conditions,
    of: Denominator,
    block: str,
    family: str,
    one: Compared,
    points: Sequence[Shares],
) -> Dominance:
    names = {1: frozenset((_OVER,)), -1: frozenset((_UNDER,)), 0: frozenset((_OVER, _UNDER))}
    both = names[0]
    standings = [
        Standing(context, names[reading.sign], False, both)
        for context, reading in one.readings.items()
    ]
    kind, low, high = _passes(standings)
    peaks = {point.context: _mean_share(point, family) for point in points}
    peak = max(peaks, key=lambda context: peaks[context])
    return Dominance(
        conditions=conditions,
        block=block,
        family=family,
        of=of,
        kind=kind,
        peak_share=peaks[peak],
        peak_tokens=peak,
        low_tokens=low,
        high_tokens=high,
    )


def _passes(standings: Sequence[Standing]) -> tuple[DominanceKind, int | None, int | None]:
    """Where one half is passed: kind and zone."""
    sides = [one.winners for one in standings if len(one.winners) == 1]
    if not sides:
        return "unresolved", None, None
    _, zones = changes(standings)
    if not zones:
        if len(sides) < len(standings):
            return "unresolved", None, None
        return ("throughout" if _OVER in sides[0] else "never"), None, None
    if len(zones) > 1:
        return "several", zones[0].low, zones[-1].high
    return ("from" if _OVER in zones[0].after else "up-to"), zones[0].low, zones[0].high


def _denominators(
    cell: Cell, replicate: int
) -> Iterable[tuple[Denominator, dict[str, float], float]]:
    """(denominator, seconds per family with the gap, whole) of one process."""
    graph, eager = cell.graph.get(replicate), cell.eager.get(replicate)
    source = next((one for one in (graph, eager) if one and one.attribution), None)
    if source is None or source.attribution is None:
        return
    times: dict[str, float] = {}
    custom_s: list[float] = []
    for kernel in source.attribution.kernels:
        time_s = median(kernel.times_s)
        times[kernel.family] = times.get(kernel.family, 0.0) + time_s
        if is_custom(kernel):
            custom_s.append(time_s)
    device = math.fsum(times.values())
    if device <= 0:
        return
    custom = math.fsum(custom_s)
    known = {**times, CUSTOM: custom}
    yield "device", known, device
    walls: tuple[tuple[Denominator, Measurement | None], ...] = (
        ("graph-wall", graph),
        ("eager-wall", eager),
    )
    for of, one in walls:
        if one is not None:
            whole = max(_whole(one), device)
            yield of, {**known, GAP: times.get(GAP, 0.0) + whole - device}, whole


def _whole(one: Measurement) -> float:
    """Un-instrumented time of the call whose parts were timed, else hot, as replayed parts are."""
    if one.attribution is not None:
        return one.attribution.whole_s
    return median(one.hot_times_s or one.times_s)


def _mean_share(one: Shares, family: str) -> float:
    tables = one.rounds.values()
    return math.fsum(table.get(family, 0.0) for table in tables) / len(tables)


def _means(one: Shares) -> Iterable[Share]:
    tables = list(one.rounds.values())
    for family in dict.fromkeys(family for table in tables for family in table):
        mean, interval = mean_interval([table.get(family, 0.0) for table in tables])
        if interval is not None:
            interval = (max(interval[0], 0.0), min(interval[1], 1.0))
        yield Share(
            conditions=one.conditions,
            block=one.block,
            context=one.context,
            family=family,
            of=one.of,
            share=mean,
            time_s=mean * one.whole_s,
            interval=interval,
        )
