"""The lower envelope over all contenders: who is best at each length, and where that changes.

Never decides from one pair: if Mamba-2 passes the transformer at 15K but a hybrid beats both from
9K to 60K, "Mamba-2 above 15K" is true of the pair and wrong advice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, permutations

from ssmprof import limits
from ssmprof.analysis.compare.answer import Crossing, RatioPoint, Segment
from ssmprof.analysis.compare.answer import Standing as Told
from ssmprof.analysis.compare.crossing import Ops, crossing
from ssmprof.analysis.compare.curve import Contender, between
from ssmprof.analysis.compare.pairs import Compared, Key
from ssmprof.analysis.compare.sign import Reading
from ssmprof.analysis.compare.zone import (
    Change,
    Names,
    Standing,
    Stretch,
    changes,
    open_lobes,
)

# (before, after, low, high) -> seconds that deciding a zone would take, None where not known.
CostOf = Callable[[str, str, "int | None", int], "float | None"]


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
        self.medians = {name: one.medians() for name, one in known.items()}

    def reading(self, block: str, other: str, context: int) -> Reading | None:
        """The pair at a length, as block over other."""
        one = self.pairs.get((block, other))
        if one is not None:
            return one.readings.get(context)
        turned = self.pairs.get((other, block))
        found = turned.readings.get(context) if turned else None
        return found.turned() if found else None

    def between_two(self, block: str, other: str) -> dict[int, Reading]:
        """All readings of a pair, as block over other."""
        lengths = sorted(self.medians[block].keys() & self.medians[other].keys())
        found = {at: self.reading(block, other, at) for at in lengths}
        return {at: one for at, one in found.items() if one is not None}

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
        beaten = {
            name
            for name in here
            for other in here
            if name != other and (one := self.reading(name, other, context)) and one.sign > 0
        }
        winners = frozenset(here) - beaten or frozenset(here)
        behind = {
            name
            for name, other in permutations(winners, 2)
            if (one := self.reading(name, other, context)) and one.lean > 0
        }
        return Standing(
            context, winners, self.equal(winners, context), frozenset(here), winners - behind
        )

    def equal(self, names: Iterable[str], context: int) -> bool:
        """Whether no two of these differ beyond the tie at a length; False for a single one."""
        found = [self.reading(a, b, context) for a, b in combinations(sorted(names), 2)]
        return bool(found) and all(one is not None and one.equal for one in found)

    def standings(self) -> list[Standing]:
        """The standing at every length that has one."""
        lengths = sorted({context for values in self.medians.values() for context in values})
        found = [self.standing(context) for context in lengths]
        return [one for one in found if one is not None]

    def ranked(self, names: Iterable[str], contexts: Sequence[int]) -> tuple[str, ...]:
        """Best first, by geometric mean over the lengths that all of them have."""
        every = list(names)
        shared = [at for at in contexts if all(at in self.medians[name] for name in every)]

        def mean(name: str) -> float:
            values = [math.log(self.medians[name][at]) for at in shared or self.medians[name]]
            return math.fsum(values) / len(values)

        return tuple(sorted(every, key=mean))


def answer(field: Field, cost_s: CostOf) -> tuple[list[Segment], list[Crossing]]:
    """Segments and crossings of all contenders."""
    standings = field.standings()
    if not standings:
        return [], []
    if whole := _all_equal(field, standings):
        return [whole], []
    return _told(field, standings, cost_s)


def _all_equal(field: Field, standings: Sequence[Standing]) -> Segment | None:
    """One segment where whoever wins anywhere differs from others by less than the tie everywhere.

    A difference that is certain but below the tie is none to act on.
    """
    contexts = [one.context for one in standings]
    winners = frozenset[str]().union(*(one.winners for one in standings))
    names = set(winners)
    for name in field.known.keys() - winners:
        if all(field.equal({*names, name}, at) for at in contexts):
            names.add(name)
    present = all(names <= one.present for one in standings)
    if len(names) < 2 or not present or not all(field.equal(names, at) for at in contexts):
        return None
    ranked = field.ranked(names, contexts)
    return Segment(winners=ranked, low_tokens=contexts[0], high_tokens=contexts[-1], equal=True)


def _told(
    field: Field, standings: Sequence[Standing], cost_s: CostOf
) -> tuple[list[Segment], list[Crossing]]:
    stretches, zones = changes(standings)
    segments: list[Segment] = []
    crossings: list[Crossing] = []
    for index, stretch in enumerate(stretches):
        lengths = _owned(stretch, zones, index, standings)
        head, body, tail = _ends(lengths, stretch.names, index == 0, index + 1 == len(stretches))
        if head and body:
            segments.append(_open(field, head))
            crossings.extend(_unsure(field, head, stretch.names, leading=True))
        if index:
            crossings.append(_crossing(field, zones[index - 1], standings, cost_s))
        if body:
            _body(field, stretch, body, segments, crossings)
        else:
            segments.append(_open(field, head))
        if tail:
            segments.append(_open(field, tail))
            crossings.extend(_unsure(field, tail, stretch.names, leading=False))
    return segments, crossings


def _owned(
    stretch: Stretch, zones: Sequence[Change], index: int, standings: Sequence[Standing]
) -> list[Standing]:
    """The lengths of a stretch outside of the zones at its ends."""
    first = zones[index - 1].high if index else stretch.first
    last = zones[index].low if index < len(zones) else stretch.last
    if last is None:
        last = stretch.first
    found = [one for one in standings if first <= one.context <= last]
    return found or [one for one in stretch.lengths if one.context == stretch.first]


def _ends(
    lengths: list[Standing], names: Names, first: bool, last: bool
) -> tuple[list[Standing], list[Standing], list[Standing]]:
    """Lengths at the ends of the range at which more than the winner may win, and the rest.

    Where no length has a single winner all of them are the first of the three.
    """
    if len(names) > 1:
        equal = all(one.equal or one.winners == names for one in lengths)
        return ([], lengths, []) if equal else (lengths, [], [])
    sure = [index for index, one in enumerate(lengths) if one.winners == names]
    if not sure:
        return lengths, [], []
    start = sure[0] if first else 0
    end = sure[-1] + 1 if last else len(lengths)
    return lengths[:start], lengths[start:end], lengths[end:]


def _body(
    field: Field,
    stretch: Stretch,
    lengths: list[Standing],
    segments: list[Segment],
    crossings: list[Crossing],
) -> None:
    """The segments of a stretch: its own, interrupted where somebody else may well win."""
    for lobe in open_lobes(stretch, lengths):
        start, end = (
            next(i for i, one in enumerate(lengths) if one is at) for at in (lobe[0], lobe[-1])
        )
        if not start or end + 1 == len(lengths):
            continue
        before, lengths = lengths[:start], lengths[end + 1 :]
        segments += [_segment(field, before, stretch.names), _open(field, lobe)]
        crossings += _unsure_between(field, before[-1], lobe, lengths[0], stretch.names)
    segments.append(_segment(field, lengths, stretch.names))


def _unsure_between(
    field: Field, before: Standing, lobe: Sequence[Standing], after: Standing, names: Names
) -> Iterable[Crossing]:
    """The crossing, and the way back, that may hide inside a stretch."""
    contexts = [one.context for one in lobe]
    others = frozenset[str]().union(*(one.winners for one in lobe)) - names
    yield Crossing(
        before=field.ranked(names, contexts)[0],
        after=field.ranked(others, contexts)[0],
        kind="unresolved",
        low_tokens=before.context,
        high_tokens=after.context,
        why="noisy",
    )


def _segment(field: Field, lengths: Sequence[Standing], names: Names) -> Segment:
    contexts = [one.context for one in lengths]
    return Segment(
        winners=field.ranked(names, contexts),
        low_tokens=contexts[0],
        high_tokens=contexts[-1],
        equal=len(names) > 1 and all(field.equal(names, at) for at in contexts),
        unsure=tuple(one.context for one in lengths if one.winners != names),
    )


def _open(field: Field, lengths: Sequence[Standing]) -> Segment:
    """A segment at an end of the range without a certain winner."""
    names = frozenset[str]().union(*(one.winners for one in lengths))
    contexts = [one.context for one in lengths]
    return Segment(
        winners=field.ranked(names, contexts),
        low_tokens=contexts[0],
        high_tokens=contexts[-1],
        equal=all(one.equal for one in lengths),
    )


def _unsure(
    field: Field, lengths: Sequence[Standing], names: Names, *, leading: bool
) -> Iterable[Crossing]:
    """The crossing that may hide at an end whose winner is not known; none where all are equal."""
    if all(one.equal for one in lengths):
        return
    contexts = [one.context for one in lengths]
    sure = field.ranked(names, contexts)[0]
    others = frozenset[str]().union(*(one.winners for one in lengths)) - names
    other = field.ranked(others, contexts)[0]
    yield Crossing(
        before=other if leading else sure,
        after=sure if leading else other,
        kind="unresolved",
        low_tokens=None if leading else contexts[0],
        high_tokens=contexts[-1] if leading else None,
        why="noisy",
    )


def _crossing(
    field: Field, change: Change, standings: Sequence[Standing], cost_s: CostOf
) -> Crossing:
    contexts = [one.context for one in standings if (change.low or 0) <= one.context <= change.high]
    before, after = (field.ranked(names, contexts)[0] for names in (change.before, change.after))
    return crossing(
        change,
        before,
        after,
        field.between_two(before, after),
        field.ops,
        None if change.gone else cost_s(before, after, change.low, change.high),
    )


def standings_told(field: Field) -> list[Told]:
    """Winners, lead and absent contenders at every length somebody was measured at."""
    found: list[Told] = []
    lengths = sorted({context for values in field.medians.values() for context in values})
    for context in lengths:
        here = sorted(
            (name for name, values in field.medians.items() if context in values),
            key=lambda name: field.medians[name][context],
        )
        standing = field.standing(context)
        lead = field.reading(here[1], here[0], context) if len(here) > 1 else None
        found.append(
            Told(
                context=context,
                winners=tuple(name for name in here if standing and name in standing.winners),
                equal=standing is not None and standing.equal,
                absent=tuple(name for name, one in field.known.items() if one.absent(context)),
                runner_up=here[1] if len(here) > 1 else None,
                lead=point(lead) if lead else None,
            )
        )
    return found


def point(one: Reading, cycles: float | None = None, depends: bool = False) -> RatioPoint:
    """A reading as it is told."""
    return RatioPoint(
        context=one.context,
        ratio=math.exp(one.log),
        interval=(math.exp(one.low), math.exp(one.high)),
        sign=one.sign,  # type: ignore[arg-type]
        equal=one.equal,
        processes=one.replicates,
        turns=one.turns,
        cycles=cycles,
        depends_on_clocks=depends,
    )


def alone(field: Field) -> tuple[str, int] | None:
    """Who alone fits at the longest lengths, and the last length at which another one does."""
    if len(field.known) < 2:
        return None
    found: tuple[str, int] | None = None
    lengths = sorted({context for values in field.medians.values() for context in values})
    for index in range(len(lengths) - 1, 0, -1):
        context = lengths[index]
        here = [name for name, values in field.medians.items() if context in values]
        others = [one for name, one in field.known.items() if name not in here]
        if len(here) != 1 or not all(one.absent(context) for one in others):
            break
        if found and found[0] != here[0]:
            break
        found = (here[0], lengths[index - 1])
    return found
