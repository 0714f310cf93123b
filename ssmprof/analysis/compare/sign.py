"""Who is lower at each length, and how sure: the signs of a pair's log ratios.

A sign is certain where the interval of log(T_a / T_b) excludes 0. Its error is 2.5 % over all
lengths of the pair (Holm, Scand. J. Stat. 6, 1979) and over all looks at a growing number of visits
(O'Brien and Fleming's spending, Lan and DeMets, Biometrika 70, 1983). That two are equal is said at
each length by itself (Hsu et al., Biometrika 81, 1994) and of a range only where it holds at every
length, which needs no share of the error (Berger, Technometrics 24, 1982). Processes that run in
two modes are never averaged: a sign is then certain where it is certain in both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ssmprof import limits
from ssmprof.analysis.compare.chances import quantile, spent, tail
from ssmprof.analysis.compare.curve import Logs, Ratio
from ssmprof.analysis.compare.modes import Modes, Shift, shift
from ssmprof.analysis.compare.noise import Noise, Square, total
from ssmprof.analysis.compare.worth import mean, sampled_squares, usual_squares, worths


class Reading(NamedTuple):
    """A pair at one length: log ratio with the interval that decides its sign.

    `sign` is -1 where `a` is certainly lower, 1 where it is higher, 0 where neither is certain;
    `equal` says that the whole interval lies within the tie. `lean` is the sign that the mean
    points to, certain or not; 0 where it points nowhere.
    """

    context: int
    log: float
    low: float
    high: float
    sign: int
    equal: bool
    replicates: int
    turns: bool
    lean: int = 0

    def turned(self) -> Reading:
        """The same with the other contender first."""
        return self._replace(
            log=-self.log, low=-self.high, high=-self.low, sign=-self.sign, lean=-self.lean
        )


class _Mean(NamedTuple):
    """Mean log ratio of one mode at one length, its standard error and degrees of freedom.

    `looks` is how many visits have been looked at there.
    """

    context: int
    log: float
    error: float
    df: float
    replicates: int
    turns: bool
    looks: int

    @property
    def chance(self) -> float:
        """One-sided chance of such a mean, or a larger one, where the truth is 0."""
        if self.error <= 0:
            return 0.0 if self.log else 0.5
        return tail(abs(self.log) / self.error, self.df)

    @property
    def alpha(self) -> float:
        """Error that a sign may spend at this look."""
        return spent(self.looks) if self.turns else limits.END_ERROR

    @property
    def equal_alpha(self) -> float:
        """The same for equality: a length that is visited once only is looked at once."""
        return limits.END_ERROR if self.looks < limits.FIRST_LOOK else self.alpha

    def half(self, alpha: float) -> float:
        """Half of the interval that misses with this chance on each side."""
        return self.error * quantile(alpha, self.df)

    @property
    def lean(self) -> int:
        """Where the mean points to."""
        return 0 if self.chance > limits.LEANS else 1 if self.log > 0 else -1


def readings(
    logs: Logs,
    noises: Mapping[bool, Noise | None],
    ways: Mapping[bool, Modes],
    tie: float,
    floor: float = 0.0,
    assumed: float | None = None,
) -> list[Reading]:
    """The pair at each length it was measured at; contexts ascend.

    Args:
        logs: context -> replicate -> log ratio.
        noises: noise of replicates that took turns (True) and of rounds (False).
        ways: the modes in which those ran.
        tie: differences below this ratio are none to act on.
        floor: least standard deviation of a round, from the machine's own examination.
        assumed: standard deviation of a replicate to plan with, beside what its samples leave; None
            takes the noise that was observed.
    """
    chosen = {context: _kind(rounds) for context, rounds in logs.items()}
    count = max((len(ways[turns]) for turns in set(chosen.values())), default=1)
    about = {
        turns: _about(logs, turns, noises.get(turns), 0.0 if turns else floor, assumed)
        for turns in set(chosen.values())
    }
    shifts = {turns: _shifts(logs, turns, ways[turns]) for turns in set(chosen.values())}
    found: dict[int, list[Reading]] = {}
    for way in range(count):
        means: list[_Mean] = []
        for context, rounds in logs.items():
            turns = chosen[context]
            mine = {name: one for name, one in rounds.items() if one.turns == turns}
            groups = ways[turns]
            seen = [
                None if values is None else _mean(context, values, len(mine), turns, about[turns])
                for values in (_values(mine, mode) for mode in groups)
            ]
            one = seen[min(way, len(groups) - 1)]
            if one is None and any(seen):
                one = _moved(next(other for other in seen if other), shifts[turns], way)
            if one is not None:
                means.append(one)
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
        found.append(Reading(context, log, log, log, sign, equal, len(rounds), False, sign))
    return found


def _kind(rounds: Mapping[int, Ratio]) -> bool:
    """Whether visits (True) or rounds speak for a length: the more numerous, visits where equal."""
    turns = sum(one.turns for one in rounds.values())
    return 2 * turns >= len(rounds)


def _values(mine: Mapping[int, Ratio], mode: frozenset[int]) -> list[Ratio] | None:
    """What the replicates of a mode have seen; None where none of them was there."""
    return [one for name, one in mine.items() if not mode or name in mode] or None


class _About(NamedTuple):
    """What is known of one kind of replicates: noise, least deviation, number of lengths.

    `sampled` is the variance that the samples leave around a length, `typical` its mean over all,
    and `usual` what one replicate's usually leave there; `assumed` is a deviation to plan with.
    """

    noise: Noise | None
    floor: float
    lengths: int
    sampled: Mapping[int, float]
    typical: float
    usual: Mapping[int, float]
    assumed: float | None = None


def _about(
    logs: Logs, turns: bool, noise: Noise | None, floor: float, assumed: float | None
) -> _About:
    usual = usual_squares(logs, turns)
    sampled = sampled_squares(logs, turns, usual)
    typical = math.fsum(sampled.values()) / len(sampled)
    return _About(noise, floor, len(logs), sampled, typical, usual, assumed)


def _mean(
    context: int,
    values: Sequence[Ratio],
    looks: int,
    turns: bool,
    about: _About,
) -> _Mean:
    count, usual = len(values), about.usual[context]
    logs = [one.log for one in values]
    if about.assumed is not None:
        square = max(about.assumed, about.floor) ** 2 + about.sampled[context]
        weights = worths(values, usual, square)
        error = math.sqrt(square / math.fsum(weights))
        log = mean(zip(logs, weights, strict=True))
        return _Mean(context, log, error, math.inf, count, turns, looks)
    one = (
        about.noise.at(context, about.sampled[context], about.typical)
        if about.noise
        else Square(0.0, 0.0)
    )
    weights = worths(values, usual, max(one.value, about.floor**2))
    log = mean(zip(logs, weights, strict=True))
    if count > 2:
        square = math.fsum(
            weight * (value - log) ** 2 for value, weight in zip(logs, weights, strict=True)
        )
        own = Square(square / (count - 1), count - 1)
        if one.df <= 0 or _noisier(own, one, limits.HOMOGENEOUS / about.lengths):
            one = own
    if one.df <= 0:
        one = Square(max(about.floor, math.log1p(limits.UNKNOWN_NOISE)) ** 2, math.inf)
    elif one.value < about.floor**2:
        one = Square(about.floor**2, one.df)
    error = math.sqrt(one.value / math.fsum(weights))
    return _Mean(context, log, error, one.df, count, turns, looks)


def _noisier(own: Square, usual: Square, chance: float) -> bool:
    """Whether a length is certainly noisier than the others of its pair (F)."""
    if usual.value <= 0:
        return own.value > 0
    if own.value <= usual.value:
        return False
    from scipy.special import fdtrc  # pyright: ignore[reportMissingTypeStubs]

    found: Any = fdtrc(own.df, usual.df, own.value / usual.value)
    return float(found) < chance


def _shifts(logs: Logs, turns: bool, groups: Modes) -> list[Shift | None]:
    """To each of two modes, from the other; nothing where there is one mode."""
    if len(groups) < 2:
        return []
    first, second = groups
    return [shift(logs, turns, first, second), shift(logs, turns, second, first)]


def _moved(other: _Mean, shifts: Sequence[Shift | None], way: int) -> _Mean:
    """What a mode would read where only the other one ran; not known without a shift."""
    by = shifts[way]
    if by is None:
        by = Shift(0.0, math.log1p(limits.UNKNOWN_NOISE), 1)
    error = total((Square(other.error**2, other.df), Square(by.error**2, by.df)))
    return other._replace(log=other.log + by.log, error=math.sqrt(error.value), df=error.df)


def _judged(means: Sequence[_Mean], tie: float) -> Iterable[Reading]:
    """Holm's steps from the surest length on, each against its own look's share of the error."""
    order = sorted(means, key=lambda one: one.chance / one.alpha)
    going, level = True, 1.0 / max(len(order), 1)
    edge = math.log1p(tie)
    for step, one in enumerate(order):
        if going:
            level = 1.0 / (len(order) - step)
        going = going and one.chance <= level * one.alpha
        half, least = one.half(level * one.alpha), one.half(one.equal_alpha)
        low, high = one.log - half, one.log + half
        # An interval that is to tell equal from different holds 0.
        inner = min(0.0, one.log - least), max(0.0, one.log + least)
        equal = -edge <= inner[0] and inner[1] <= edge
        if equal:
            low, high = max(low, inner[0]), min(high, inner[1])
        sign = 0 if not going else 1 if one.log > 0 else -1
        yield Reading(
            one.context, one.log, low, high, sign, equal, one.replicates, one.turns, one.lean
        )


def _over_modes(found: Sequence[Reading]) -> Reading:
    """One mode's reading, or the hull of several: certain where all agree."""
    if len(found) == 1:
        return found[0]
    replicates = sum(one.replicates for one in found)
    return Reading(
        context=found[0].context,
        log=math.fsum(one.log * one.replicates for one in found) / replicates,
        low=min(one.low for one in found),
        high=max(one.high for one in found),
        sign=_common([one.sign for one in found]),
        equal=all(one.equal for one in found),
        replicates=replicates,
        turns=found[0].turns,
        lean=_common([one.lean for one in found]),
    )


def _common(signs: Sequence[int]) -> int:
    """The sign on which all agree; 0 where they do not."""
    return signs[0] if len(set(signs)) == 1 else 0
