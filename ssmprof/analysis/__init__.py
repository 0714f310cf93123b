"""Outcomes -> findings: pure functions of a run, with the uncertainty of each number.

    compare/   who wins where, and how sure
    explain/   why: shares, launches, ceilings, memory, energy
    decide/    what follows: choices, projections, differences, claims, advice, trust
    surface/   times over batch and context: what lies between, and the line between two

`analyze(run)` finds everything once; pages, tables and commands read it and compare nothing. No
part imports torch, and libraries for numbers only where they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from msgspec.structs import replace

from ssmprof import limits
from ssmprof.analysis.compare.answer import Answer, Limit
from ssmprof.analysis.compare.build import answers
from ssmprof.analysis.compare.conditions import Groups, by_conditions
from ssmprof.analysis.compare.curve import METRICS
from ssmprof.analysis.decide import advise, claims, trust
from ssmprof.analysis.explain import dominance, energy, launch, memory, roofline
from ssmprof.analysis.findings import (
    Advice,
    ClaimCheck,
    Denominator,
    Dominance,
    EnergyPoint,
    Finding,
    Grade,
    Launch,
    MemoryLaw,
    MemoryPoint,
    Metric,
    RooflinePoint,
    Share,
)
from ssmprof.analysis.surface.planes import Plane, planes, predicting
from ssmprof.records import Conditions, Outcome, Point, Run, collector_at_rest

__all__ = ["Analysis", "analyze"]


class Analysis(Finding, frozen=True, kw_only=True, gc=True, dict=True):
    """Everything found in a run. `answers` come in the order of a page, latency first."""

    answers: tuple[Answer, ...] = ()
    shares: tuple[Share, ...] = ()
    launches: tuple[Launch, ...] = ()
    roofline: tuple[RooflinePoint, ...] = ()
    memory: tuple[MemoryPoint, ...] = ()
    memory_laws: tuple[MemoryLaw, ...] = ()
    energy: tuple[EnergyPoint, ...] = ()
    claims: tuple[ClaimCheck, ...] = ()
    advice: tuple[Advice, ...] = ()
    planes: tuple[Plane, ...] = ()

    @cached_property
    def conditions(self) -> list[Conditions]:
        """Every set of conditions of the run, in the order of a page."""
        return list(dict.fromkeys(one.conditions for one in self.answers))

    def answer(self, conditions: Conditions, metric: str = "latency") -> Answer | None:
        """The answer for one metric under one set of conditions."""
        return self._answers.get((conditions, metric))

    @cached_property
    def _answers(self) -> dict[tuple[Conditions, str], Answer]:
        return {(one.conditions, one.metric): one for one in self.answers}

    @cached_property
    def latencies(self) -> list[Answer]:
        """The answers for latency, the one of the heading first."""
        return [one for one in self.answers if one.metric == "latency"]

    @property
    def grade(self) -> Grade:
        """The worst grade of any answer: what a gate looks at."""
        found: list[Grade] = [one.grade for one in self.answers]
        return max(found) if found else "D"

    @property
    def withheld(self) -> Limit | None:
        """Why the heading gives no verdict; None where it gives one."""
        return self.latencies[0].withheld if self.latencies else None


@dataclass(frozen=True)
class Material:
    """A run and what several finders need of it; answers in these metrics, shares of these.

    `whole` is the run with the points that a surface holds out: they stand in its planes alone.
    """

    run: Run
    metrics: Sequence[Metric] = METRICS
    shares_of: Sequence[Denominator] = dominance.DENOMINATORS
    whole: Run | None = None

    @cached_property
    def groups(self) -> Groups:
        """Outcomes by the conditions within which they may be compared."""
        return by_conditions(self.run.outcomes, self.run.environments)

    @cached_property
    def conditions_of(self) -> dict[Point, Conditions]:
        """Point -> conditions."""
        return {one.point: found for found, group in self.groups.items() for one in group}

    @cached_property
    def answers(self) -> list[Answer]:
        """Who wins where, with the dominance and the trust of each answer."""
        found = answers(
            self.groups,
            self.run.environments,
            self.run.scenario.budget.tie,
            least_context=self.run.comparable_from,
            metrics=self.metrics,
        )
        owned: dict[Conditions, list[Dominance]] = {}
        for each in dominance.dominances(self.measured_shares):
            owned.setdefault(each.conditions, []).append(each)
        evidence = {c: trust.Evidence(self.run, c, group) for c, group in self.groups.items()}
        told: list[Answer] = []
        for one in found:
            grade, facts = trust.limits_of(evidence[one.conditions], one.pairs)
            mine = tuple(owned.get(one.conditions, ()))
            told.append(replace(one, grade=grade, limits=facts, dominance=mine))
        return told

    @cached_property
    def measured_shares(self) -> list[dominance.Shares]:
        """Shares of every family and process at every point whose parts add up."""
        sound = [
            one
            for one in self.run.measurements()
            if one.attribution is None or one.attribution.closure <= limits.CLOSURE_WITHHOLDS
        ]
        found = dominance.measured(sound, self.conditions_of, self.shares_of)
        # Published tables hold device time and no wall time to divide it by.
        return found if self._walls else [one for one in found if one.of == "device"]

    @cached_property
    def shares(self) -> list[Share]:
        """The mean share of every family at every point."""
        return dominance.shares(self.measured_shares)

    @property
    def _walls(self) -> bool:
        return self.run.origin == "measured"

    @cached_property
    def launches(self) -> list[Launch]:
        """Launch-bound or not, per point."""
        measured = list(self.run.measurements()) if self._walls else []
        return launch.launches(measured, self.conditions_of)

    @cached_property
    def roofline(self) -> list[RooflinePoint]:
        """Calls and ops against their ceilings."""
        run = self.run
        works: roofline.Works = {}
        return self.each(lambda c, g: roofline.points(c, g, run.scenario, run.environments, works))

    @cached_property
    def memory(self) -> list[MemoryPoint]:
        """Memory by conditions and point."""
        return self.each(memory.points)

    @cached_property
    def memory_laws(self) -> list[MemoryLaw]:
        """The law behind the peaks of every block."""
        environments = self.run.environments
        return self.each(lambda c, g: memory.laws(memory.points(c, g), g, environments))

    def each(self, find: Callable[[Conditions, list[Outcome]], Iterable[Any]]) -> list[Any]:
        """What `find` finds under each set of conditions, in one list."""
        return [one for found, group in self.groups.items() for one in find(found, group)]


def _claims(material: Material) -> Iterable[ClaimCheck]:
    evidence = claims.Evidence(
        run=material.run,
        answers=material.answers,
        shares=material.shares,
        launches=material.launches,
        memory=material.memory,
    )
    return claims.check(evidence)


def _advice(material: Material) -> Iterable[Advice]:
    return advise.advise(
        material.launches, material.roofline, material.answers, material.memory_laws
    )


# Field of Analysis -> the function that fills it.
FINDERS: dict[str, Callable[[Material], Iterable[Any]]] = {
    "answers": lambda m: m.answers,
    "shares": lambda m: m.shares,
    "launches": lambda m: m.launches,
    "roofline": lambda m: m.roofline,
    "memory": lambda m: m.memory,
    "memory_laws": lambda m: m.memory_laws,
    "energy": lambda m: m.each(energy.points),
    "claims": _claims,
    "advice": _advice,
    "planes": lambda m: planes(m.whole or m.run),
}


def analyze(
    run: Run,
    fields: Collection[str] = FINDERS.keys(),
    *,
    metrics: Collection[Metric] = METRICS,
    shares_of: Collection[Denominator] = dominance.DENOMINATORS,
) -> Analysis:
    """Everything found in a run. Pure: the same run gives the same findings.

    Args:
        fields: those of `Analysis` to be filled; the others stay empty.
        metrics: in which contenders are compared.
        shares_of: the times of which shares are taken.
    """
    material = Material(
        predicting(run),
        [one for one in METRICS if one in metrics],
        [one for one in dominance.DENOMINATORS if one in shares_of],
        run,
    )
    with collector_at_rest():
        return Analysis(**{name: tuple(FINDERS[name](material)) for name in fields})
