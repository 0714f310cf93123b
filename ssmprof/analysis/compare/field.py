"""Contenders side by side: the readings of their pairs, and who may be best at each length."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import combinations

from ssmprof import limits
from ssmprof.analysis.compare.crossing import Ops
from ssmprof.analysis.compare.curve import Contender, between
from ssmprof.analysis.compare.pairs import Compared, Key
from ssmprof.analysis.compare.sign import Reading
from ssmprof.analysis.compare.zone import Standing


class Field:
    """Contenders under one set of conditions in one metric, with the readings of their pairs."""

    def __init__(
        self,
        known: Mapping[str, Contender],
        pairs: Mapping[Key, Compared],
        ops: Mapping[str, Mapping[int, Ops]],
    ) -> None:
        self.known = known
        self.pairs = pairs
        self.ops = ops
        self.medians = {name: one.medians for name, one in known.items()}

    def reading(self, block: str, other: str, context: int) -> Reading | None:
        """The pair at a length, as block over other."""
        one, turned = self._one(block, other, context)
        return one.turned() if one and turned else one

    def _one(self, block: str, other: str, context: int) -> tuple[Reading | None, bool]:
        """The pair at a length as it is kept, and whether that is other over block."""
        if pair := self.pairs.get((block, other)):
            return pair.readings.get(context), False
        pair = self.pairs.get((other, block))
        return (pair.readings.get(context) if pair else None), True

    @cached_property
    def _at(self) -> dict[int, list[tuple[str, str, Reading]]]:
        """Context -> every pair with a reading there."""
        found: dict[int, list[tuple[str, str, Reading]]] = {}
        for (block, other), pair in self.pairs.items():
            for context, one in pair.readings.items():
                found.setdefault(context, []).append((block, other, one))
        return found

    def between_two(self, block: str, other: str) -> dict[int, Reading]:
        """All readings of a pair, as block over other."""
        if pair := self.pairs.get((block, other)):
            return dict(pair.readings)
        pair = self.pairs.get((other, block))
        return {at: one.turned() for at, one in pair.readings.items()} if pair else {}

    def standing(self, context: int) -> Standing | None:
        """Who may be best at a length; None where somebody who may be was not measured there."""
        here = [name for name, values in self.medians.items() if context in values]
        if not here:
            return None
        absent = {name for name, one in self.known.items() if one.absent(context)}
        if len(here) < 2 and len(absent) + len(here) < len(self.known):
            return None
        best = min(self.medians[name][context] for name in here)
        for name in self.known.keys() - set(here) - absent:
            guess = between(self.medians[name], context)
            if guess is not None and guess <= best * limits.ASIDE:
                return None
        pairs = self._at.get(context, ())
        beaten = {a if one.sign > 0 else b for a, b, one in pairs if one.sign}
        winners = frozenset(here) - beaten or frozenset(here)
        behind = {
            a if one.lean > 0 else b
            for a, b, one in pairs
            if a in winners and b in winners and one.lean
        }
        return Standing(
            context, winners, self.equal(winners, context), frozenset(here), winners - behind
        )

    def equal(self, names: Iterable[str], context: int) -> bool:
        """Whether no two of these differ beyond the tie at a length; False for a single one."""
        pairs = list(combinations(sorted(names), 2))
        found = (self._one(a, b, context)[0] for a, b in pairs)
        return bool(pairs) and all(one is not None and one.equal for one in found)

    @cached_property
    def lengths(self) -> list[int]:
        """Every length at which somebody was measured."""
        return sorted({context for values in self.medians.values() for context in values})

    @cached_property
    def standings(self) -> dict[int, Standing]:
        """The standing at every length that has one."""
        found = {context: self.standing(context) for context in self.lengths}
        return {context: one for context, one in found.items() if one is not None}

    def ranked(self, names: Iterable[str], contexts: Sequence[int]) -> tuple[str, ...]:
        """Best first, by geometric mean over the lengths that all of them have."""
        every = sorted(names)  # a set has no order, and equal means keep this one
        shared = [at for at in contexts if all(at in self.medians[name] for name in every)]

        def mean(name: str) -> float:
            values = [math.log(self.medians[name][at]) for at in shared or self.medians[name]]
            return math.fsum(values) / len(values)

        return tuple(sorted(every, key=mean))
