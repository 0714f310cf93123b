"""The questions of a scenario (phase, batch and execution), and visits that look at several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from msgspec.structs import replace

from ssmprof.planning.expand import HEAT, executions, point_of
from ssmprof.records import Conditions, Job, Outcome, Point, Sampling, Visit
from ssmprof.scalars import Execution, Phase
from ssmprof.spec import Passes, Scenario, Subject

Device = Literal["cuda", "cpu"]
LATENCY_ONLY = Passes(parts=False, memory="off", energy=False, host=False, cupti=False)


class Facet(NamedTuple):
    """Under what contenders are compared along the context."""

    phase: Phase
    batch: int
    execution: Execution


Wanted = Mapping[Facet, Sequence[int]]  # lengths to be measured


def facets(scenario: Scenario, device: Device) -> dict[Facet, tuple[int, ...]]:
    """Every question with the scenario's lengths that it is asked at, in the scenario's order."""
    sweep = scenario.sweep
    found: dict[Facet, list[int]] = {}
    for execution in sweep.execution if device == "cuda" else ("eager",):
        for phase in sweep.phase:
            for batch in sweep.batch:
                mine = [
                    context
                    for context in sweep.contexts
                    if execution in executions(scenario, context, device)
                ]
                if mine:
                    found[Facet(phase, batch, execution)] = mine
    return {facet: tuple(lengths) for facet, lengths in found.items()}


def facet_of(one: Point | Conditions) -> Facet:
    """The question that a point or an answer belongs to."""
    assert one.batch is not None, "the batch is no swept axis here"
    return Facet(one.phase, one.batch, one.execution)


def by_facet(outcomes: Iterable[Outcome]) -> dict[Facet, list[Outcome]]:
    """Outcomes by question."""
    found: dict[Facet, list[Outcome]] = {}
    for one in outcomes:
        found.setdefault(facet_of(one.point), []).append(one)
    return found


def visit(
    scenario: Scenario,
    wanted: Wanted,
    names: Iterable[str],
    turn: int,
    sampling: Sampling,
) -> Visit:
    """One process for the lengths of all questions, ascending: long ones may be deadly.

    Steps come before prompts, after which a card is at its power limit for a while: a step took 3
    to 7 % longer there. Whoever is built and called first in a young process may be a little
    slower, so every second visit turns the order.
    """
    chosen = set(names)
    known = tuple(block for block in scenario.blocks if block.name in chosen)
    subjects = known if turn % 2 else known[::-1]
    order = {facet: place for place, facet in enumerate(wanted)}
    places = [(facet, context) for facet, found in wanted.items() for context in found]
    places.sort(key=lambda place: (HEAT[place[0].phase], place[1], order[place[0]]))
    return Visit(
        subjects=subjects,
        points=tuple(
            tuple(_point(scenario, subject, facet, context) for subject in subjects)
            for facet, context in places
        ),
        round=turn,
        budget=scenario.budget,
        sampling=sampling,
    )


def apart(scenario: Scenario, wanted: Wanted, names: Iterable[str], turn: int) -> list[Job]:
    """The same for contenders that do not fit beside each other: each in a process of its own."""
    chosen = set(names)
    subjects = [block for block in scenario.blocks if block.name in chosen]
    return [
        Job(
            point=_point(scenario, subject, facet, context),
            subject=subject,
            round=turn,
            budget=scenario.budget,
            passes=LATENCY_ONLY,
        )
        for subject in (subjects if turn % 2 else reversed(subjects))
        for facet, lengths in sorted(wanted.items(), key=lambda one: HEAT[one[0].phase])
        for context in lengths
    ]


def once(scenario: Scenario) -> Scenario:
    """The scenario with its grid measured in one round."""
    return replace(scenario, budget=replace(scenario.budget, rounds=1))


def _point(scenario: Scenario, subject: Subject, facet: Facet, context: int) -> Point:
    return point_of(scenario, subject, *facet, context)
