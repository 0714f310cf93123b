"""Every combination of the axes in every round; then bisection where a scenario asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ssmprof.planning.expand import expand
from ssmprof.planning.refine import refine
from ssmprof.planning.strategies.facets import Device
from ssmprof.planning.strategies.step import Step
from ssmprof.records import Environment, Job, Outcome
from ssmprof.spec import Scenario


def expected(scenario: Scenario, device: Device) -> tuple[Job, ...]:
    """All jobs, measured or not."""
    return expand(scenario, device=device)


def begin(
    scenario: Scenario,
    outcomes: Sequence[Outcome],
    environments: Mapping[str, Environment],
    device: Device,
) -> tuple[Job, ...]:
    """All jobs: what was measured is not measured again."""
    return expected(scenario, device)


def go_on(
    scenario: Scenario,
    outcomes: Sequence[Outcome],
    environments: Mapping[str, Environment],
    device: Device,
) -> Step:
    """Jobs for the next step of bisection."""
    return Step([*refine(scenario, outcomes, environments)])
