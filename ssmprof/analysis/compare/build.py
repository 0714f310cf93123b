"""A run's outcomes -> one answer per metric and set of conditions, without its trust."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from ssmprof.analysis.compare import clocks, envelope
from ssmprof.analysis.compare.answer import Answer, Crossing, Pair, Segment, Sustained
from ssmprof.analysis.compare.conditions import Groups
from ssmprof.analysis.compare.cost import Costs
from ssmprof.analysis.compare.crossing import Ops, shares_of
from ssmprof.analysis.compare.curve import METRICS, Contender, Take, contenders
from ssmprof.analysis.compare.estimate import estimate
from ssmprof.analysis.compare.field import Field
from ssmprof.analysis.compare.modes import ONE_MODE
from ssmprof.analysis.compare.pairs import (
    Compared,
    Key,
    compared,
    deciding,
    read,
    read_exact,
)
from ssmprof.analysis.compare.sustained import sustained
from ssmprof.analysis.findings import CurvePoint, Metric
from ssmprof.records import Conditions, Environment, Measurement, Outcome

Choose = Callable[[Conditions, Mapping[str, Contender]], Iterable[Key]]


class Group(NamedTuple):
    """One set of conditions in one metric, its contenders and pairs."""

    conditions: Conditions
    metric: Metric
    outcomes: Sequence[Outcome]
    known: Mapping[str, Contender]
    pairs: dict[Key, Compared]


def answers(
    groups: Groups,
    environments: Mapping[str, Environment],
    tie: float,
    *,
    least_context: int = 0,
    metrics: Sequence[Metric] = METRICS,
    assumed: float | None = None,
) -> list[Answer]:
    """Every answer, in the order of the conditions; latency before the other metrics.

    Args:
        groups: outcomes by conditions.
        tie: contenders that differ by less are equal (ratio).
        least_context: lengths below it decide nothing (tokens).
        assumed: noise between processes (ratio) to plan with, in place of what was observed: the
            answers then say where to measure next, and nothing else.
    """
    found: list[Answer] = []
    ops = {conditions: _ops(outcomes) for conditions, outcomes in groups.items()}
    costs = {conditions: Costs(outcomes) for conditions, outcomes in groups.items()}

    def in_metric(metric: Metric) -> list[Answer]:
        seconds = read_groups(
            groups, environments, tie, metric, least_context, assumed,
            choose=lambda _, known: deciding(known),
        )  # fmt: skip
        cycles = []
        if metric == "latency" and assumed is None:
            same = {group.conditions: group.pairs for group in seconds}
            cycles = read_groups(
                groups, environments, tie, metric, least_context,
                take=clocks.cycles, choose=lambda found, _: same[found],
            )  # fmt: skip
        counted = {group.conditions: group for group in cycles}
        return [
            _answer(
                group,
                counted.get(group.conditions),
                ops[group.conditions],
                costs[group.conditions],
                tie,
                least_context,
            )
            for group in seconds
        ]

    for metric in metrics:
        found += in_metric(metric)
    found = [
        replace(one, sustained=_under_load(one, groups[one.conditions], environments))
        if one.metric == "latency"
        else one
        for one in found
    ]
    order = {conditions: index for index, conditions in enumerate(groups)}
    return sorted(found, key=lambda one: (order[one.conditions], METRICS.index(one.metric)))


def _under_load(
    answer: Answer, outcomes: Iterable[Outcome], environments: Mapping[str, Environment]
) -> Sustained | None:
    floor = math.log1p(process_noise(environments, answer.conditions.device))
    return sustained(answer, outcomes, floor)


def read_groups(
    groups: Groups,
    environments: Mapping[str, Environment],
    tie: float,
    metric: Metric = "latency",
    least_context: int = 0,
    assumed: float | None = None,
    take: Take | None = None,
    choose: Choose | None = None,
) -> list[Group]:
    """Contenders and pairs of every set of conditions in one metric, with their readings.

    `take` gives other samples than the metric's (SM cycles); `choose` says which pairs to compare,
    where not all.
    """
    found: list[Group] = []
    for conditions, outcomes in groups.items():
        known = contenders(outcomes, metric, least_context, take)
        shown = contenders(outcomes, metric, take=take) if least_context else known
        if metric == "latency" or any(one.curve for one in shown.values()):
            keys = choose(conditions, known) if choose else None
            found.append(Group(conditions, metric, outcomes, known, compared(known, keys)))
    if metric == "memory":
        for group in found:
            read_exact(group.pairs, tie)
    else:
        _read(found, environments, tie, assumed)
    return found


def _read(
    groups: Iterable[Group],
    environments: Mapping[str, Environment],
    tie: float,
    assumed: float | None,
) -> None:
    """Readings of all pairs; noise is pooled where device and execution are the same."""
    alike: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        key = (group.conditions.device, group.conditions.execution)
        alike.setdefault(key, []).append(group)
    for (device, _), members in alike.items():
        pairs = [group.pairs for group in members]
        read(pairs, tie, math.log1p(process_noise(environments, device)), assumed)


def process_noise(environments: Mapping[str, Environment], device: str) -> float:
    """How far the examination found equal calls in two processes apart (ratio); 0 if not known."""
    return max(
        (
            machine.calibration.repeat_noise or 0.0
            for machine in environments.values()
            if machine.device == device and machine.calibration is not None
        ),
        default=0.0,
    )


def _answer(
    group: Group,
    cycles: Group | None,
    ops: Mapping[str, Mapping[int, Ops]],
    costs: Costs,
    tie: float,
    least_context: int,
) -> Answer:
    # Lengths that decide nothing are shown all the same.
    shown = contenders(group.outcomes, group.metric) if least_context else group.known
    field = Field(group.known, group.pairs, ops)
    segments, crossings = envelope.answer(field, costs.of)
    mine: dict[str, list[Outcome]] = {}
    for outcome in group.outcomes:
        mine.setdefault(outcome.point.block, []).append(outcome)
    pairs = [
        _pair(one, ops, costs, cycles, [*mine[one.a.name], *mine[one.b.name]], tie)
        for one in group.pairs.values()
    ]
    return Answer(
        conditions=group.conditions,
        metric=group.metric,
        tie=tie,
        contenders=tuple(shown),
        curves=tuple(_curves(group, shown)),
        standings=tuple(envelope.standings_told(field)),
        segments=tuple(segments),
        crossings=tuple(crossings),
        pairs=tuple(pairs),
        alone=envelope.alone(field),
        failures={
            name: {at: one.reason for at, one in sorted(mine.failures.items())}
            for name, mine in shown.items()
            if mine.failures
        },
        least_context=least_context,
    )


def _pair(
    one: Compared,
    ops: Mapping[str, Mapping[int, Ops]],
    costs: Costs,
    cycles: Group | None,
    outcomes: Sequence[Outcome],
    tie: float,
) -> Pair:
    """Two contenders, of these outcomes, as if they were alone."""
    a, b = one.a.name, one.b.name
    segments, crossings = _alone(one, ops, costs)
    other = cycles.pairs.get((a, b)) if cycles else None
    again: list[Crossing] = _alone(other, ops, costs)[1] if other else []
    checked = clocks.check(one, other, (crossings, again), outcomes, tie) if cycles else None
    counted = checked.cycles if checked else {}
    depends = set(checked.contexts) if checked else set[int]()
    return Pair(
        block=a,
        other=b,
        points=tuple(
            envelope.point(reading, counted.get(at), at in depends)
            for at, reading in one.readings.items()
        ),
        segments=tuple(segments),
        crossings=tuple(crossings),
        modes=tuple(
            tuple(sorted(mode))
            for found in one.ways.values()
            if found != ONE_MODE
            for mode in found
        ),
        clocks=checked,
    )


def _alone(
    one: Compared, ops: Mapping[str, Mapping[int, Ops]], costs: Costs
) -> tuple[list[Segment], list[Crossing]]:
    known = {one.a.name: one.a, one.b.name: one.b}
    return envelope.answer(Field(known, {(one.a.name, one.b.name): one}, ops), costs.of)


def _curves(group: Group, shown: Mapping[str, Contender]) -> Iterable[CurvePoint]:
    tags: dict[tuple[str, int], dict[str, None]] = {}
    for outcome in group.outcomes:
        if isinstance(outcome, Measurement):
            mine = tags.setdefault((outcome.point.block, outcome.point.context), {})
            for note in outcome.notes:
                mine[note.kind] = None
    for name, mine in shown.items():
        for context, rounds in mine.middles.items():
            yield CurvePoint(
                conditions=group.conditions,
                metric=group.metric,
                block=name,
                context=context,
                estimate=estimate([one.value for one in rounds.values()]),
                samples=sum(len(values) for values in mine.curve[context].values()),
                notes=tuple(tags[name, context]),
            )


def _ops(outcomes: Iterable[Outcome]) -> dict[str, dict[int, Ops]]:
    """Contender -> context -> implementations of its ops and their shares of the time."""
    found: dict[str, dict[int, Ops]] = {}
    for one in outcomes:
        if not isinstance(one, Measurement) or not one.providers:
            continue
        mine = found.setdefault(one.point.block, {})
        shares = mine[one.point.context].shares if one.point.context in mine else {}
        if one.attribution is not None and not shares:
            shares = shares_of(one.providers, one.attribution)
        mine[one.point.context] = Ops(one.providers, shares)
    return {name: dict(sorted(mine.items())) for name, mine in found.items()}
