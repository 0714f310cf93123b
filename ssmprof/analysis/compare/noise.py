"""How much log ratios vary between processes: by component, pooled where that is sound.

A process is one replicate for all of its lengths and moves neighbouring ones together. So the
deviation of a replicate from the mean over replicates has three parts: a level, a slope over log
context, and residuals of single lengths. Each is a mean square with degrees of freedom of its own;
the variance at a length is their sum, and its degrees of freedom are Satterthwaite's (Biometrics
Bulletin 2, 1946). Mean squares are pooled over the pairs and conditions of a run that share device
and execution, unless Bartlett's test (Proc. R. Soc. A 160, 1937) says that their noise differs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

from ssmprof import limits
from ssmprof.analysis.compare.curve import Logs
from ssmprof.analysis.compare.worth import weighed

_SLOPE_LENGTHS = 4  # fewer lengths of a process carry no slope apart from their residuals
_FARTHEST = 4.0  # a slope counts at most so many times its typical square beyond the lengths seen


class Square(NamedTuple):
    """A mean square and its degrees of freedom."""

    value: float
    df: float


@dataclass(frozen=True)
class Noise:
    """Variance of one replicate of a log ratio, by component; over log contexts around `centre`.

    `level` and `slope` are what a process moves together, `residual` the rest, each at a typical
    length; `spread` is the mean square of log context around the centre, `lengths` their number.
    """

    level: Square
    slope: Square
    residual: Square
    centre: float
    spread: float
    lengths: int

    def at(self, context: int, sampled: float = 0.0, usual: float = 0.0) -> Square:
        """Variance of one replicate at a length, with Satterthwaite's degrees of freedom.

        `sampled` is the variance that the samples there leave, `usual` the same over all lengths:
        where samples scatter more than usual the residual is as much larger, and never smaller
        than what they leave.
        """
        away = (math.log(context) - self.centre) ** 2
        tilt = min(away / self.spread, _FARTHEST) if self.spread else 0.0
        fitted = 2 if self.slope.df else 1
        hat = 1 / self.lengths + (tilt / self.lengths if self.slope.df else 0.0)
        left = 1 - fitted / self.lengths
        rest = max(0.0, 1 - hat) / left if left > 0 else 1.0
        noisier = max(1.0, sampled / usual) if usual > 0 else 1.0
        return total(
            (self.level, Square(self.slope.value * tilt, self.slope.df),
             Square(max(self.residual.value * rest * noisier, sampled), self.residual.df))
        )  # fmt: skip

    @cached_property
    def typical(self) -> Square:
        """Variance of one replicate at a typical length."""
        return total((self.level, self.slope, self.residual))


def total(parts: Iterable[Square]) -> Square:
    """Sum of mean squares with Satterthwaite's degrees of freedom."""
    known = [part for part in parts if part.df > 0]
    value = math.fsum(part.value for part in known)
    if value <= 0:
        return Square(0.0, max((part.df for part in known), default=0.0))
    return Square(value, value**2 / math.fsum(part.value**2 / part.df for part in known))


def noise_of(logs: Logs, turns: bool) -> Noise | None:
    """Noise of one pair from its replicates of one kind; None with fewer than two of them."""
    import numpy as np

    kept = {at: rounds for at, rounds in weighed(logs, turns).items() if len(rounds) > 1}
    replicates = sorted(set(chain.from_iterable(kept.values())))
    if not kept or len(replicates) < 2:
        return None
    cells = [[rounds.get(name, (0.0, 0.0)) for rounds in kept.values()] for name in replicates]
    table: Any = np.array(cells)
    values: Any = table[..., 0]
    weights: Any = table[..., 1]
    away: Any = values - (weights * values).sum(axis=0) / weights.sum(axis=0)
    x: Any = np.log(np.array(list(kept), dtype=float))
    centre, count = float(x.mean()), len(x)
    x = x - centre
    spread = float((x**2).mean())
    sloped = count >= _SLOPE_LENGTHS
    levels: list[tuple[float, float]] = []
    slopes: list[tuple[float, float]] = []
    residuals = 0.0
    for row, weight in zip(away, weights, strict=True):
        whole = float(weight.sum())
        level = float((weight * row).sum()) / whole
        mine = x - float((weight * x).sum()) / whole
        square = float((weight * mine**2).sum())
        slope = float((weight * mine * row).sum()) / square if sloped and square > 0 else 0.0
        levels.append((level, whole))
        slopes.append((slope, square))
        residuals += float((weight * (row - level - slope * mine) ** 2).sum())
    fitted = 2 if sloped else 1
    seen = float(np.maximum(weights.sum(axis=0) - 1, 0.0).sum())
    left = max(0.0, seen - (len(levels) - 1) * fitted)
    share = 1 - fitted / count
    tilt = _between(slopes)
    return Noise(
        level=_between(levels),
        slope=Square(spread * tilt.value, tilt.df) if sloped else Square(0.0, 0.0),
        residual=Square(share * residuals / left if left else 0.0, left),
        centre=centre,
        spread=spread,
        lengths=count,
    )


def _between(deviations: Sequence[tuple[float, float]]) -> Square:
    """Mean square of what replicates deviate by, each weighed by what it knows of it.

    A visit of two neighbouring lengths knows nothing of a slope over four octaves: its slope is the
    residuals of these two. Degrees of freedom are of the replicates that such weights leave (Kish,
    Survey Sampling, 1965, section 11.7), less one for the mean that they deviate from.
    """
    weights = [weight for _, weight in deviations]
    whole, squares = math.fsum(weights), math.fsum(weight**2 for weight in weights)
    if squares <= 0:
        return Square(0.0, 0.0)
    many = whole**2 / squares
    if many <= 1:
        return Square(0.0, 0.0)
    seen = math.fsum(weight * value**2 for value, weight in deviations) / whole
    return Square(seen * many / (many - 1), many - 1)


class Pool:
    """Noises that are alike, with their weights; their mean squares are summed once.

    A weight below 1 is for pairs that share contenders, whose noise is not independent.
    """

    def __init__(self, members: Sequence[tuple[Noise, float]]) -> None:
        self._members = members
        known = [one.typical for one, _ in members]
        self._df = partials([one.df for one in known])
        self._squares = partials([one.value * one.df for one in known])

    def pooled(self, mine: Noise) -> Noise:
        """The shape of `mine` with mean squares pooled over all, weighted by their information."""
        return Noise(
            level=self._level,
            slope=self._slope if mine.slope.df else Square(0.0, 0.0),
            residual=self._residual,
            centre=mine.centre,
            spread=mine.spread,
            lengths=mine.lengths,
        )

    @cached_property
    def shape(self) -> Noise | None:
        """The noise that was seen at most lengths."""
        return max((one for one, _ in self._members), key=lambda one: one.lengths, default=None)

    def typical_without(self, mine: Noise, weight: float) -> Square | None:
        """Mean typical variance of all but one member; None where it is the only one."""
        if len(self._members) < 2:
            return None
        one = mine.typical
        df = math.fsum([*self._df, -one.df])
        if df <= 0:
            return Square(0.0, 0.0)
        return Square(math.fsum([*self._squares, -(one.value * one.df)]) / df, df * weight)

    @cached_property
    def _level(self) -> Square:
        return self._of([(one.level, weight) for one, weight in self._members])

    @cached_property
    def _slope(self) -> Square:
        return self._of([(one.slope, weight) for one, weight in self._members])

    @cached_property
    def _residual(self) -> Square:
        return self._of([(one.residual, weight) for one, weight in self._members])

    @staticmethod
    def _of(squares: Sequence[tuple[Square, float]]) -> Square:
        df = math.fsum(square.df * weight for square, weight in squares)
        if df <= 0:
            return Square(0.0, 0.0)
        value = math.fsum(square.value * square.df * weight for square, weight in squares) / df
        return Square(value, df)


def partials(values: Sequence[float]) -> list[float]:
    """A few numbers with exactly the same sum: one value is taken off again without a rounding."""
    found: list[float] = []
    while rest := math.fsum([*values, *(-one for one in found)]):
        found.append(rest)
    return found


def alike(squares: Sequence[Square]) -> bool:
    """Bartlett's test: whether these variances may be one."""
    known = [one for one in squares if one.df > 0]
    if len(known) < 2:
        return True
    if any(one.value <= 0 for one in known):
        return all(one.value <= 0 for one in known)
    from scipy.special import chdtrc  # pyright: ignore[reportMissingTypeStubs]

    df = math.fsum(one.df for one in known)
    mean = math.fsum(one.value * one.df for one in known) / df
    excess = df * math.log(mean) - math.fsum(one.df * math.log(one.value) for one in known)
    groups = len(known) - 1
    scale = 1 + (math.fsum(1 / one.df for one in known) - 1 / df) / (3 * groups)
    chance: Any = chdtrc(groups, max(0.0, excess / scale))
    return float(chance) >= limits.HOMOGENEOUS
