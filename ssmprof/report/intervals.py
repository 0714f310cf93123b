"""Intervals of values and ratios over rounds, in the form the report prints and draws.

The arithmetic is `analysis.stats`: one number per round, Student t on their logarithms. With fewer
than three rounds the observed range takes the interval's place, and `confident` is False.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ssmprof.analysis import stats
from ssmprof.analysis.findings import Estimate


class Interval(NamedTuple):
    """A value with its 95 % interval, or its range where the rounds are too few for one."""

    value: float
    low: float
    high: float
    confident: bool


def of(estimate: Estimate) -> Interval:
    """An estimate of the analysis."""
    low, high = estimate.interval or estimate.spread
    return Interval(estimate.value, low, high, estimate.interval is not None)


def over_rounds(values: Sequence[float]) -> Interval:
    """Geometric mean and 95 % interval of positive values, one per round."""
    return of(stats.estimate(values))


def ratio(numerator: Mapping[int, float], denominator: Mapping[int, float]) -> Interval:
    """Interval of numerator / denominator, paired by round: what drifts between rounds cancels.

    Rounds that only one side has are left out; with no round in common the extremes bound it.
    """
    shared = sorted(numerator.keys() & denominator.keys())
    if shared:
        return over_rounds([numerator[at] / denominator[at] for at in shared])
    low = min(numerator.values()) / max(denominator.values())
    high = max(numerator.values()) / min(denominator.values())
    return Interval(math.sqrt(low * high), low, high, False)
