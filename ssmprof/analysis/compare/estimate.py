"""One contender's value over processes, with Student's interval: a process is one replication.

The interval is taken over the logarithms of the processes' medians and is None for fewer than three
of them. Its coverage is tested on simulated sweeps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ssmprof.analysis.compare.chances import quantile
from ssmprof.analysis.compare.logs import number_of
from ssmprof.analysis.findings import Estimate, Interval
from ssmprof.limits import LEAST_PROCESSES, LEVEL


def student(degrees: float, level: float = LEVEL) -> float:
    """Two-sided quantile of Student's t."""
    return quantile((1 - level) / 2, degrees)


def mean_interval(values: Sequence[float]) -> tuple[float, Interval | None]:
    """Mean of independent values and its Student t interval (None for fewer than three)."""
    count = len(values)
    mean = math.fsum(values) / count
    if count < LEAST_PROCESSES:
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = student(count - 1) * math.sqrt(variance / count)
    return mean, (mean - half, mean + half)


def estimate_logs(logs: Sequence[float]) -> Estimate:
    """Geometric mean of values given by their logarithms, one per process."""
    mean, interval = mean_interval(logs)
    return Estimate(
        value=number_of(mean),
        rounds=len(logs),
        interval=None if interval is None else (number_of(interval[0]), number_of(interval[1])),
        spread=(number_of(min(logs)), number_of(max(logs))),
        method="Student t on log medians of processes" if interval else "range of processes",
    )


def estimate(medians: Sequence[float]) -> Estimate:
    """Geometric mean of positive values, one per process."""
    return estimate_logs([math.log(value) for value in medians])


def median_order_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Order-statistic interval of the median of one process; the extremes if samples are few."""
    ordered = sorted(values)
    count = len(ordered)
    tail, rank = 0.0, 0
    while rank < count // 2:
        tail += math.comb(count, rank) * 0.5**count
        if tail > (1 - level) / 2:
            break
        rank += 1
    lower = max(rank - 1, 0)
    return ordered[lower], ordered[count - 1 - lower]
