"""What `decide` knows after some outcomes: answers, forecasts, and what was asked how often."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

from ssmprof import limits
from ssmprof.analysis.compare.answer import Answer
from ssmprof.analysis.compare.build import answers, process_noise
from ssmprof.analysis.compare.conditions import by_conditions
from ssmprof.analysis.compare.forecast import Forecast
from ssmprof.planning.strategies.facets import Device, Facet, by_facet, facet_of, facets
from ssmprof.planning.strategies.lengths import zoom
from ssmprof.records import Environment, Failure, Measurement, Outcome
from ssmprof.spec import Scenario

# Between processes, where the machine's examination does not say: what was seen on one H200.
USUAL_NOISE = 0.004
SCATTER = 0.01  # lengths of a zoom (1.5 %) are told apart by visits that scatter by this
_ASIDE = 4  # lengths of a question that is not asked first are so many times as far apart
NARROW_SHARE = 0.5  # of the time budget, after which the grid comes first
VISIT_SHARE = 0.2  # of the time budget, for one visit: a pilot, three visits and the grid fit


class State:
    """A scenario and its outcomes; everything else follows from them."""

    def __init__(
        self,
        scenario: Scenario,
        outcomes: Sequence[Outcome],
        environments: Mapping[str, Environment],
        device: Device,
    ) -> None:
        self.scenario = scenario
        self.outcomes = outcomes
        self.environments = environments
        self.device: Device = device
        self.facets = facets(scenario, device)
        self.turn = max((one.round for one in outcomes), default=0) + 1
        self._groups = by_conditions(outcomes, environments)

    def is_first(self, facet: Facet) -> bool:
        """Whether it is what the scenario asks first: graphs, as a rule, where there are any."""
        return facet.execution == next(iter(self.facets)).execution

    @cached_property
    def answers(self) -> list[Answer]:
        """Who wins where, as a report would say it now."""
        return answers(
            self._groups, self.environments, self.scenario.budget.tie, metrics=("latency",)
        )

    @cached_property
    def plans(self) -> list[Answer]:
        """The same with the noise that is expected, to choose lengths by.

        A noisy examination was of calls that took no turns, and samples tell their own noise.
        """
        devices = {one.device for one in self.environments.values()}
        noise = max((process_noise(self.environments, one) for one in devices), default=0.0)
        return answers(
            self._groups,
            self.environments,
            self.scenario.budget.tie,
            metrics=("latency",),
            assumed=math.log1p(min(noise or USUAL_NOISE, limits.PROCESS_NOISE)),
        )

    def answered(self, facet: Facet) -> list[Answer]:
        """The answers to one question."""
        return [one for one in self.answers if facet_of(one.conditions) == facet]

    def planned(self, facet: Facet) -> list[Answer]:
        """The same with the noise that is expected."""
        return [one for one in self.plans if facet_of(one.conditions) == facet]

    @cached_property
    def forecasts(self) -> dict[Facet, Forecast]:
        """Times of all contenders, by question."""
        return {facet: Forecast(found) for facet, found in self._by_facet.items()}

    @cached_property
    def _by_facet(self) -> dict[Facet, list[Outcome]]:
        return by_facet(self.outcomes)

    @cached_property
    def steady_rounds(self) -> set[int]:
        """Rounds of visits under sustained load."""
        return {
            one.round
            for one in self.outcomes
            if isinstance(one, Measurement) and one.mode == "sustained"
        }

    @cached_property
    def _looks(self) -> dict[tuple[Facet, int], set[int]]:
        found: dict[tuple[Facet, int], set[int]] = {}
        for one in self.outcomes:
            # Round 0 is the grid, in processes of their own: no turns were taken there.
            if one.round > 0 and one.round not in self.steady_rounds:
                key = facet_of(one.point), one.point.context
                found.setdefault(key, set()).add(one.round)
        return found

    def looks(self, facet: Facet, context: int) -> int:
        """In how many processes a length was asked for."""
        return len(self._looks.get((facet, context), ()))

    def may_look(self, facet: Facet, context: int, most: int) -> bool:
        """Whether a length was asked for less often, and nobody died there."""
        return self.looks(facet, context) < most and (facet, context) not in self._deadly

    @cached_property
    def _deadly(self) -> set[tuple[Facet, int]]:
        """Where a contender failed for a reason that is no matter of size."""
        deadly = ("crash", "timeout", "unsupported")
        return {
            (facet_of(one.point), one.point.context)
            for one in self.outcomes
            if isinstance(one, Failure) and one.reason in deadly
        }

    def visits(self, facet: Facet) -> int:
        """In how many processes lengths beside the scenario's were looked at."""
        grid = self.facets[facet]
        rounds = [
            found for (one, at), found in self._looks.items() if one == facet and at not in grid
        ]
        return len(set[int]().union(*rounds))

    def fine(self, facet: Facet) -> tuple[int, ...]:
        """The lengths a zoom may choose: as far apart as visits can tell, in powers of two; four
        times as far for a question that is not asked first, whose zone Python's own time widens."""
        contexts = self.facets[facet]
        ratio = self.forecasts[facet].scatter() / SCATTER
        stride = 2 ** max(0, round(math.log2(ratio))) if ratio > 0 else 1
        return zoom(contexts[0], contexts[-1])[:: stride * (1 if self.is_first(facet) else _ASIDE)]

    @cached_property
    def room(self) -> float:
        """How many lengths of one question a visit may hold, so that the budget holds several."""
        budget_s = self.scenario.budget.sweep_s
        spent: dict[tuple[Facet, int, int], float] = {}
        for one in self.outcomes:
            if isinstance(one, Measurement) and one.beside is not None and one.mode == "cold":
                key = facet_of(one.point), one.point.context, one.round
                spent[key] = spent.get(key, 0.0) + one.wall_s
        if budget_s is None or math.fsum(spent.values()) <= 0:
            return math.inf
        length_s = math.fsum(spent.values()) / len(spent)
        return VISIT_SHARE * budget_s / length_s / len(self.facets)

    @cached_property
    def is_late(self) -> bool:
        """Whether what is left of the time budget is needed for the grid."""
        budget_s = self.scenario.budget.sweep_s
        spent_s = math.fsum(one.wall_s for one in self.outcomes)
        return budget_s is not None and spent_s > NARROW_SHARE * budget_s

    def apart_from(self, facet: Facet) -> float:
        """The shortest length at which contenders did not fit beside each other."""
        return min(
            (
                one.point.context
                for one in self._by_facet.get(facet, ())
                if isinstance(one, Measurement) and any(note.kind == "apart" for note in one.notes)
            ),
            default=math.inf,
        )

    def needed(self, facet: Facet, context: int) -> set[str]:
        """Who must be measured at a length: whoever may be best there, or near it."""
        return self.forecasts[facet].near(context, limits.ASIDE * limits.ONE_NUMBER)
