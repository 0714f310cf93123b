"""Outcomes -> jobs that would narrow a crossover: bisection in log context.

Each bracket in which two contenders change sides is halved until it is as narrow as the scenario
asks. All contenders of the facet are measured at a new context, since the verdict needs the best of
all of them there and not of one pair.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import combinations

import msgspec

from ssmprof.analysis.curves import brackets, curves, facets, failed_at
from ssmprof.analysis.findings import Facet
from ssmprof.planning.expand import jobs
from ssmprof.records import Job, Outcome
from ssmprof.spec import Scenario


def refine(scenario: Scenario, outcomes: Iterable[Outcome]) -> list[Job]:
    """Jobs for the next step of bisection; empty when every bracket is narrow or `max_extra` spent.

    `max_extra` limits the contexts added over the whole sweep, widest brackets first.
    """
    wish = scenario.sweep.refine
    if wish is None:
        return []
    every = list(outcomes)
    extra = {outcome.point.context for outcome in every} - set(scenario.sweep.contexts)
    wide: list[tuple[float, Facet, int]] = []
    known_failures: dict[Facet, dict[str, int]] = {}
    for facet, group in facets(every).items():
        known_failures[facet] = failed_at(group)
        blocks = curves(group)
        for a, b in combinations(blocks, 2):
            for low, high in brackets(blocks[a], blocks[b]):
                middle = between(low, high)
                if high > low * (1 + wish.tolerance) and low < middle < high:
                    wide.append((high / low, facet, middle))
    found: list[Job] = []
    for _, facet, middle in sorted(wide, key=lambda one: -one[0]):
        if middle not in extra and len(extra) >= wish.max_extra:
            continue
        extra.add(middle)
        found.extend(_jobs_at(scenario, facet, middle, known_failures[facet]))
    unique = {job.key: job for job in found}
    done = {outcome.key for outcome in every}
    return sorted(
        (job for key, job in unique.items() if key not in done),
        key=lambda job: (job.round, job.point.block),
    )


def between(low: int, high: int) -> int:
    """The geometric mean of two contexts, rounded to 1/64 of its size so that it reads well."""
    middle = math.sqrt(low * high)
    grain = max(1, 2 ** (math.floor(math.log2(middle)) - 6))
    return round(middle / grain) * grain


def _jobs_at(
    scenario: Scenario, facet: Facet, context: int, failures: dict[str, int]
) -> Iterable[Job]:
    """Jobs of one facet at one context, without blocks that did not fit there."""
    narrow = msgspec.structs.replace(
        scenario,
        sweep=msgspec.structs.replace(
            scenario.sweep,
            phase=(facet.phase,),
            batch=(facet.batch,),
            execution=(facet.execution,),
        ),
    )
    fitting = [
        block.name for block in scenario.blocks if failures.get(block.name, context + 1) > context
    ]
    device = "cpu" if facet.execution == "eager" else "cuda"
    return jobs(narrow, [context], device=device, blocks=fitting)
