"""Outcomes as curves: one contender's metric over context, replicate by replicate.

A replicate is a process: a round of the grid, or a visit in which two contenders took turns. Curves
are `context -> replicate -> samples`; standard library only, since planning reads them, too.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ssmprof.analysis.compare.logs import number_of
from ssmprof.analysis.findings import Metric
from ssmprof.records import Failure, Measurement, Outcome, middle_of

Curve = dict[int, dict[int, tuple[float, ...]]]
Take = Callable[[Measurement], "tuple[float, ...] | None"]
# An error read off normal samples is too wide by this over the root of their number, as simulated
# (`tests/analysis/test_noise.py` holds what is left).
_TOO_WIDE = 0.6
METRICS: tuple[Metric, ...] = ("latency", "hot-latency", "energy", "memory")
# Reasons for which a contender is absent from a length on, as opposed to merely unmeasured.
TOO_BIG = ("out-of-memory", "skipped")


class Middle(NamedTuple):
    """Median of one replicate's samples, and the standard error that they leave."""

    value: float
    error: float


@dataclass(frozen=True)
class Contender:
    """One contender under one set of conditions: its curve, and beside whom each value was taken.

    `beside` maps (context, replicate) to the contenders it took turns with; `failures` holds the
    contexts that no replicate could measure.
    """

    name: str
    curve: Curve
    beside: dict[tuple[int, int], tuple[str, ...]]
    failures: dict[int, Failure]

    def absent(self, context: int) -> bool:
        """Whether it does not fit there: too big at that context or at a shorter one."""
        if context in self.curve:
            return False
        return self._gone is not None and self._gone <= context

    @cached_property
    def _gone(self) -> int | None:
        gone = (at for at, one in self.failures.items() if one.reason in TOO_BIG)
        return min(gone, default=None)

    @cached_property
    def middles(self) -> dict[int, dict[int, Middle]]:
        """Context -> replicate -> the middle of its samples."""
        return {
            context: {replicate: _middle(values) for replicate, values in rounds.items()}
            for context, rounds in self.curve.items()
        }

    @cached_property
    def medians(self) -> dict[int, float]:
        """Context -> geometric mean over the replicates of their medians."""
        return {
            context: number_of(
                math.fsum(math.log(one.value) for one in rounds.values()) / len(rounds)
            )
            for context, rounds in self.middles.items()
        }


def samples(measurement: Measurement, metric: Metric) -> tuple[float, ...]:
    """A measurement's samples of a metric: seconds, joules or bytes of one call; () without any.

    What is not positive is left out: a time below what can be timed has no ratio to another.
    """
    return positive(_samples(measurement, metric))


def positive(values: tuple[float, ...]) -> tuple[float, ...]:
    """Those that are; the same tuple where all are."""
    return values if values and min(values) > 0 else tuple(one for one in values if one > 0)


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


def contenders(
    outcomes: Iterable[Outcome],
    metric: Metric = "latency",
    least_context: int = 0,
    take: Take | None = None,
) -> dict[str, Contender]:
    """Every contender with an outcome, for outcomes of equal conditions; contexts ascend.

    Lengths below `least_context` are left out. Sustained windows are no part of a curve. `take`
    gives other samples than the metric's; a measurement of which it gives None is left out.
    """
    found: dict[str, Contender] = {}
    for outcome in sorted(outcomes, key=lambda one: (one.point.context, one.round)):
        context = outcome.point.context
        if context < least_context:
            continue
        failed = isinstance(outcome, Failure)
        values = () if failed else take(outcome) if take else samples(outcome, metric)
        if values is None:
            continue
        name = outcome.point.block
        mine = found.get(name) or found.setdefault(name, Contender(name, {}, {}, {}))
        if failed:
            mine.failures[context] = outcome
        elif outcome.mode == "cold" and values:
            mine.curve.setdefault(context, {})[outcome.round] = values
            if outcome.beside is not None:
                mine.beside[context, outcome.round] = tuple(outcome.beside.split(", "))
    for mine in found.values():
        for context in mine.curve.keys() & mine.failures.keys():
            del mine.failures[context]
    return found


class Ratio(NamedTuple):
    """log(a / b) of one replicate at one length; `turns` where both took turns in one process.

    `error` is the standard error that its samples leave; 0 where they do not tell.
    """

    log: float
    turns: bool
    error: float = 0.0


Logs = Mapping[int, Mapping[int, Ratio]]  # context -> replicate -> log ratio


def log_ratios(a: Contender, b: Contender) -> dict[int, dict[int, Ratio]]:
    """Context -> replicate -> log(a / b), from samples in turn or from medians of one round."""
    if not a.beside and not b.beside:
        return _of_rounds(a, b)
    found: dict[int, dict[int, Ratio]] = {}
    for context in sorted(a.curve.keys() & b.curve.keys()):
        ours, theirs = a.curve[context], b.curve[context]
        for replicate in sorted(ours.keys() & theirs.keys()):
            key = (context, replicate)
            partners = a.beside.get(key), b.beside.get(key)
            turns = b.name in (partners[0] or ()) and a.name in (partners[1] or ())
            if not turns and partners != (None, None):
                continue  # one of them took turns with somebody else
            if turns and len(ours[replicate]) == len(theirs[replicate]):
                ratio = _in_turn(ours[replicate], theirs[replicate])
            else:
                ratio = _of_middles(a.middles[context][replicate], b.middles[context][replicate],
                                    turns)  # fmt: skip
            found.setdefault(context, {})[replicate] = ratio
    return found


def _of_rounds(a: Contender, b: Contender) -> dict[int, dict[int, Ratio]]:
    """The same of two that never took turns, as in a grid, whose pairs are many."""
    found: dict[int, dict[int, Ratio]] = {}
    for context in sorted(a.curve.keys() & b.curve.keys()):
        ours, theirs = a.middles[context], b.middles[context]
        rounds = {
            replicate: _of_middles(ours[replicate], theirs[replicate], False)
            for replicate in sorted(ours.keys() & theirs.keys())
        }
        if rounds:
            found[context] = rounds
    return found


def _in_turn(ours: tuple[float, ...], theirs: tuple[float, ...]) -> Ratio:
    logs = sorted(math.log(x / y) for x, y in zip(ours, theirs, strict=True))
    return Ratio(middle_of(logs), True, _error(logs))


def _of_middles(a: Middle, b: Middle, turns: bool) -> Ratio:
    error = math.hypot(a.error / a.value, b.error / b.value)
    return Ratio(math.log(a.value / b.value), turns, error)


def _middle(values: tuple[float, ...]) -> Middle:
    ordered = sorted(values)
    return Middle(middle_of(ordered), _error(ordered))


def _error(ordered: Sequence[float]) -> float:
    """Standard error of a median, from the samples beside it: half of their 68 % interval.

    Its ends lie between samples: of four, the inner two alone would tell half of the error. What
    few of them leave too wide on average is taken off, so that its mean square is that of medians.
    """
    count = len(ordered)
    if count < 3:
        return 0.0
    away = max(0.0, (count - 1) / 2 - math.sqrt(count) / 2)
    rank = math.floor(away)
    share = away - rank

    def width(rank: int) -> float:
        return ordered[count - 1 - rank] - ordered[rank]

    half = ((1 - share) * width(rank) + share * width(rank + 1)) / 2
    return half / (1 + _TOO_WIDE / math.sqrt(count))


def between(curve: Mapping[int, float], context: int) -> float | None:
    """Value between measured contexts, linear on log axes; None outside of them."""
    if context in curve:
        return curve[context]
    lengths = sorted(curve)
    right = bisect.bisect(lengths, context)
    if right in (0, len(lengths)):
        return None
    low, high = lengths[right - 1], lengths[right]
    share = math.log(context / low) / math.log(high / low)
    return number_of((1 - share) * math.log(curve[low]) + share * math.log(curve[high]))
