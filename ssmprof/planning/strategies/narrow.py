"""Which lengths the next visit should look at, to answer one question.

Around every crossing a fine grid is measured from where it should lie outwards, until three
processes agree on its ends (five at most). Guards stand over the rest of the range, and what is not
certain is looked at again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ssmprof import limits
from ssmprof.analysis.compare.answer import Answer, Crossing
from ssmprof.analysis.compare.forecast import closest, is_settled, switch, unsure
from ssmprof.planning.strategies import lengths
from ssmprof.planning.strategies.facets import Facet
from ssmprof.planning.strategies.state import State

SIDE_BY_SIDE = 1.08  # five visits do not bring a zone from here to one number
_MODES_LOOK = 4  # two modes need four processes
_COARSE = 1.3  # a wider zone is searched from where it should lie, not measured throughout
_BATCH = 16  # lengths of a search; in a zone with more of them every second one will do
_LEAST = 6  # ... whatever it costs
_SIDE = 2  # lengths beyond each end that must agree with it
_OPEN = 6  # lengths with a clear lead that one visit repeats to learn the noise
_KNOWS_NOISE = 2  # visits after which noise is known where lengths were chosen
_CLEAR = 1.25  # no lobe is looked for between lengths where the winner leads by this


def open_lengths(state: State, facet: Facet) -> set[int]:
    """Lengths that one more visit should look at to answer a question."""
    plans, told = state.planned(facet), state.answered(facet)
    modes = any(pair.modes for answer in told for pair in answer.pairs)
    least = _MODES_LOOK if modes else limits.FIRST_LOOK
    near = _near(state, facet, plans, least)
    grid_lengths = state.facets[facet]
    seen = max((state.looks(facet, at) for at in near if at not in grid_lengths), default=0)
    found = _lacking(state, facet, near) if seen < least else set[int]()
    judged, most = (plans, least) if found else (told, limits.LAST_LOOK)
    if not found and seen < most and not all(is_settled(one, SIDE_BY_SIDE) for one in told):
        # The zone that is expected, more often; where that has not helped, the zone that is seen.
        found = _lacking(state, facet, _near(state, facet, plans, most))
        found = found or _lacking(state, facet, _near(state, facet, told, most))
    for answer in judged:
        found |= _lacking(state, facet, _doubtful(answer, most))
    if not near:
        found |= _lacking(state, facet, _closest(told))
    found |= set(_guards(state, facet, near))
    ends = _open_ends(state, facet, told)
    found |= ends
    if len(found) <= state.room:
        return found
    order = sorted(
        found, key=lambda at: (at not in ends, at not in near, -state.looks(facet, at), at)
    )
    return set(order[: max(_LEAST, int(state.room))])


def _lacking(state: State, facet: Facet, wanted: Mapping[int, int]) -> set[int]:
    """Lengths that fewer processes have seen than wanted."""
    return {at for at, looks in wanted.items() if state.may_look(facet, at, looks)}


def _near(state: State, facet: Facet, found: Iterable[Answer], most: int) -> dict[int, int]:
    """Lengths in and beside zones, with the number of processes that each should be seen by."""
    near: dict[int, int] = {}
    for answer in found:
        for one in answer.crossings:
            if one.kind == "zone":
                for at, looks in _around(state, facet, answer, one, most).items():
                    near[at] = max(looks, near.get(at, 0))
    return near


def _around(
    state: State, facet: Facet, answer: Answer, crossing: Crossing, most: int
) -> dict[int, int]:
    """The same for one zone; for a wide one, lengths next to where the crossing should be."""
    low, high = crossing.low_tokens, crossing.high_tokens
    assert low is not None
    assert high is not None
    fine = state.fine(facet)
    batch = max(_LEAST, min(_BATCH, int(min(state.room, _BATCH * 2) / 2)))
    inner = [at for at in fine if low <= at <= high]
    if high > low * _COARSE:
        known = [at for at in inner if state.looks(facet, at)]
        fresh = [at for at in inner if at not in known]
        if len(known) >= batch:
            fresh = [at for at in fresh if fine.index(at) % 2 == 0]
        if fresh:
            pair = crossing.before, crossing.after
            at = switch(answer, *pair, low, high)
            at = at or state.forecasts[facet].crossing(*pair, low, high)
            fresh = lengths.around(at, fresh, max(batch, len(known)))
            known.sort(key=lambda one: (-state.looks(facet, one), abs(math.log(one / at))))
            return dict.fromkeys(known[:batch], most) | dict.fromkeys(fresh, 1)
        inner = known
    elif len(inner) > batch:
        inner = inner[::2]
    core = (*inner, low, high, *lengths.neighbours(fine, low, high, 1))
    sides = lengths.neighbours(fine, low, high, _SIDE)
    return dict.fromkeys(sides, 1) | dict.fromkeys(core, most)


def _doubtful(answer: Answer, most: int) -> dict[int, int]:
    """Lengths outside of all zones that are neither won nor equal for certain.

    Those inside of a segment with one winner move nothing that matters: few processes are enough.
    """
    zones = [
        (one.low_tokens or 0, one.high_tokens or 0)
        for one in answer.crossings
        if one.kind == "zone"
    ]
    inside = {at for one in answer.segments for at in one.unsure if len(one.winners) == 1}
    close, clear = unsure(answer, 2 * answer.tie)
    return {
        at: min(most, limits.FIRST_LOOK) if at in inside else most
        for at in (*close, *clear[:_OPEN])
        if not any(low <= at <= high for low, high in zones)
    }


def _open_ends(state: State, facet: Facet, told: Iterable[Answer]) -> set[int]:
    """The shortest and the longest length, where two visits around a crossing have not made them
    certain: what a process moves is then known from a corner of the range, and guessed beyond."""
    if state.visits(facet) < _KNOWS_NOISE:
        return set()
    contexts = state.facets[facet]
    doubted = {at for answer in told for some in unsure(answer, 2 * answer.tie) for at in some}
    ends = [at for at in (contexts[0], contexts[-1]) if at in doubted]
    return _lacking(state, facet, dict.fromkeys(ends, limits.FIRST_LOOK))


def _closest(told: Iterable[Answer]) -> dict[int, int]:
    """Without a crossing: lengths from which three processes say how much they vary.

    All those at which contenders are nearly equal, as a difference may hide at any of them, and
    some with a small lead.
    """
    found: dict[int, int] = {}
    for answer in told:
        close = closest(answer, (1 + answer.tie) ** 2)
        some = closest(answer, _CLEAR)[:_OPEN]
        found |= dict.fromkeys([*close, *some], limits.FIRST_LOOK)
    return found


def _guards(state: State, facet: Facet, near: Iterable[int]) -> Iterable[int]:
    """One length per quarter octave over the rest of the range, where a lobe may hide; one per
    octave of a question that is not asked first, since what Python adds has no lobes.

    A short budget leaves some of them out, evenly.
    """
    contexts, forecast = state.facets[facet], state.forecasts[facet]
    taken = {lengths.quarter_of(at, contexts[0]) for at in near}
    ends = contexts[0], contexts[-1]
    stride = math.ceil(lengths.quarters(*ends) / max(_LEAST, state.room))
    stride = max(stride, 1 if state.is_first(facet) else lengths.QUARTERS)
    for at in lengths.guards(*ends, state.scenario.seed, stride):
        if lengths.quarter_of(at, contexts[0]) in taken or not state.may_look(facet, at, 1):
            continue
        beside = lengths.neighbours(contexts, at, at, 1) or [at]
        if min(forecast.lead(other) for other in beside) < _CLEAR:
            yield at
