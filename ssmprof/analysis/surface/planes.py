"""The surfaces of a run: decode steps over batch and context, chunks of prompts, their checks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from msgspec.structs import replace

from ssmprof.analysis.compare.conditions import by_conditions
from ssmprof.analysis.compare.curve import contenders
from ssmprof.analysis.findings import Finding
from ssmprof.analysis.surface.frontier import Edge, Missed, frontier, missed
from ssmprof.analysis.surface.places import BAR, held_out
from ssmprof.analysis.surface.rows import Rows
from ssmprof.records import Conditions, Outcome, Run


class Plane(Finding, frozen=True, kw_only=True):
    """Seconds of every contender over batch and context, under otherwise equal conditions.

    `conditions` have no batch. `times` are block -> batch -> context -> seconds, held-out points
    included; `edges` are the lines between each two contenders, `missed` what the others predict
    of the held-out points.
    """

    conditions: Conditions
    times: dict[str, dict[int, dict[int, float]]]
    edges: tuple[Edge, ...] = ()
    missed: tuple[Missed, ...] = ()

    @property
    def batches(self) -> list[int]:
        """Every batch that was measured."""
        return sorted({batch for rows in self.times.values() for batch in rows})

    @property
    def points(self) -> int:
        """Places that were measured, whoever was."""
        return len(
            {(b, at) for rows in self.times.values() for b, row in rows.items() for at in row}
        )

    def line(self, one: str, other: str) -> list[Edge]:
        """The line between two contenders, by batch."""
        return [edge for edge in self.edges if {edge.before, edge.after} == {one, other}]

    def winner(self, batch: int, context: int) -> str | None:
        """Who is fastest at a place; None where it was not measured."""
        here = {
            block: rows[batch][context]
            for block, rows in self.times.items()
            if context in rows.get(batch, {})
        }
        return min(here, key=lambda block: here[block], default=None)

    @property
    def worst(self) -> float | None:
        """The largest error of a prediction; None where nothing was held out."""
        return max((abs(e) for one in self.missed if (e := one.error) is not None), default=None)

    @property
    def within(self) -> int:
        """Held-out points that are predicted within 5 %."""
        return sum(one.error is not None and abs(one.error) <= BAR for one in self.missed)


def predicting(run: Run) -> Run:
    """The run without the points that a surface holds out; any other run as it is."""
    sweep = run.scenario.sweep
    if sweep.strategy != "surface":
        return run
    held = {phase: set(held_out(sweep, phase, run.scenario.seed)) for phase in sweep.phase}
    left = (
        one
        for one in run.outcomes
        if (one.point.batch, one.point.context) not in held.get(one.point.phase, ())
    )
    return replace(run, outcomes=tuple(left))


def planes(run: Run) -> list[Plane]:
    """Planes of a run whose strategy is a surface, decode first; none of any other run."""
    if run.scenario.sweep.strategy != "surface":
        return []
    groups = by_conditions(run.outcomes, run.environments)
    together: dict[Conditions, list[Outcome]] = {}
    for conditions, outcomes in groups.items():
        together.setdefault(replace(conditions, batch=None), []).extend(outcomes)
    found = [_plane(run, conditions, outcomes) for conditions, outcomes in together.items()]
    return sorted(found, key=lambda one: one.conditions.phase != "decode")


def _plane(run: Run, conditions: Conditions, outcomes: Sequence[Outcome]) -> Plane:
    by_batch: dict[int, list[Outcome]] = {}
    for one in outcomes:
        by_batch.setdefault(one.point.batch, []).append(one)
    times: dict[str, dict[int, dict[int, float]]] = {}
    for batch, mine in sorted(by_batch.items()):
        for name, contender in contenders(mine).items():
            if contender.medians:
                times.setdefault(name, {})[batch] = dict(sorted(contender.medians.items()))
    held = held_out(run.scenario.sweep, conditions.phase, run.scenario.seed)
    rows = {name: Rows(conditions.phase, found, conditions.chunk) for name, found in times.items()}
    known = {name: left for name, one in rows.items() if (left := one.without(held)) is not None}
    return Plane(
        conditions=conditions,
        times=times,
        edges=tuple(
            edge for a, b in combinations(known, 2) for edge in frontier((a, b), known[a], known[b])
        ),
        missed=tuple(miss for name, one in rows.items() for miss in missed(name, one, held)),
    )
