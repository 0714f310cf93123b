"""Contenders in turn: A B, B A, ... and when it is enough. No torch: all is passed in.

What moves slowly (clocks, temperature, a neighbour) then moves both samples of a pair alike, and
the log of their ratio is nearly free of it. The same alternation serves two contenders of a visit
and two providers of a block.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

from ssmprof.measure.timing.sampling import Clock, no_collection
from ssmprof.records import Sampling

# A standard error from fewer pairs is too uncertain itself to stop by.
_FEWEST_FOR_ERROR = 6
# Taken however long they last.
_FEWEST = 4
# Two-sided 95 % points of Student's t by degrees of freedom: a worker starts without SciPy.
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip

Times = tuple[float, ...]


@dataclass(frozen=True)
class LogRatio:
    """Mean of log(a / b) over pairs and its standard error; `half_width` of the 95 % interval."""

    mean: float
    error: float
    pairs: int

    @property
    def half_width(self) -> float:
        """Half of Student's 95 % interval."""
        degrees = self.pairs - 1
        return self.error * (_T95[degrees - 1] if degrees <= len(_T95) else 1.96 + 2.5 / degrees)


def log_ratio(a: Sequence[float], b: Sequence[float]) -> LogRatio:
    """log(a / b) of at least two pairs of times."""
    logs = [math.log(one / other) for one, other in zip(a, b, strict=True)]
    mean = math.fsum(logs) / len(logs)
    variance = math.fsum((value - mean) ** 2 for value in logs) / (len(logs) - 1)
    return LogRatio(mean, math.sqrt(variance / len(logs)), len(logs))


def alternate(
    samples: Sequence[Callable[[], float]],
    enough: Callable[[Sequence[Sequence[float]], float], bool],
    *,
    between: Callable[[], object] = lambda: None,
    clock: Clock = time.perf_counter,
) -> tuple[Times, ...]:
    """Times of each contender, `[i]` of each taken next to each other, the order turned each time.

    `enough(times, seconds spent)` is asked after every pair; `between` is called after every
    sample, outside of what is timed.
    """
    begin = clock()
    times: list[list[float]] = [[] for _ in samples]
    order = list(range(len(samples)))
    with no_collection():
        while True:
            for index in order:
                times[index].append(samples[index]())
                between()
            order.reverse()
            if enough(times, clock() - begin):
                return tuple(tuple(values) for values in times)


def enough_for(asked: Sampling) -> Callable[[Sequence[Sequence[float]], float], bool]:
    """The stopping rule of a visit: see `records.Sampling`."""

    def enough(times: Sequence[Sequence[float]], spent_s: float) -> bool:
        count = len(times[0])
        if count % 2:
            return False  # an even number, so that the order of the two cancels
        if count >= asked.pairs or (spent_s >= asked.length_s and count >= _FEWEST):
            return True
        if asked.target_error is None or count < _FEWEST_FOR_ERROR or len(times) < 2:
            return False
        return worst_error(times) <= asked.target_error

    return enough


def worst_error(times: Sequence[Sequence[float]]) -> float:
    """The largest standard error of a log ratio between any two contenders."""
    return max(log_ratio(a, b).error for a, b in combinations(times, 2))
