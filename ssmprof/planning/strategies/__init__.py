"""What to measure, and what next: a grid, what it takes to decide, every length, a surface.

A strategy is pure functions of a scenario and its outcomes, so that a sweep that was ended goes on
where it stopped: `begin` says what a session starts with, `go_on` what follows. Both give jobs and
visits; nothing left to measure ends the sweep. `expected` are the jobs that are measured whatever
the outcomes are, one per point and process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ssmprof.planning.strategies import decide, dense, grid, resume, surface
from ssmprof.planning.strategies.facets import Device
from ssmprof.planning.strategies.step import Step
from ssmprof.records import Environment, Job, Outcome, Visit
from ssmprof.scalars import Strategy
from ssmprof.spec import Scenario

__all__ = ["STRATEGIES", "Plan", "Step", "expected"]

Where = Mapping[str, Environment]


class Plan(NamedTuple):
    """A strategy: functions of scenario, outcomes, environments and kind of device."""

    begin: Callable[[Scenario, Sequence[Outcome], Where, Device], Sequence[Job | Visit]]
    go_on: Callable[[Scenario, Sequence[Outcome], Where, Device], Step]
    expected: Callable[[Scenario, Device], tuple[Job, ...]]


def _nothing(*_: object) -> list[Job | Visit]:
    """What an ended session left behind is asked for again by the next step."""
    return []


STRATEGIES: dict[Strategy, Plan] = {
    "grid": Plan(grid.begin, grid.go_on, grid.expected),
    "decide": Plan(resume.unfinished, decide.next_step, decide.expected),
    "dense": Plan(_nothing, dense.next_step, dense.expected),
    "surface": Plan(_nothing, surface.next_step, surface.expected),
}


def expected(scenario: Scenario, device: Device = "cuda") -> tuple[Job, ...]:
    """What a scenario measures at least, one job per point and process."""
    return STRATEGIES[scenario.sweep.strategy].expected(scenario, device)
