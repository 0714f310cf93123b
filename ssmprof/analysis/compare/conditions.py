"""Outcomes by the conditions within which they may be compared, in the order of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from ssmprof.records import Conditions, Environment, Outcome, Run

Groups = dict[Conditions, list[Outcome]]


def by_conditions(
    outcomes: Iterable[Outcome], environments: Mapping[str, Environment] | None = None
) -> Groups:
    """Outcomes of equal conditions: GPUs before CPUs, prefill before decode, graphs before eager.

    Of what is otherwise alike the conditions with more lengths come first.
    """
    machines = environments or {}
    found: Groups = {}
    for outcome in outcomes:
        machine = machines.get(outcome.environment)
        conditions = outcome.point.conditions(machine.device if machine else "")
        found.setdefault(conditions, []).append(outcome)
    kinds = {machine.device: machine.kind for machine in machines.values()}
    reach = {one: len({o.point.context for o in group}) for one, group in found.items()}

    def order(item: tuple[Conditions, list[Outcome]]) -> tuple[object, ...]:
        one = item[0]
        return kinds.get(one.device) == "cpu", one.order()[:5], -reach[one], one.order()[5:]

    return dict(sorted(found.items(), key=order))


def device_of(run: Run, outcome: Outcome) -> str:
    """The name of the device an outcome belongs to; empty where its environment is lost."""
    machine = run.environments.get(outcome.environment)
    return machine.device if machine else ""


def of_device(run: Run, device: str) -> Run:
    """What a run holds of the device of this name."""
    machines = {name: one for name, one in run.environments.items() if one.device == device}
    return replace(
        run,
        environments=machines,
        outcomes=tuple(one for one in run.outcomes if one.environment in machines),
        decisions=tuple(one for one in run.decisions if one.environment in machines),
    )
