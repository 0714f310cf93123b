"""Two contenders by themselves: readings at each length, their stretches and crossings.

Noise is known per pair and pooled over the pairs and conditions of a run that share device,
execution and metric, where it is alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from ssmprof import limits
from ssmprof.analysis.compare.curve import Contender, Ratio, log_ratios
from ssmprof.analysis.compare.modes import ONE_MODE, Modes, modes, within_modes
from ssmprof.analysis.compare.noise import Noise, Pool, Square, alike, noise_of
from ssmprof.analysis.compare.sign import Reading, exact, readings

Key = tuple[str, str]


@dataclass
class Compared:
    """One pair under one set of conditions, before and after its readings are known."""

    a: Contender
    b: Contender
    logs: dict[int, dict[int, Ratio]]
    ways: dict[bool, Modes] = field(default_factory=dict[bool, Modes])
    noises: dict[bool, Noise | None] = field(default_factory=dict[bool, "Noise | None"])
    readings: dict[int, Reading] = field(default_factory=dict[int, Reading])


def deciding(known: Mapping[str, Contender]) -> list[Key]:
    """The pairs of which answers are made: all of few contenders, not the square of many.

    Of more than `limits.EVERY_PAIR`: each with everyone who is best at some length, and those that
    come near the best anywhere with one another.
    """
    every = list(combinations(known, 2))
    if len(known) <= limits.EVERY_PAIR:
        return every
    best: dict[int, tuple[float, str]] = {}
    for name, one in known.items():
        for context, value in one.medians.items():
            best[context] = min(best.get(context, (value, name)), (value, name))
    first = {name for _, name in best.values()}
    near = {
        name
        for name, one in known.items()
        if any(value <= best[at][0] * limits.ASIDE for at, value in one.medians.items())
    }
    return [(a, b) for a, b in every if a in first or b in first or (a in near and b in near)]


def compared(
    known: Mapping[str, Contender], keys: Iterable[Key] | None = None
) -> dict[Key, Compared]:
    """Each of these pairs, or all, that shares a length, with the noise of its own replicates."""
    found: dict[Key, Compared] = {}
    for a, b in combinations(known, 2) if keys is None else keys:
        if a not in known or b not in known:
            continue
        logs = log_ratios(known[a], known[b])
        if not logs:
            continue
        one = Compared(known[a], known[b], logs)
        for turns in (False, True):
            one.ways[turns] = modes(logs, turns)
            one.noises[turns] = noise_of(within_modes(logs, one.ways[turns]), turns)
        found[a, b] = one
    return found


def read(
    pairs: Iterable[Mapping[Key, Compared]],
    tie: float,
    floor: float,
    assumed: float | None = None,
) -> None:
    """Fill in the readings of pairs that may pool their noise: one mapping per conditions."""
    groups = list(pairs)
    for turns in (False, True):
        facets = [_Facet(group, turns) for group in groups]
        shared = alike([one.typical for one in facets if one.typical.df > 0])
        every = Pool([one for facet in facets for one in facet.members]) if shared else None
        for facet in facets:
            pool = every or Pool(facet.members)
            for key, one in facet.group.items():
                one.noises[turns] = facet.noise(key, pool)
    for group in groups:
        for one in group.values():
            found = readings(one.logs, one.noises, one.ways, tie, floor, assumed)
            one.readings = {reading.context: reading for reading in found}


def read_exact(group: Mapping[Key, Compared], tie: float) -> None:
    """Fill in the readings of a metric without noise (bytes)."""
    for one in group.values():
        one.ways = dict.fromkeys((False, True), ONE_MODE)
        one.readings = {reading.context: reading for reading in exact(one.logs, tie)}


class _Facet:
    """The pairs of one set of conditions and their common noise, for one kind of replicates."""

    def __init__(self, group: Mapping[Key, Compared], turns: bool) -> None:
        self.group = group
        known = {key: one.noises.get(turns) for key, one in group.items()}
        self.known = {key: one for key, one in known.items() if one is not None}
        # Rounds of k contenders hold k - 1 independent ratios, however many pairs they make:
        # variances of two pairs that share a contender are correlated by a quarter.
        pairs = max(len(self.known), 1)
        often = Counter(name for key in self.known for name in key)
        shared = sum(count * (count - 1) for count in often.values())
        self.weight = 1.0 if turns else pairs / (pairs + shared / 4)
        self.typical = _typical(list(self.known.values()), self.weight)

    @property
    def members(self) -> list[tuple[Noise, float]]:
        """Its noises and what each weighs in a pool."""
        return [(one, self.weight) for one in self.known.values()]

    def noise(self, key: Key, pool: Pool) -> Noise | None:
        """The pair's noise, pooled with what is alike; its shape is its own where it has one.

        `pool` holds the members of this facet, and maybe others.
        """
        mine = self.known.get(key)
        if mine is None:
            shape = pool.shape
            return None if shape is None else pool.pooled(_around(shape, self.group[key]))
        theirs = pool.typical_without(mine, self.weight)
        if theirs is None or not alike([mine.typical, theirs]):
            return mine
        return pool.pooled(mine)


def _typical(noises: Sequence[Noise], weight: float) -> Square:
    """Mean of typical variances, with their degrees of freedom summed."""
    known = [one.typical for one in noises]
    df = math.fsum(one.df for one in known)
    if df <= 0:
        return Square(0.0, 0.0)
    return Square(math.fsum(one.value * one.df for one in known) / df, df * weight)


def _around(shape: Noise, pair: Compared) -> Noise:
    """Another pair's shape around this pair's own lengths."""
    logs = [math.log(context) for context in pair.logs]
    centre = math.fsum(logs) / len(logs)
    return Noise(
        level=shape.level,
        slope=shape.slope,
        residual=shape.residual,
        centre=centre,
        spread=max(shape.spread, math.fsum((x - centre) ** 2 for x in logs) / len(logs)),
        lengths=max(shape.lengths, limits.LEAST_PROCESSES),
    )
