"""Measure until it is decided who wins where: outcomes -> what to measure next.

    pilot      the scenario's lengths (ten at most), all contenders in one process
    narrow     visits, each in a fresh process: lengths around every crossing on a fine grid, until
               its ends hold; guards over the rest of the range; whatever is not certain, again
    sustained  the ends and the middle of every zone under sustained load, where clocks move (a GPU)
    grid       the scenario's lengths once more, each in its contender's own process: parts, memory,
               energy, as the scenario's passes ask; before the rest where time runs short

Everything follows from the outcomes, so that a sweep that was ended goes on where it stopped. A
step is one round: a visit, and jobs for contenders that do not fit beside each other. Its number is
higher than that of every outcome before it, except for the grid, whose round is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from ssmprof import limits
from ssmprof.analysis.compare.answer import Answer, Crossing
from ssmprof.analysis.compare.forecast import is_settled
from ssmprof.planning.expand import expand
from ssmprof.planning.strategies import facets, lengths
from ssmprof.planning.strategies.facets import Device, Facet, facet_of
from ssmprof.planning.strategies.narrow import SIDE_BY_SIDE, open_lengths
from ssmprof.planning.strategies.state import State
from ssmprof.planning.strategies.step import Asked, Step, asked_of
from ssmprof.records import Environment, Job, Measurement, Outcome, Point, Sampling
from ssmprof.spec import Scenario

PILOT = Sampling(pairs=10, target_error=0.004, length_s=0.5)
TURNS: dict[Device, Sampling] = {
    "cuda": Sampling(pairs=40, target_error=0.0015, length_s=0.5),
    # Calls scatter by several per cent.
    "cpu": Sampling(pairs=160, target_error=0.0015, length_s=1.0),
}
STEADY = Sampling(mode="sustained", windows=3)

_MOST_VISITS = 10  # of one question; a zone that is still open then is told as open
_ASIDE_VISITS = 4  # of a question that is not asked first: what Python's own time blurs


def next_step(
    scenario: Scenario,
    outcomes: Sequence[Outcome],
    environments: Mapping[str, Environment] | None = None,
    device: Device = "cuda",
) -> Step:
    """What to measure after these outcomes; nothing when the sweep is done."""
    state = State(scenario, outcomes, environments or {}, device)
    if len(scenario.blocks) < 2:
        return Step([*_grid(state)])
    if pilot := _pilot(state):
        return Step(pilot)
    asked: Asked = [*_grid(state)] if state.is_late else []
    asked = asked or _narrow(state) or _sustained(state) or [*_grid(state)]
    return Step(asked, tuple(_so_far(state)))


def _so_far(state: State) -> Iterable[Answer]:
    """What was found where that is settled, else what it looks like."""
    for told, plan in zip(state.answers, state.plans, strict=True):
        yield told if is_settled(told, SIDE_BY_SIDE) else plan


def pilot_left(
    scenario: Scenario, outcomes: Sequence[Outcome], device: Device = "cuda"
) -> tuple[int, int]:
    """How many lengths of the pilot are missing, and of how many."""
    every = (State(scenario, found, {}, device) for found in (outcomes, ()))
    left, whole = (sum(map(len, _pilot_lengths(state).values())) for state in every)
    return left, whole


def expected(scenario: Scenario, device: Device = "cuda") -> tuple[Job, ...]:
    """What is measured whatever the answer is: the pilot and the grid."""
    state = State(scenario, (), {}, device)
    pilot = _pilot(state) if len(scenario.blocks) > 1 else []
    first = [job for one in pilot for job in one.jobs()]
    return (*first, *_grid(state, [job.point for job in first]))


def _pilot_lengths(state: State) -> dict[Facet, tuple[int, ...]]:
    """The pilot's lengths that lack an outcome of some contender."""
    known = {(facet_of(one.point), one.point.context, one.point.block) for one in state.outcomes}
    names = [block.name for block in state.scenario.blocks]
    found = {
        facet: tuple(
            at
            for at in lengths.pilot(contexts)
            if any((facet, at, name) not in known for name in names)
        )
        for facet, contexts in state.facets.items()
    }
    return {facet: missing for facet, missing in found.items() if missing}


def _pilot(state: State) -> Asked:
    wanted = _pilot_lengths(state)
    names = [block.name for block in state.scenario.blocks]
    return asked_of(state, wanted, names, PILOT) if wanted else []


def _narrow(state: State) -> Asked:
    wanted: dict[Facet, list[int]] = {}
    names: set[str] = set()
    for facet in state.facets:
        most = _MOST_VISITS if state.is_first(facet) else _ASIDE_VISITS
        if facet not in state.forecasts or state.visits(facet) >= most:
            continue
        for at in sorted(open_lengths(state, facet)):
            needed = state.needed(facet, at)
            if len(needed) > 1:
                wanted.setdefault(facet, []).append(at)
                names |= needed
    return asked_of(state, wanted, names, TURNS[state.device]) if wanted else []


def _sustained(state: State) -> Asked:
    """The zones of what is asked first (graphs, as a rule), once."""
    if state.device == "cpu":
        return []
    wanted: dict[Facet, list[int]] = {}
    names: set[str] = set()
    cold = max(
        (
            one.round
            for one in state.outcomes
            if isinstance(one, Measurement) and one.mode == "cold"
        ),
        default=0,
    )  # fmt: skip
    seen = {
        (facet_of(one.point), one.point.context)
        for one in state.outcomes
        if one.round in state.steady_rounds or one.round > cold
    }
    for facet in state.facets:
        for answer in state.answered(facet) if state.is_first(facet) else ():
            for one in answer.crossings:
                looked = _ends_and_middle(answer, one)
                if looked and not any((facet, at) in seen for at in looked):
                    wanted.setdefault(facet, []).extend(looked)
                    names |= {one.before, one.after}
    wanted = {facet: sorted(set(found)) for facet, found in wanted.items()}
    return asked_of(state, wanted, names, STEADY) if wanted else []


def _ends_and_middle(answer: Answer, crossing: Crossing) -> list[int]:
    """Ends of a zone, and its middle unless that is as near to both as to one number."""
    low, high = crossing.low_tokens, crossing.high_tokens
    if crossing.kind != "zone" or low is None or high is None:
        return []
    pair = answer.pair(crossing.before, crossing.after)
    inside = [one.context for one in pair.points if low < one.context < high] if pair else []
    wide = high > low * limits.ONE_NUMBER
    return [low, *lengths.around((low * high) ** 0.5, inside, 1 if wide else 0), high]


def _grid(state: State, seen: Iterable[Point] = ()) -> list[Job]:
    """The scenario's lengths in round 0 that have no outcome yet, those `seen` beside.

    Memory is arithmetic that a process of its own checks at the longest length; the other peaks are
    taken where the block is timed. Only what is asked first (graphs, as a rule) is
    taken apart and weighed: of the rest a time is enough, and visits may have it already.
    """
    known = {one.key for one in state.outcomes}
    timed = {one.point.key for one in state.outcomes} | {point.key for point in seen}
    longest = max(state.scenario.sweep.contexts)
    found: list[Job] = []
    for job in expand(facets.once(state.scenario), device=state.device):
        looks_beside = job.passes.parts or job.passes.memory != "off" or job.passes.host
        if job.key in known or (
            job.point.key in timed and not looks_beside and not state.is_first(facet_of(job.point))
        ):
            continue
        inside = job.passes.memory == "fresh" and job.point.context != longest
        found.append(_weighed_inside(job) if inside else job)
    return found


def _weighed_inside(job: Job) -> Job:
    return replace(job, passes=replace(job.passes, memory="block"))
