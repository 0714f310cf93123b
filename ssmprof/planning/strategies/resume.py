"""What an ended session left behind: the rest of its last step, and what was killed from outside.

A step is a function of the outcomes before it, and the journal is in the order of time: so the step
in progress is found again by asking for it once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ssmprof.planning.expand import expand
from ssmprof.planning.strategies.decide import PILOT, STEADY, TURNS, next_step
from ssmprof.planning.strategies.facets import Device, facet_of, once, visit
from ssmprof.records import Environment, Failure, Job, Measurement, Outcome, Visit
from ssmprof.scalars import digest
from ssmprof.spec import Scenario


def unfinished(
    scenario: Scenario,
    outcomes: Sequence[Outcome],
    environments: Mapping[str, Environment] | None = None,
    device: Device = "cuda",
) -> list[Job | Visit]:
    """What a session begins with; nothing where none came before, or the last ended whole."""
    if not outcomes:
        return []
    done = {one.key for one in outcomes if not (isinstance(one, Failure) and one.transient)}
    rest = _rest(scenario, outcomes, environments or {}, device, done)
    asked = {job.key for one in rest for job in one.jobs()}
    again = [
        one
        for one in _repairs(scenario, outcomes, device)
        if not asked & {job.key for job in one.jobs()}
    ]
    return [*rest, *again]


def _rest(
    scenario: Scenario,
    outcomes: Sequence[Outcome],
    environments: Mapping[str, Environment],
    device: Device,
    done: set[str],
) -> list[Job | Visit]:
    """What is missing of the last step, where the journal ends in it."""
    last = outcomes[-1].round
    if last != max(one.round for one in outcomes):
        return []
    first = next(index for index, one in enumerate(outcomes) if one.round == last)
    step = next_step(scenario, outcomes[:first], environments, device).asked
    keys = {job.key for one in step for job in one.jobs()}
    if not {one.key for one in outcomes[first:]} <= keys:
        return []  # not of a step: jobs of a grid, or a step of another version
    left = (one.remaining(done) for one in step)
    return [one for one in left if one is not None]


def _repairs(
    scenario: Scenario, outcomes: Sequence[Outcome], device: Device
) -> Iterable[Job | Visit]:
    """Points whose process was killed from outside: grid jobs alone, lengths of a visit whole."""
    killed = [one for one in outcomes if isinstance(one, Failure) and one.transient]
    if not killed:
        return
    grid = {job.key: job for job in expand(scenario, device=device)}
    grid |= {job.key: job for job in expand(once(scenario), device=device)}
    in_turn = {
        one.round for one in outcomes if isinstance(one, Measurement) and one.beside is not None
    }
    steady = {
        one.round for one in outcomes if isinstance(one, Measurement) and one.mode == "sustained"
    }
    first = min(in_turn, default=0)
    seen: set[tuple[object, ...]] = set()
    for one in killed:
        place = (one.round, facet_of(one.point), one.point.context)
        if one.round not in in_turn:
            if one.key in grid:
                yield grid[one.key]
            continue
        if place in seen:
            continue
        seen.add(place)
        names = {
            other.point.block
            for other in outcomes
            if (other.round, facet_of(other.point), other.point.context) == place
        }
        known = [block for block in scenario.blocks if block.name in names]
        if len(known) > 1 and any(digest(b) == one.point.block_digest for b in known):
            if one.round in steady:
                sampling = STEADY
            else:
                sampling = PILOT if one.round == first else TURNS[device]
            yield visit(scenario, {place[1]: [place[2]]}, names, one.round, sampling)
