"""What could be changed, each with its evidence and an upper bound of the gain.

Bounds come from this run alone: a graph instead of launches, an op at its ceiling (Amdahl), another
contender where one does not fit. Nothing is changed and nothing is promised.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ssmprof.analysis.compare.answer import Answer
from ssmprof.analysis.findings import Advice, Launch, MemoryLaw, RooflinePoint
from ssmprof.units import format_context, format_time

WORTH = 1.05  # gains below are within what a verdict calls a tie, or near it


def advise(
    launches: Sequence[Launch],
    roofline: Sequence[RooflinePoint],
    answers: Sequence[Answer],
    laws: Sequence[MemoryLaw],
) -> list[Advice]:
    """All advice, the largest gain first, then what has no number."""
    found = [*_graphs(launches), *_slow_ops(roofline), *_capacity(answers), *_growth(laws)]
    return sorted(found, key=lambda advice: -(advice.at_most or 0.0))


def _graphs(launches: Sequence[Launch]) -> Iterable[Advice]:
    """Per block and phase: launch-bound up to which context, and what a graph saves there."""
    groups: dict[tuple[str, str, int], list[Launch]] = {}
    for launch in launches:
        if launch.verdict == "launch-bound" and launch.graph_s is not None:
            conditions = launch.conditions
            key = (launch.block, conditions.phase, conditions.batch or 1)
            groups.setdefault(key, []).append(launch)
    for (block, phase, batch), mine in groups.items():
        worst = max(mine, key=lambda launch: launch.gap)
        longest = max(launch.context for launch in mine)
        assert worst.graph_s is not None
        yield Advice(
            finding=f"{block} {phase}, batch {batch}, is launch-bound up to "
            f"{format_context(longest)}: use CUDA graphs",
            evidence=f"at {format_context(worst.context)} {format_time(worst.eager_s)} eager, "
            f"{format_time(worst.graph_s)} as a graph",
            at_most=worst.eager_s / worst.graph_s,
            group="CUDA graphs instead of launches",
            where=f"{block} {phase}, batch {batch}",
            taken=True,  # both were timed, and an answer takes the graph first
        )


def _slow_ops(roofline: Sequence[RooflinePoint]) -> Iterable[Advice]:
    """The op of each block, at its longest context, whose ceiling would save the most."""
    best: dict[tuple[str, str], tuple[int, float, Advice]] = {}
    wholes = {
        (point.conditions, point.block, point.context): point.time_s
        for point in roofline
        if point.scope == "whole"
    }
    for point in roofline:
        whole = wholes.get((point.conditions, point.block, point.context))
        if point.scope == "whole" or whole is None or point.conditions.execution != "graph":
            continue
        saved = max(point.time_s - point.floor_s, 0.0)
        gain = whole / (whole - saved) if saved < whole else 1.0
        if gain < WORTH:
            continue
        advice = Advice(
            finding=f"{point.block} {point.conditions.phase} at {format_context(point.context)}: "
            f"{point.scope} is at {point.of_ceiling:.0%} of its {point.bound} ceiling",
            evidence=f"{format_time(point.time_s)} of {format_time(whole)}; at the ceiling "
            f"{format_time(point.floor_s)} (rates: {point.source})",
            at_most=gain,
            group=f"{point.scope.rsplit('.', 1)[-1]} is below its {point.bound} ceiling",
            where=f"{point.block} {point.conditions.phase} at {format_context(point.context)}",
        )
        key = (point.block, point.conditions.phase)
        if key not in best or (point.context, gain) > best[key][:2]:
            best[key] = (point.context, gain, advice)
    return [advice for _, _, advice in best.values()]


def _capacity(answers: Sequence[Answer]) -> Iterable[Advice]:
    """Who does not fit, from which length on, and who does; once per phase and batch."""
    found: dict[tuple[str, str, int], tuple[int, set[str]]] = {}
    for one in answers:
        if one.metric != "latency":
            continue
        here: dict[int, set[str]] = {}
        for point in one.curves:
            here.setdefault(point.context, set()).add(point.block)
        for standing in one.standings:
            fits = here.get(standing.context, set())
            for block in standing.absent:
                key = (block, one.conditions.phase, one.conditions.batch or 1)
                shortest, others = found.get(key, (standing.context, set[str]()))
                found[key] = min(shortest, standing.context), others | fits
    for (block, phase, batch), (shortest, others) in found.items():
        yield Advice(
            finding=f"{block} does not fit at {format_context(shortest)} "
            f"({phase}, batch {batch}): use {' or '.join(sorted(others))}",
            evidence="measured there, or predicted from the memory law where it was not tried",
            group=f"use {' or '.join(sorted(others))}, which fits",
            where=f"{block} does not fit at {format_context(shortest)} ({phase}, batch {batch})",
        )


def _growth(laws: Sequence[MemoryLaw]) -> Iterable[Advice]:
    """Predictions of the memory law beyond what was measured."""
    for law in laws:
        if law.fits_up_to and law.failed_at is None and law.fits_up_to > law.measured_up_to:
            yield Advice(
                finding=f"{law.block} {law.conditions.phase}, batch {law.conditions.batch}, is "
                f"predicted to fit up to {format_context(law.fits_up_to)}",
                evidence=f"a line through measured peaks (worst miss {law.worst_residual:.1%}); "
                f"measured up to {format_context(law.measured_up_to)}",
            )
