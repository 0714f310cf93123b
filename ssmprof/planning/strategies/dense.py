"""Every length that could matter, three times: the reference that `decide` is held against.

    coarse   one visit over the range, eight lengths per octave
    dense    three visits, each in a fresh process, of every length half an octave either side of
             each change of winner: every 64 tokens or 1 %, whichever is more

Nothing is predicted and no length is skipped because its neighbours agree. It takes minutes where
`decide` takes seconds, and no parts, memory or energy are measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from ssmprof import limits
from ssmprof.planning.strategies import facets
from ssmprof.planning.strategies.decide import TURNS
from ssmprof.planning.strategies.facets import Device, Facet
from ssmprof.planning.strategies.state import State
from ssmprof.planning.strategies.step import Step, asked_of
from ssmprof.records import Environment, Job, Measurement, Outcome
from ssmprof.spec import Scenario

_PER_OCTAVE = 8
_TILE = 64  # matrix products change with it
_STEP = 1.01
_SIDE = 2**0.5  # half an octave


def next_step(
    scenario: Scenario,
    outcomes: Sequence[Outcome],
    environments: Mapping[str, Environment],
    device: Device,
) -> Step:
    """What to measure after these outcomes; nothing when every length has its three visits."""
    state = State(scenario, outcomes, environments, device)
    wanted = {
        facet: [at for at in coarse(*_ends(found)) if state.may_look(facet, at, 1)]
        for facet, found in state.facets.items()
    }
    if not any(wanted.values()):
        wanted = {
            facet: [
                at for at in _around(state, facet) if state.may_look(facet, at, limits.FIRST_LOOK)
            ]
            for facet in state.facets
        }
    wanted = {facet: found for facet, found in wanted.items() if found}
    if not wanted:
        return Step([], tuple(state.answers))
    names = [block.name for block in scenario.blocks]
    return Step(asked_of(state, wanted, names, TURNS[device]), tuple(state.answers))


def expected(scenario: Scenario, device: Device) -> tuple[Job, ...]:
    """What is measured whatever the answer is: the first look."""
    first = next_step(scenario, (), {}, device).asked
    return tuple(job for one in first for job in one.jobs())


def coarse(low: int, high: int) -> tuple[int, ...]:
    """Lengths of the first look, the ends included, on tiles where they are long enough."""
    found, step, at = {low, high}, 2 ** (1 / _PER_OCTAVE), float(low)
    while at < high:
        tiled = round(at / _TILE) * _TILE
        found.add(tiled if low <= tiled <= high else round(at))
        at *= step
    return tuple(sorted(found))


def fine(low: int, high: int) -> tuple[int, ...]:
    """Every 64 tokens, or every 1 % on tiles where that is more, from `low` to `high`."""
    found: list[int] = []
    at = -(-low // _TILE) * _TILE
    while at <= high:
        found.append(at)
        at = max(at + _TILE, round(at * _STEP / _TILE) * _TILE)
    return tuple(found)


def _ends(contexts: Sequence[int]) -> tuple[int, int]:
    return contexts[0], contexts[-1]


def _around(state: State, facet: Facet) -> list[int]:
    low, high = _ends(state.facets[facet])
    found: set[int] = set()
    for one, other in _changes(state, facet):
        found |= set(fine(max(low, int(one / _SIDE)), min(high, int(other * _SIDE))))
    return sorted(found)


def _changes(state: State, facet: Facet) -> Iterator[tuple[int, int]]:
    """Neighbouring lengths of the first look with different winners."""
    first: dict[int, dict[str, float]] = {}
    wanted = set(coarse(*_ends(state.facets[facet])))
    for one in state.outcomes:
        at = one.point.context
        if isinstance(one, Measurement) and facets.facet_of(one.point) == facet and at in wanted:
            first.setdefault(at, {}).setdefault(one.point.block, one.time_s)
    winners = {at: min(times, key=times.__getitem__) for at, times in first.items() if times}
    for one, other in pairwise(sorted(winners)):
        if winners[one] != winners[other]:
            yield one, other
