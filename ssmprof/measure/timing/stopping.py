"""When to stop taking samples: floors, precision, and a budget that tags instead of failing.

The precision of a median is the half-width of its order-statistic 95 % interval over the median:
the samples are taken as they are, no distribution is assumed and none is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal

from ssmprof.records import median
from ssmprof.spec import Budget

Verdict = Literal["go-on", "precise", "noisy"]

# Below 6 samples the range of all of them covers the median with less than 95 % (1 - 2 * 2**-n).
_FEWEST_FOR_INTERVAL = 6
# Beyond this the normal approximation of the binomial is right to a rank.
_MOST_EXACT = 200
# More samples would hardly narrow the interval, and every one of them is stored.
_ENOUGH, _MOST = 200, 1000
# A point whose call is longer than its budget still needs three: one median, two neighbours.
_FLOOR = 3


@cache
def interval_ranks(n: int) -> tuple[int, int] | None:
    """0-based ranks of the order statistics that enclose the median with at least 95 %."""
    if n < _FEWEST_FOR_INTERVAL:
        return None
    if n > _MOST_EXACT:
        rank = math.floor((n - 1.96 * math.sqrt(n)) / 2) - 1
        return rank, n - 1 - rank
    below, rank = 0, 0
    while 40 * (below + math.comb(n, rank)) <= 2**n:  # 2.5 % on either side
        below += math.comb(n, rank)
        rank += 1
    return rank - 1, n - rank


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """Order-statistic 95 % interval of the median; the whole range below 6 samples."""
    ordered = sorted(samples)
    ranks = interval_ranks(len(ordered)) or (0, len(ordered) - 1)
    return ordered[ranks[0]], ordered[ranks[1]]


def noise(samples: Sequence[float]) -> float:
    """Half-width of the interval of the median, relative to the median."""
    low, high = median_interval(samples)
    middle = median(samples)
    return (high - low) / 2 / middle if middle > 0 else math.inf


class Stopping:
    """The rule of one point: floors first, then precision, then the budget.

    `min_samples` and `min_time_s` are what must be measured, `max_noise` what is aimed at and
    `point_s` what may be spent; a call so long that the floors do not fit is given three samples.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._next_look = 0

    def verdict(self, samples: Sequence[float], elapsed_s: float) -> Verdict:
        """Whether to go on after these samples and this time."""
        budget, count = self.budget, len(samples)
        spent = elapsed_s >= budget.point_s and count >= min(_FLOOR, budget.min_samples)
        full = count >= (
            _MOST if elapsed_s < budget.min_time_s else max(_ENOUGH, budget.min_samples)
        )
        if spent or full:
            return "precise" if self._precise(samples) else "noisy"
        if count < budget.min_samples or elapsed_s < budget.min_time_s or count < self._next_look:
            return "go-on"
        self._next_look = count + max(1, count // 10)  # sorting after every sample would be work
        return "precise" if self._precise(samples) else "go-on"

    def _precise(self, samples: Sequence[float]) -> bool:
        return noise(samples) <= self.budget.max_noise
