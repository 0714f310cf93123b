"""What a replicate's samples are worth at a length, beside those of the others.

A pilot takes ten pairs where a later visit takes 160, and whoever else runs on the machine may fall
into one visit only. A replicate whose samples leave far more error than is usual there weighs less,
by the variance that it has beyond a usual one's (the mean of least variance; Cochran, Biometrics
10, 1954): in the mean, and in what is learnt of how processes vary. The error of few samples is
itself known badly, so that up to three times the usual variance all count alike. What samples leave
says nothing of a sign.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from ssmprof.analysis.compare.curve import Logs, Ratio

_NEIGHBOURS = 2  # lengths on either side whose samples tell how those of a length scatter
_ALIKE = 3.0  # times the usual variance of samples, that four of them show by chance


def usual_squares(logs: Logs, turns: bool) -> dict[int, float]:
    """Context -> the variance that samples of one replicate usually leave there; a few of them
    tell little, and samples scatter alike at neighbouring lengths."""
    squares = {
        at: [one.error**2 for one in rounds.values() if one.turns == turns]
        for at, rounds in logs.items()
    }
    return {
        at: median(one for other in near for one in squares[other])
        for at, near in _near(at for at, found in squares.items() if found)
    }


def sampled_squares(logs: Logs, turns: bool, usual: Mapping[int, float]) -> dict[int, float]:
    """Context -> the mean variance that samples leave around it, each by what it is worth."""
    found: dict[int, list[tuple[float, float]]] = {}
    for at, square in usual.items():
        values = [one for one in logs[at].values() if one.turns == turns]
        squares = (one.error**2 for one in values)
        found[at] = list(zip(squares, worths(values, square, square), strict=True))
    return {at: mean(one for other in near for one in found[other]) for at, near in _near(found)}


def worths(values: Sequence[Ratio], usual: float, variance: float) -> list[float]:
    """What each is worth, 1 at most, where a usual replicate has this variance."""
    if variance <= 0:
        return [1.0] * len(values)
    return [variance / (variance + max(0.0, one.error**2 - _ALIKE * usual)) for one in values]


def mean(weighed: Iterable[tuple[float, float]]) -> float:
    """Mean of values, each with its weight."""
    found = list(weighed)
    return math.fsum(value * weight for value, weight in found) / math.fsum(
        weight for _, weight in found
    )


def weighed(logs: Logs, turns: bool) -> dict[int, dict[int, tuple[float, float]]]:
    """Context -> replicate -> (log ratio, what it is worth) of replicates of one kind."""
    found: dict[int, dict[int, tuple[float, float]]] = {}
    for at, usual in usual_squares(logs, turns).items():
        mine = {name: one for name, one in logs[at].items() if one.turns == turns}
        weights = worths(list(mine.values()), usual, usual)
        found[at] = {
            name: (one.log, weight)
            for (name, one), weight in zip(mine.items(), weights, strict=True)
        }
    return found


def _near(lengths: Iterable[int]) -> Iterable[tuple[int, Sequence[int]]]:
    """Each length with those beside it."""
    every = sorted(lengths)
    for index, at in enumerate(every):
        yield at, every[max(0, index - _NEIGHBOURS) : index + _NEIGHBOURS + 1]
