"""What to measure, and what next: the grid of a scenario, or what it takes to decide.

A strategy is two pure functions of a scenario and its outcomes, so that a sweep that was ended goes
on where it stopped: `begin` says what a session starts with, `go_on` what follows. Both give jobs
and visits; nothing left to measure ends the sweep.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from ssmprof.planning.strategies import grid, resume
from ssmprof.planning.strategies.decide import next_step
from ssmprof.planning.strategies.facets import Device
from ssmprof.records import Environment, Job, Outcome, Visit
from ssmprof.spec import Scenario, Strategy

__all__ = ["STRATEGIES", "Plan", "Planner"]


class Planner(Protocol):
    """(scenario, outcomes, environments, device) -> what to measure."""

    def __call__(
        self,
        scenario: Scenario,
        outcomes: Sequence[Outcome],
        environments: Mapping[str, Environment],
        device: Device,
    ) -> Iterable[Job | Visit]: ...


class Plan(NamedTuple):
    """A strategy."""

    begin: Planner
    go_on: Planner


STRATEGIES: dict[Strategy, Plan] = {
    "grid": Plan(grid.begin, grid.go_on),
    "decide": Plan(resume.unfinished, next_step),
}
