"""Outcomes grouped into curves, and where curves cross: standard library only.

A curve is a block's metric over context within one facet: `context -> round -> samples`. Planning
uses this file to decide what to measure next; the statistics of the report build on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from ssmprof.analysis.findings import Facet, Metric
from ssmprof.records import Environment, Failure, Measurement, Outcome, median

Curve = dict[int, dict[int, tuple[float, ...]]]


def facets(
    outcomes: Iterable[Outcome], environments: Mapping[str, Environment] | None = None
) -> dict[Facet, list[Outcome]]:
    """Outcomes by the conditions within which they may be compared, in a fixed order."""
    found: dict[Facet, list[Outcome]] = {}
    for outcome in outcomes:
        machine = (environments or {}).get(outcome.environment)
        point = outcome.point
        facet = Facet(
            device=machine.device if machine else "",
            phase=point.phase,
            batch=point.batch,
            dtype=point.dtype,
            execution=point.execution,
            logits=point.logits,
        )
        found.setdefault(facet, []).append(outcome)
    return dict(sorted(found.items(), key=lambda item: item[0]))


def samples(measurement: Measurement, metric: Metric) -> tuple[float, ...]:
    """A measurement's samples of a metric: seconds, joules or bytes of one call; () without any.

    What is not positive is left out: a time below what can be timed has no ratio to another.
    """
    return tuple(value for value in _samples(measurement, metric) if value > 0)


def _samples(measurement: Measurement, metric: Metric) -> tuple[float, ...]:
    if metric == "latency":
        return measurement.times_s
    if metric == "hot-latency":
        return measurement.hot_times_s
    if metric == "energy":
        energy = measurement.energy
        return () if energy is None else energy.windows_j or (energy.energy_j,)
    memory = measurement.memory
    return () if memory is None else (float(memory.allocator_peak_bytes),)


def curves(outcomes: Iterable[Outcome], metric: Metric = "latency") -> dict[str, Curve]:
    """Block -> curve of the metric, for outcomes of one facet; contexts ascend."""
    found: dict[str, Curve] = {}
    for outcome in sorted(outcomes, key=lambda one: (one.point.context, one.round)):
        if isinstance(outcome, Measurement) and (values := samples(outcome, metric)):
            curve = found.setdefault(outcome.point.block, {})
            curve.setdefault(outcome.point.context, {})[outcome.round] = values
    return found


def failed_at(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Block -> shortest context at which memory ran out (or was predicted to), in one facet."""
    found: dict[str, int] = {}
    for outcome in outcomes:
        if isinstance(outcome, Failure) and outcome.reason in ("out-of-memory", "skipped"):
            context = outcome.point.context
            found[outcome.point.block] = min(found.get(outcome.point.block, context), context)
    return found


def round_medians(curve: Curve) -> dict[int, dict[int, float]]:
    """Context -> round -> median."""
    return {
        context: {turn: median(values) for turn, values in rounds.items()}
        for context, rounds in curve.items()
    }


def log_ratios(block: Curve, other: Curve) -> dict[int, dict[int, float]]:
    """Context -> round -> log(block / other), from medians of the same round."""
    ours, theirs = round_medians(block), round_medians(other)
    found: dict[int, dict[int, float]] = {}
    for context in sorted(ours.keys() & theirs.keys()):
        common = sorted(ours[context].keys() & theirs[context].keys())
        if common:
            found[context] = {
                turn: math.log(ours[context][turn] / theirs[context][turn]) for turn in common
            }
    return found


def roots(contexts: Sequence[float], values: Sequence[float]) -> list[float]:
    """Where a curve, linear between its points over log context, is zero; each zero once."""
    found: list[float] = []
    logs = [math.log(context) for context in contexts]
    for index in range(len(values) - 1):
        left, right = values[index], values[index + 1]
        if left == 0:
            found.append(contexts[index])
        elif left * right < 0:
            share = left / (left - right)
            found.append(math.exp(logs[index] + share * (logs[index + 1] - logs[index])))
    if values and values[-1] == 0:
        found.append(contexts[-1])
    return found


def brackets(block: Curve, other: Curve) -> list[tuple[int, int]]:
    """Neighbouring measured contexts between which the ratio of two curves changes sides."""
    ratios = log_ratios(block, other)
    means = {context: sum(rounds.values()) / len(rounds) for context, rounds in ratios.items()}
    lengths = list(means)
    return [(low, high) for low, high in pairwise(lengths) if means[low] * means[high] < 0]
