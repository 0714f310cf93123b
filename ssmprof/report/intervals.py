"""Intervals of values and ratios over rounds, in the form the report prints and draws.

The process is the unit of replication (`measurement.md`'s rule): one number per round, Student t on
their logarithms. With fewer than three rounds the observed range takes the interval's place and
`confident` is False, so that no text can call it an interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

MIN_ROUNDS = 3


class Interval(NamedTuple):
    """A value with its 95 % interval, or its range where `rounds` are too few for one."""

    value: float
    low: float
    high: float
    rounds: int

    @property
    def confident(self) -> bool:
        """Whether `low` and `high` are an interval and not only a range."""
        return self.rounds >= MIN_ROUNDS


@lru_cache(maxsize=64)
def _t(degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))


def over_rounds(values: Sequence[float]) -> Interval:
    """Geometric mean and 95 % interval of positive values, one per round."""
    logs = [math.log(value) for value in values]
    mean = sum(logs) / len(logs)
    if len(logs) < MIN_ROUNDS:
        return Interval(math.exp(mean), min(values), max(values), len(logs))
    variance = sum((log - mean) ** 2 for log in logs) / (len(logs) - 1)
    half = _t(len(logs) - 1) * math.sqrt(variance / len(logs))
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half), len(logs))


def ratio(numerator: Mapping[int, float], denominator: Mapping[int, float]) -> Interval:
    """Interval of numerator / denominator, paired by round: what drifts between rounds cancels.

    Rounds that only one side has are left out; with no round in common the extremes bound it.
    """
    shared = sorted(numerator.keys() & denominator.keys())
    if shared:
        return over_rounds([numerator[at] / denominator[at] for at in shared])
    low = min(numerator.values()) / max(denominator.values())
    high = max(numerator.values()) / min(denominator.values())
    return Interval(math.sqrt(low * high), low, high, 0)
