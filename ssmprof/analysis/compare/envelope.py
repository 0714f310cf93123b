"""The lower envelope over all contenders: who is best at each length, and where that changes.

Never decides from one pair: if Mamba-2 passes the transformer at 15K but a hybrid beats both from
9K to 60K, "Mamba-2 above 15K" is true of the pair and wrong advice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ssmprof.analysis.compare.answer import Crossing, RatioPoint, Segment
from ssmprof.analysis.compare.answer import Standing as Told
from ssmprof.analysis.compare.crossing import crossing
from ssmprof.analysis.compare.field import Field
from ssmprof.analysis.compare.logs import ratio_of
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


def answer(field: Field, cost_s: CostOf) -> tuple[list[Segment], list[Crossing]]:
    """Segments and crossings of all contenders."""
    standings = list(field.standings.values())
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
            crossings.extend(_unsure(field, head, stretch.names, cost_s, leading=True))
        if index:
            crossings.append(_crossing(field, zones[index - 1], standings, cost_s))
        if body:
            _body(field, stretch, body, segments, crossings, cost_s)
        else:
            segments.append(_open(field, head))
        if tail:
            segments.append(_open(field, tail))
            crossings.extend(_unsure(field, tail, stretch.names, cost_s, leading=False))
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
    cost_s: CostOf,
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
        crossings.append(
            _unsure_between(field, before[-1], lobe, lengths[0], stretch.names, cost_s)
        )
    segments.append(_segment(field, lengths, stretch.names))


def _unsure_between(
    field: Field,
    before: Standing,
    lobe: Sequence[Standing],
    after: Standing,
    names: Names,
    cost_s: CostOf,
) -> Crossing:
    """The crossing, and the way back, that may hide inside a stretch: between its certain ends."""
    contexts = [one.context for one in lobe]
    others = frozenset[str]().union(*(one.winners for one in lobe)) - names
    sure, other = field.ranked(names, contexts)[0], field.ranked(others, contexts)[0]
    return Crossing(
        before=sure,
        after=other,
        kind="unresolved",
        low_tokens=before.context,
        high_tokens=after.context,
        why="noisy",
        cost_to_resolve_s=cost_s(sure, other, before.context, after.context),
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
    field: Field, lengths: Sequence[Standing], names: Names, cost_s: CostOf, *, leading: bool
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
        cost_to_resolve_s=cost_s(sure, other, contexts[0], contexts[-1]),
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
    for context in field.lengths:
        standing = field.standings.get(context)
        here = _best_first(field, context, standing.winners if standing else frozenset())
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


def _best_first(field: Field, context: int, winners: frozenset[str]) -> list[str]:
    """Who was measured at a length: winners, then the others, each by their medians.

    Readings decide who wins: a median also holds processes that a rival was not in.
    """
    here = (name for name, values in field.medians.items() if context in values)
    return sorted(here, key=lambda name: (name not in winners, field.medians[name][context]))


def point(one: Reading, cycles: float | None = None, depends: bool = False) -> RatioPoint:
    """A reading as it is told."""
    return RatioPoint(
        context=one.context,
        ratio=ratio_of(one.log),
        interval=(ratio_of(one.low), ratio_of(one.high)),
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
    lengths = field.lengths
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
