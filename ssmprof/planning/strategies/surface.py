"""Times over batch and context from few points: outcomes -> what to measure next.

    first      both ends and the middle of batch and context, all contenders in one process; and
               points drawn by the seed, held out: they predict nothing, and say how far the rest
               can be trusted
    between    a length that its neighbours do not predict within 5 % gets a length on either side;
               a batch that its neighbours do not predict gets a batch on either side
    line       where the faster one of two contenders changes, the gap is halved until the lattice
               of the scenario has no length between

The scenario's lengths and batches are the lattice that points are chosen from. Every step is one
visit, and every contender is measured at every point, so that they stay comparable. A batch whose
sequences do not fit ends at the longest length that does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from ssmprof.analysis.surface.frontier import gaps
from ssmprof.analysis.surface.places import (
    BAR,
    Place,
    batches,
    first,
    first_lengths,
    held_out,
    middle,
)
from ssmprof.analysis.surface.rows import Rows
from ssmprof.planning.strategies.facets import Device, Facet
from ssmprof.planning.strategies.state import State
from ssmprof.planning.strategies.step import Asked, Step, asked_of
from ssmprof.records import Environment, Failure, Job, Measurement, Outcome, Sampling
from ssmprof.scalars import Execution, Phase
from ssmprof.spec import Scenario

SAMPLING = Sampling(pairs=10, target_error=0.004, length_s=0.3)
MOST = 40  # points of one phase, held-out ones aside
Places = dict[Phase, set[Place]]


def next_step(
    scenario: Scenario,
    outcomes: Sequence[Outcome],
    environments: Mapping[str, Environment] | None = None,
    device: Device = "cuda",
) -> Step:
    """What to measure after these outcomes; nothing when the surface is known."""
    state = State(scenario, outcomes, environments or {}, device)
    seen = _seen(state)
    missing = _missing(_first(scenario), seen)
    if not missing:
        between: Places = {}
        for phase in scenario.sweep.phase:
            between[phase] = _between(state, phase, seen)
        missing = _missing(between, seen)
    return Step(_asked(state, missing))


def expected(scenario: Scenario, device: Device = "cuda") -> tuple[Job, ...]:
    """What is measured whatever the surface looks like: the first points and the held-out ones."""
    state = State(scenario, (), {}, device)
    return tuple(job for one in _asked(state, _first(scenario)) for job in one.jobs())


def _way(state: State) -> Execution:
    """A surface is of one way to run: graphs where the device has them."""
    asked = state.scenario.sweep.execution
    return "eager" if state.device == "cpu" else asked[0]


def _first(scenario: Scenario) -> Places:
    """The ends and the middle, and the held-out points: a sweep cut short has both."""
    sweep, found = scenario.sweep, Places()
    for phase in sweep.phase:
        lengths = first_lengths(sweep, phase)
        found[phase] = {(b, at) for b in first(batches(sweep, phase)) for at in lengths}
        found[phase] |= set(held_out(sweep, phase, scenario.seed))
    return found


def _seen(state: State) -> Places:
    """Points at which every contender has an outcome."""
    names = {block.name for block in state.scenario.blocks}
    found: dict[tuple[Phase, Place], set[str]] = {}
    killed = set[tuple[str, Phase, Place]]()
    for one in state.outcomes:
        place = one.point.phase, (one.point.batch, one.point.context)
        mine = (one.point.block, *place)
        if isinstance(one, Failure) and one.transient and mine not in killed:
            killed.add(mine)  # from outside, and tried once more
            continue
        found.setdefault(place, set()).add(one.point.block)
    seen: Places = {}
    for (phase, place), known in found.items():
        if names <= known:
            seen.setdefault(phase, set()).add(place)
    return seen


def _missing(wanted: Places, seen: Places) -> Places:
    missing = Places()
    for phase, places in wanted.items():
        if left := places - seen.get(phase, set()):
            missing[phase] = left
    return missing


def _between(state: State, phase: Phase, seen: Places) -> set[Place]:
    """Points that neighbours, or the line between two contenders, ask for."""
    sweep = state.scenario.sweep
    lengths, held = sweep.contexts, set(held_out(sweep, phase, state.scenario.seed))
    every = _rows(state, phase, held)
    wanted = set[Place]()
    # A held-out point stays what it is: others stand in for it.
    free = {b: [at for at in lengths if (b, at) not in held] for b in batches(sweep, phase)}
    for rows in every.values():
        wanted |= _lengths(free, rows) | _batches(state, rows, phase)
    for one, other in combinations(every.values(), 2):
        for gap in gaps(one, other):
            at = middle(free[gap.batch], gap.low_tokens, gap.high_tokens)
            wanted |= set() if at is None else {(gap.batch, at)}
    known = seen.get(phase, set()) - held
    room = max(0, MOST - len(known))
    return set(sorted(wanted - known - held)[:room])


def _rows(state: State, phase: Phase, held: set[Place]) -> dict[str, Rows]:
    """What was measured of each contender, without what was held out; means of visits."""
    times: dict[str, dict[int, dict[int, list[float]]]] = {}
    for one in state.outcomes:
        point = one.point
        if not isinstance(one, Measurement) or point.phase != phase:
            continue
        if (point.batch, point.context) not in held:
            row = times.setdefault(point.block, {}).setdefault(point.batch, {})
            row.setdefault(point.context, []).append(one.time_s)
    chunk = state.scenario.sweep.chunk if phase == "prefill" else None
    return {
        name: Rows(
            phase,
            {b: {at: sum(t) / len(t) for at, t in row.items()} for b, row in found.items()},
            chunk,
        )
        for name, found in times.items()
    }


def _lengths(free: Mapping[int, Sequence[int]], rows: Rows) -> set[Place]:
    """Lengths beside one that its neighbours miss."""
    found = set[Place]()
    for batch in rows.batches:
        for low, at, high in _triples(rows.contexts(batch)):
            if _misses(rows, [(batch, at)], batch, at):
                beside = (middle(free[batch], low, at), middle(free[batch], at, high))
                found |= {(batch, one) for one in beside if one is not None}
    return found


def _batches(state: State, rows: Rows, phase: Phase) -> set[Place]:
    """Batches beside one that its neighbours miss, at the first lengths."""
    axis = batches(state.scenario.sweep, phase)
    found = set[Place]()
    for low, at, high in _triples(rows.batches):
        gone = [(at, context) for context in rows.contexts(at)]
        if any(_misses(rows, gone, at, context) for _, context in gone):
            beside = {middle(axis, low, at), middle(axis, at, high)} - {None}
            found |= {
                (b, c) for b in beside if b for c in first_lengths(state.scenario.sweep, phase)
            }
    return found


def _triples(values: Sequence[int]) -> list[tuple[int, int, int]]:
    return list(zip(values, values[1:], values[2:], strict=False))


def _misses(rows: Rows, gone: Sequence[Place], batch: int, context: int) -> bool:
    """Whether a point is predicted badly without some; one outside of the rest is not judged."""
    left = rows.without(gone)
    told = None if left is None else left.at(batch, context)
    if told is None or told.held:
        return False
    return abs(told.time_s / rows.times[batch][context] - 1) > BAR


def _asked(state: State, wanted: Places) -> Asked:
    lengths: dict[Facet, list[int]] = {}
    for phase, places in wanted.items():
        for batch, context in sorted(places):
            lengths.setdefault(Facet(phase, batch, _way(state)), []).append(context)
    names = [block.name for block in state.scenario.blocks]
    return asked_of(state, lengths, names, SAMPLING) if lengths else []
