"""Outcomes -> findings: pure functions of a run, with the uncertainty of each number.

`analyze(run)` runs every finder in FINDERS; each is a function of the run's groups that fills one
field of `Analysis`. Nothing here imports torch, and libraries for numbers only where they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ssmprof.analysis import (
    advise,
    claims,
    clocks,
    crossover,
    dominance,
    energy,
    health,
    launch,
    memory,
    roofline,
)
from ssmprof.analysis.curves import curves, facets
from ssmprof.analysis.findings import Analysis, ClockCheck, CurvePoint, Facet, Share, Trust, Warning
from ssmprof.analysis.stats import estimate
from ssmprof.analysis.tags import tags
from ssmprof.records import Measurement, Outcome, Run, median

__all__ = ["FINDERS", "Analysis", "analyze"]


@dataclass(frozen=True)
class Material:
    """A run and what several finders need of it."""

    run: Run

    @cached_property
    def groups(self) -> dict[Facet, list[Outcome]]:
        """Outcomes by the conditions within which they may be compared."""
        return facets(self.run.outcomes, self.run.environments)

    @cached_property
    def facet_of(self) -> dict[str, Facet]:
        """Point key -> facet."""
        return {one.point.key: facet for facet, group in self.groups.items() for one in group}

    @cached_property
    def shares(self) -> list[Share]:
        """Shares of every family at every point whose parts add up."""
        sound = [
            one
            for one in self.run.measurements()
            if one.attribution is None or one.attribution.closure <= health.CLOSURE_WITHHOLDS
        ]
        found = dominance.shares(sound, self.facet_of)
        # Published tables hold device time and no wall time to divide it by.
        return found if self._walls else [share for share in found if share.of == "device"]

    @property
    def _walls(self) -> bool:
        return self.run.origin == "measured"

    @cached_property
    def curves(self) -> list[Any]:
        """Every metric of every contender at every context."""
        return self.each(_curve_points)

    @cached_property
    def crossovers(self) -> list[Any]:
        """Of every pair, in every metric."""
        return clocks.tagged(self._in_seconds, self.clocks)

    @cached_property
    def _in_seconds(self) -> list[Any]:
        return self.each(crossover.find)

    @cached_property
    def clocks(self) -> list[ClockCheck]:
        """Seconds against cycles, for every pair."""
        found = self._in_seconds
        return self.each(lambda f, g: clocks.check(f, g, [one for one in found if one.facet == f]))

    @cached_property
    def ratios(self) -> list[Any]:
        """Of every pair at every common context, in every metric."""
        return clocks.tagged(self.each(crossover.ratio_points), self.clocks)

    @cached_property
    def launches(self) -> list[Any]:
        """Launch-bound or not, per point."""
        measured = list(self.run.measurements()) if self._walls else []
        return launch.launches(measured, self.facet_of)

    @cached_property
    def roofline(self) -> list[Any]:
        """Calls and ops against their ceilings."""
        run = self.run
        return self.each(lambda f, g: roofline.points(f, g, run.scenario, run.environments))

    @cached_property
    def memory(self) -> list[Any]:
        """Memory by facet and point."""
        return self.each(memory.points)

    @cached_property
    def memory_laws(self) -> list[Any]:
        """The law behind the peaks of every block."""
        environments = self.run.environments
        return self.each(lambda f, g: memory.laws(memory.points(f, g), g, environments))

    @cached_property
    def warnings(self) -> list[Warning]:
        """What a reader must know."""
        return health.warnings(self.run, self.clocks)

    def each(self, find: Callable[[Facet, list[Outcome]], Iterable[Any]]) -> list[Any]:
        """What `find` finds in each facet, in one list."""
        return [one for facet, group in self.groups.items() for one in find(facet, group)]


def _curve_points(facet: Facet, group: list[Outcome]) -> Iterable[CurvePoint]:
    notes: dict[tuple[str, int], dict[str, None]] = {}
    for outcome in group:
        if isinstance(outcome, Measurement):
            key = (outcome.point.block, outcome.point.context)
            notes.setdefault(key, {}).update(dict.fromkeys(tags(outcome)))
    for metric in crossover.METRICS:
        for block, curve in curves(group, metric).items():
            for context, rounds in curve.items():
                yield CurvePoint(
                    facet=facet,
                    metric=metric,
                    block=block,
                    context=context,
                    estimate=estimate([median(values) for values in rounds.values()]),
                    samples=sum(len(values) for values in rounds.values()),
                    notes=tuple(notes[block, context]),
                )


def _claims(material: Material) -> Iterable[Any]:
    evidence = claims.Evidence(
        run=material.run,
        curves=material.curves,
        crossovers=material.crossovers,
        shares=material.shares,
        launches=material.launches,
        memory=material.memory,
    )
    return claims.check(evidence)


def _advice(material: Material) -> Iterable[Any]:
    return advise.advise(
        material.launches, material.roofline, material.crossovers, material.memory_laws
    )


# Field of Analysis -> the function that fills it.
FINDERS: dict[str, Callable[[Material], Iterable[Any]]] = {
    "curves": lambda m: m.curves,
    "ratios": lambda m: m.ratios,
    "crossovers": lambda m: m.crossovers,
    "clocks": lambda m: m.clocks,
    "shares": lambda m: m.shares,
    "dominances": lambda m: dominance.dominances(m.shares),
    "launches": lambda m: m.launches,
    "roofline": lambda m: m.roofline,
    "memory": lambda m: m.memory,
    "memory_laws": lambda m: m.memory_laws,
    "energy": lambda m: m.each(energy.points),
    "claims": _claims,
    "advice": _advice,
    "warnings": lambda m: m.warnings,
}


def analyze(run: Run) -> Analysis:
    """Everything found in a run. Pure: the same run gives the same findings."""
    material = Material(run)
    trust: Trust = health.trust(run, material.warnings)
    return Analysis(
        trust=trust, **{field: tuple(find(material)) for field, find in FINDERS.items()}
    )
