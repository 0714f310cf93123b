"""Who is lower at each length, and how sure: the signs of a pair's log ratios.

A sign is certain where the interval of log(T_a / T_b) excludes 0. Its error is 2.5 % over all
lengths of the pair (Holm, Scand. J. Stat. 6, 1979) and over all looks at a growing number of visits
(O'Brien and Fleming's spending, Lan and DeMets, Biometrika 70, 1983). Processes that run in two
modes are never averaged: a sign is then certain where it is certain in both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from ssmprof import limits
from ssmprof.analysis.compare.curve import Ratio
from ssmprof.analysis.compare.noise import Logs, Noise, Square

Modes = tuple[frozenset[int], ...]
ONE_MODE: Modes = (frozenset(),)


class Reading(NamedTuple):
    """A pair at one length: log ratio with the interval that decides its sign.

    `sign` is -1 where `a` is certainly lower, 1 where it is higher, 0 where neither is certain;
    `equal` says that the whole interval lies within the tie.
    """

    context: int
    log: float
    low: float
    high: float
    sign: int
    equal: bool
    replicates: int
    turns: bool


def turned(one: Reading) -> Reading:
    """The same pair, the other way round."""
    return one._replace(log=-one.log, low=-one.high, high=-one.low, sign=-one.sign)


class _Mean(NamedTuple):
    """Mean log ratio of one mode at one length, its standard error and degrees of freedom."""

    context: int
    log: float
    error: float
    df: float
    replicates: int
    turns: bool
    alpha: float

    @property
    def chance(self) -> float:
        """One-sided chance of such a mean, or a larger one, where the truth is 0."""
        if self.error <= 0:
            return 0.0 if self.log else 0.5
        return _tail(abs(self.log) / self.error, self.df)


def spent(visits: int) -> float:
    """Error that may be spent at the look after so many visits, of `END_ERROR` in all.

    The increment of O'Brien and Fleming's spending function at `visits` of `LAST_LOOK`.
    """
    look = min(max(visits, limits.FIRST_LOOK), limits.LAST_LOOK)
    before = 0.0 if look == limits.FIRST_LOOK else _spending((look - 1) / limits.LAST_LOOK)
    return _spending(look / limits.LAST_LOOK) - before


@cache
def _spending(share: float) -> float:
    from scipy.special import ndtr, ndtri  # pyright: ignore[reportMissingTypeStubs]

    quantile: Any = ndtri(1 - limits.END_ERROR / 2)
    return float(2 * (1 - ndtr(quantile / math.sqrt(share))))  # type: ignore[operator]


@cache
def _tail(t: float, df: float) -> float:
    from scipy.special import ndtr, stdtr  # pyright: ignore[reportMissingTypeStubs]

    found: Any = ndtr(-t) if math.isinf(df) else stdtr(df, -t)
    return float(found)


@cache
def _quantile(chance: float, df: float) -> float:
    """Student's t with this chance above it."""
    from scipy.special import ndtri, stdtrit  # pyright: ignore[reportMissingTypeStubs]

    found: Any = ndtri(1 - chance) if math.isinf(df) else stdtrit(df, 1 - chance)
    return float(found)


def readings(
    logs: Logs,
    noises: Mapping[bool, Noise | None],
    ways: Mapping[bool, Modes],
    tie: float,
    floor: float = 0.0,
) -> list[Reading]:
    """The pair at each length it was measured at; contexts ascend.

    Args:
        logs: context -> replicate -> log ratio.
        noises: noise of replicates that took turns (True) and of rounds (False).
        ways: the modes in which those ran.
        tie: differences below this ratio are none to act on.
        floor: least standard deviation of a round, from the machine's own examination.
    """
    chosen = {context: _kind(rounds) for context, rounds in logs.items()}
    count = max((len(ways[turns]) for turns in set(chosen.values())), default=1)
    found: dict[int, list[Reading]] = {}
    for way in range(count):
        means: list[_Mean] = []
        for context, rounds in logs.items():
            turns = chosen[context]
            mode = ways[turns][min(way, len(ways[turns]) - 1)]
            values = [
                one.log
                for replicate, one in rounds.items()
                if one.turns == turns and (not mode or replicate in mode)
            ]
            if values:
                noise = noises.get(turns)
                means.append(_mean(context, values, turns, noise, rounds, floor))
        for one in _judged(means, tie):
            found.setdefault(one.context, []).append(one)
    return [_over_modes(found[context]) for context in sorted(found)]


def exact(logs: Logs, tie: float) -> list[Reading]:
    """Readings of numbers without noise (bytes): each difference is certain."""
    found: list[Reading] = []
    for context, rounds in logs.items():
        log = next(iter(rounds.values())).log
        sign = (log > 0) - (log < 0)
        equal = abs(log) <= math.log1p(tie)
        found.append(Reading(context, log, log, log, sign, equal, len(rounds), False))
    return found


def modes(logs: Logs, turns: bool) -> Modes:
    """Replicates of each mode; one empty set, which means all of them, where there is one mode.

    Processes are split at the widest gap of their levels where that exceeds `MODE_JUMP` and
    `MODE_SPREADS` spreads within the two groups; four processes are the fewest that can show it.
    """
    away: dict[int, list[float]] = {}
    for rounds in logs.values():
        mine = {replicate: one.log for replicate, one in rounds.items() if one.turns == turns}
        if len(mine) > 1:
            middle = sorted(mine.values())[len(mine) // 2]
            for replicate, value in mine.items():
                away.setdefault(replicate, []).append(value - middle)
    levels = sorted((math.fsum(one) / len(one), replicate) for replicate, one in away.items())
    df = len(levels) - 2
    if df < 2:
        return ONE_MODE
    gaps = [levels[index + 1][0] - levels[index][0] for index in range(len(levels) - 1)]
    cut = max(range(len(gaps)), key=lambda index: gaps[index]) + 1
    groups = levels[:cut], levels[cut:]
    means = [math.fsum(value for value, _ in group) / len(group) for group in groups]
    square = math.fsum(
        (value - mean) ** 2 for group, mean in zip(groups, means, strict=True) for value, _ in group
    )
    limit = max(limits.MODE_JUMP, limits.MODE_SPREADS * math.sqrt(square / df))
    if gaps[cut - 1] < limit:
        return ONE_MODE
    return tuple(frozenset(replicate for _, replicate in group) for group in groups)


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
                    moved.setdefault(context, {})[name] = Ratio(one.log - mean, one.turns)
    return moved


def _kind(rounds: Mapping[int, Ratio]) -> bool:
    """Whether visits (True) or rounds speak for a length: the more numerous, visits where equal."""
    turns = sum(one.turns for one in rounds.values())
    return 2 * turns >= len(rounds)


def _mean(
    context: int,
    values: Sequence[float],
    turns: bool,
    noise: Noise | None,
    rounds: Mapping[int, Ratio],
    floor: float,
) -> _Mean:
    count = len(values)
    mean = math.fsum(values) / count
    one = noise.at(context) if noise else Square(0.0, 0.0)
    if count > 2:
        own = Square(math.fsum((value - mean) ** 2 for value in values) / (count - 1), count - 1)
        if one.df <= 0 or _noisier(own, one):
            one = own
    if floor and not turns and one.value < floor**2:
        one = Square(floor**2, max(one.df, 1.0))
    looks = sum(ratio.turns == turns for ratio in rounds.values())
    alpha = spent(looks) if turns else limits.END_ERROR
    if one.df <= 0:
        one = Square(max(floor, math.log1p(limits.UNKNOWN_NOISE)) ** 2, math.inf)
    return _Mean(context, mean, math.sqrt(one.value / count), one.df, count, turns, alpha)


def _noisier(own: Square, usual: Square) -> bool:
    """Whether a length is certainly noisier than the others of its pair (F)."""
    if usual.value <= 0:
        return own.value > 0
    from scipy.special import fdtrc  # pyright: ignore[reportMissingTypeStubs]

    chance: Any = fdtrc(own.df, usual.df, own.value / usual.value)
    return float(chance) < limits.HOMOGENEOUS


def _judged(means: Sequence[_Mean], tie: float) -> Iterable[Reading]:
    """Holm's steps from the surest length on, each against its own look's share of the error."""
    order = sorted(means, key=lambda one: one.chance / one.alpha)
    going, level = True, 1.0 / max(len(order), 1)
    edge = math.log1p(tie)
    for step, one in enumerate(order):
        if going:
            level = 1.0 / (len(order) - step)
        going = going and one.chance <= level * one.alpha
        half = one.error * _quantile(level * one.alpha, one.df)
        low, high = one.log - half, one.log + half
        sign = 0 if not going else 1 if one.log > 0 else -1
        yield Reading(
            one.context, one.log, low, high, sign,
            -edge <= low and high <= edge, one.replicates, one.turns,
        )  # fmt: skip


def _over_modes(found: Sequence[Reading]) -> Reading:
    """One mode's reading, or the hull of several: certain where all agree."""
    if len(found) == 1:
        return found[0]
    signs = {one.sign for one in found}
    return Reading(
        context=found[0].context,
        log=math.fsum(one.log * one.replicates for one in found)
        / sum(one.replicates for one in found),
        low=min(one.low for one in found),
        high=max(one.high for one in found),
        sign=signs.pop() if len(signs) == 1 else 0,
        equal=all(one.equal for one in found),
        replicates=sum(one.replicates for one in found),
        turns=found[0].turns,
    )
