"""Intervals that keep their promise with few rounds, since a process (round) is one replication.

A single value or ratio: Student t over the logarithms of the rounds' medians. Anything without a
closed form: a hierarchical bootstrap (rounds, then samples) whose deviations are scaled to the
variance that Student t gives, without which five processes cover 86 % where 95 % is promised, or
99 % where samples are noisy. The coverage of both is tested on simulated sweeps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from ssmprof.analysis.findings import Estimate, Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LEVEL = 0.95
LEAST_ROUNDS = 3  # below, a range is shown and no interval
DRAWS = 2_000
TIE = 0.03  # a ratio this close to 1 is no difference to act on


@cache
def student(degrees: int, level: float = LEVEL) -> float:
    """Two-sided quantile of Student's t."""
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs]

    quantile: Any = stdtrit(degrees, 0.5 + level / 2)
    return float(quantile)


def t_over_z(rounds: int) -> float:
    """How much wider Student's interval over `rounds` is than a normal one."""
    from scipy.special import ndtri  # pyright: ignore[reportMissingTypeStubs]

    normal: Any = ndtri(0.5 + LEVEL / 2)
    return student(rounds - 1) / float(normal)


def mean_interval(values: Sequence[float]) -> tuple[float, Interval | None]:
    """Mean of independent values and its Student t interval (None for fewer than three)."""
    count = len(values)
    mean = math.fsum(values) / count
    if count < LEAST_ROUNDS:
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = student(count - 1) * math.sqrt(variance / count)
    return mean, (mean - half, mean + half)


def estimate_logs(logs: Sequence[float]) -> Estimate:
    """Geometric mean of values given by their logarithms, one per round."""
    mean, interval = mean_interval(logs)
    return Estimate(
        value=math.exp(mean),
        rounds=len(logs),
        interval=None if interval is None else (math.exp(interval[0]), math.exp(interval[1])),
        spread=(math.exp(min(logs)), math.exp(max(logs))),
        method="Student t on log medians of rounds" if interval else "range of rounds",
    )


def estimate(medians: Sequence[float]) -> Estimate:
    """Geometric mean of positive values, one per round (process)."""
    return estimate_logs([math.log(value) for value in medians])


def certain_sign(ratio: Estimate, tie: float = TIE) -> int:
    """-1 or 1 where a ratio differs from 1 beyond its interval (or range) and the tie, else 0."""
    if abs(ratio.value - 1) < tie:
        return 0
    low, high = ratio.interval or ratio.spread
    if low <= 1 <= high:
        return 0
    return -1 if ratio.value < 1 else 1


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


def bootstrap_medians(rounds: Sequence[Sequence[float]], draws: int, seed: int) -> Array:
    """Medians of resampled samples: (draws, rounds).

    The median of n values drawn with replacement from n sorted ones is the one at index
    floor(n * U) with U ~ Beta((n+1)/2, (n+1)/2), the middle of n uniform draws: no resampling loop.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    columns: list[Array] = []
    for values in rounds:
        ordered = np.sort(np.asarray(values, dtype=np.float64))
        half = (len(ordered) + 1) / 2
        index = (generator.beta(half, half, draws) * len(ordered)).astype(np.int64)
        columns.append(ordered[np.minimum(index, len(ordered) - 1)])
    return np.stack(columns, axis=1)


def round_draws(rounds: int, draws: int, seed: int) -> Any:
    """Indices of resampled rounds: (draws, rounds). Shared by the curves that are compared."""
    import numpy as np

    return np.random.default_rng(seed).integers(0, rounds, (draws, rounds))
