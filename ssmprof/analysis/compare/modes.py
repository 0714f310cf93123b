"""Processes that run in two modes: which run in which, and how far the modes lie apart.

A bistable choice (a race that two kernels win in turn, memory that lies well or badly) gives one
contender two times. Their mean is nobody's time, so the modes are kept apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ssmprof import limits
from ssmprof.analysis.compare.chances import quantile
from ssmprof.analysis.compare.curve import Logs, Ratio
from ssmprof.analysis.compare.worth import mean, weighed

Modes = tuple[frozenset[int], ...]
ONE_MODE: Modes = (frozenset(),)


class Shift(NamedTuple):
    """What one mode adds to another's log ratio: mean over lengths, and its error at a length."""

    log: float
    error: float
    df: int


def modes(logs: Logs, turns: bool) -> Modes:
    """Replicates of each mode; one empty set, which means all of them, where there is one mode.

    Processes are split at the widest gap of their levels where that exceeds `MODE_JUMP` and as many
    spreads within the two groups as equal processes hardly ever show (Student's t); four processes
    are the fewest that can show it.
    """
    levels = sorted((level, replicate) for replicate, level in _levels(logs, turns).items())
    df = len(levels) - 2
    if df < 2:
        return ONE_MODE
    gaps = [levels[index + 1][0] - levels[index][0] for index in range(len(levels) - 1)]
    cut = max(range(len(gaps)), key=lambda index: gaps[index]) + 1
    groups = levels[:cut], levels[cut:]
    square = math.fsum(_square([value for value, _ in group]) for group in groups)
    if gaps[cut - 1] < max(limits.MODE_JUMP, _spreads(df) * math.sqrt(square / df)):
        return ONE_MODE
    return tuple(frozenset(replicate for _, replicate in group) for group in groups)


def _levels(logs: Logs, turns: bool) -> dict[int, float]:
    """How far each replicate lies from the middle one, over the lengths it shares with others.

    Lengths count by what its samples are worth there: a pilot of a few pairs is no mode.
    """
    away: dict[int, list[tuple[float, float]]] = {}
    for mine in weighed(logs, turns).values():
        if len(mine) > 1:
            middle = sorted(log for log, _ in mine.values())[len(mine) // 2]
            for replicate, (log, weight) in mine.items():
                away.setdefault(replicate, []).append((log - middle, weight))
    return {replicate: mean(found) for replicate, found in away.items()}


def _square(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values)


def _spreads(df: int) -> float:
    """Spreads that the widest gap among equal processes exceeds in one of fifty sets or fewer."""
    return quantile(limits.MODE_CHANCE, df)


def shift(logs: Logs, turns: bool, mode: frozenset[int], other: frozenset[int]) -> Shift | None:
    """From `other` to `mode`, over the lengths that both ran at; None where there are none.

    Its error holds how it varies over lengths and how processes of one mode vary.
    """
    apart: list[float] = []
    for rounds in logs.values():
        groups = [
            [one.log for name, one in rounds.items() if one.turns == turns and name in group]
            for group in (mode, other)
        ]
        if all(groups):
            means = [math.fsum(group) / len(group) for group in groups]
            apart.append(means[0] - means[1])
    if not apart:
        return None
    levels = _levels(logs, turns)
    spread = math.fsum(_square([levels[name] for name in group]) for group in (mode, other))
    df = len(mode) + len(other) - 2
    square = _square(apart) / max(len(apart) - 1, 1)
    square += spread / df * (1 / len(mode) + 1 / len(other))
    return Shift(math.fsum(apart) / len(apart), math.sqrt(square), df)


def within_modes(logs: Logs, found: Modes) -> Logs:
    """The log ratios with the mean of each mode taken off: what is left is noise within modes."""
    if found == ONE_MODE:
        return logs
    moved: dict[int, dict[int, Ratio]] = {}
    for context, rounds in logs.items():
        for mode in found:
            mine = {name: one for name, one in rounds.items() if name in mode}
            if mine:
                mean = math.fsum(one.log for one in mine.values()) / len(mine)
                for name, one in mine.items():
                    moved.setdefault(context, {})[name] = one._replace(log=one.log - mean)
    return moved
