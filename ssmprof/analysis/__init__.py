"""Outcomes -> findings: pure functions of a run, with the uncertainty of each number.

`analyze(run)` runs every finder in FINDERS; each is a function of the run's groups that fills one
field of `Analysis`. Nothing here imports torch, and libraries for numbers only where they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ssmprof.analysis import crossover, dominance, energy, health, launch, memory, roofline
from ssmprof.analysis.curves import curves, facets
from ssmprof.analysis.findings import Analysis, CurvePoint, Facet, Share, Trust, Warning
from ssmprof.analysis.stats import estimate
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
        return dominance.shares(sound, self.facet_of)

    @cached_property
    def memory(self) -> list[Any]:
        """Memory by facet and point."""
        return self.each(memory.points)

    @cached_property
    def warnings(self) -> list[Warning]:
        """What a reader must know."""
        return health.warnings(self.run)

    def each(self, find: Callable[[Facet, list[Outcome]], Iterable[Any]]) -> list[Any]:
        """What `find` finds in each facet, in one list."""
        return [one for facet, group in self.groups.items() for one in find(facet, group)]


def _curve_points(facet: Facet, group: list[Outcome]) -> Iterable[CurvePoint]:
    notes: dict[tuple[str, int], dict[str, None]] = {}
    for outcome in group:
        if isinstance(outcome, Measurement):
            key = (outcome.point.block, outcome.point.context)
            notes.setdefault(key, {}).update(dict.fromkeys(note.kind for note in outcome.notes))
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


def _laws(material: Material) -> Iterable[Any]:
    environments = material.run.environments
    for facet, group in material.groups.items():
        yield from memory.laws(memory.points(facet, group), group, environments)


def _roofline(material: Material) -> Iterable[Any]:
    run = material.run
    return material.each(lambda f, g: roofline.points(f, g, run.scenario, run.environments))


# Field of Analysis -> the function that fills it.
FINDERS: dict[str, Callable[[Material], Iterable[Any]]] = {
    "curves": lambda m: m.each(_curve_points),
    "ratios": lambda m: m.each(crossover.ratio_points),
    "crossovers": lambda m: m.each(crossover.find),
    "shares": lambda m: m.shares,
    "dominances": lambda m: dominance.dominances(m.shares),
    "launches": lambda m: launch.launches(list(m.run.measurements()), m.facet_of),
    "roofline": _roofline,
    "memory": lambda m: m.memory,
    "memory_laws": _laws,
    "energy": lambda m: m.each(energy.points),
    "warnings": lambda m: m.warnings,
}


def analyze(run: Run) -> Analysis:
    """Everything found in a run. Pure: the same run gives the same findings."""
    material = Material(run)
    trust: Trust = health.trust(run, material.warnings)
    return Analysis(
        trust=trust, **{field: tuple(find(material)) for field, find in FINDERS.items()}
    )
