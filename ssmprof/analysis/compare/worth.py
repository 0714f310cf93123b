"""What a replicate's samples are worth at a length, beside those of the others.

A pilot takes ten pairs where a later visit takes 160, and whoever else runs on the machine may fall
into one visit only. So a replicate whose samples leave three times the usual error there is poor:
it weighs less in the mean, by the variance of a usual one over its own (the mean of least variance;
Cochran, Biometrics 10, 1954), and tells nothing of how processes vary. An error from few samples is
itself known badly, so the others count alike. What samples leave says nothing of a sign.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from ssmprof.analysis.compare.curve import Logs, Ratio

_NEIGHBOURS = 2  # lengths on either side whose samples tell how those of a length scatter
_POOR = 9.0  # times the usual variance of samples: such a replicate tells of them, not of processes


def usual_squares(logs: Logs, turns: bool) -> dict[int, float]:
    """Context -> the variance that samples usually leave there; a few of them tell little, and
    samples scatter alike at neighbouring lengths."""
    squares = {
        at: [one.error**2 for one in rounds.values() if one.turns == turns]
        for at, rounds in logs.items()
    }
    lengths = sorted(at for at, found in squares.items() if found)
    return {
        at: median(one for other in _near(lengths, index) for one in squares[other])
        for index, at in enumerate(lengths)
    }


def sampled_squares(logs: Logs, turns: bool) -> dict[int, float]:
    """Context -> the mean variance that samples leave around it, of those that are not poor."""
    usual = usual_squares(logs, turns)
    squares = {
        at: [
            one.error**2
            for one in rounds.values()
            if one.turns == turns and not is_poor(one, usual[at])
        ]
        for at, rounds in logs.items()
        if at in usual
    }
    lengths = sorted(squares)
    return {
        at: mean([one for other in _near(lengths, index) for one in squares[other]])
        for index, at in enumerate(lengths)
    }


def is_poor(one: Ratio, usual: float) -> bool:
    """Whether its samples leave so much more than is usual that they hide its process."""
    return one.error**2 > _POOR * usual


def worths(values: Sequence[Ratio], usual: float, variance: float) -> list[float]:
    """What each is worth, 1 at most, where a usual replicate has this variance."""
    if variance <= 0:
        return [1.0] * len(values)
    return [
        variance / (variance + one.error**2 - usual) if is_poor(one, usual) else 1.0
        for one in values
    ]


def rich(rounds: Mapping[int, Ratio], usual: float, turns: bool) -> dict[int, float]:
    """Replicate -> log ratio of one kind, without the poor ones."""
    return {
        replicate: one.log
        for replicate, one in rounds.items()
        if one.turns == turns and not is_poor(one, usual)
    }


def mean(values: Iterable[float]) -> float:
    """Their mean; 0 of none."""
    found = list(values)
    return math.fsum(found) / len(found) if found else 0.0


def _near(lengths: Sequence[int], index: int) -> Sequence[int]:
    return lengths[max(0, index - _NEIGHBOURS) : index + _NEIGHBOURS + 1]
