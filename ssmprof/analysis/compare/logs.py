"""Logarithms turned back: an interval of few and noisy processes may reach beyond any float."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ssmprof import limits

_MOST = 700.0  # e to 710 is no float


def number_of(log: float) -> float:
    """e to a logarithm, as far as a float goes."""
    return math.exp(min(log, _MOST))


def geometric_mean(values: Iterable[float]) -> float:
    """The one average over processes on a page; 0 where one of them is below what can be timed."""
    found = list(values)
    if min(found) <= 0:
        return 0.0
    return number_of(math.fsum(math.log(value) for value in found) / len(found))


def ratio_of(log: float) -> float:
    """Ratio of two measured values; beyond what any two can have stands that bound."""
    return math.exp(max(-limits.LOG_RATIO, min(log, limits.LOG_RATIO)))
