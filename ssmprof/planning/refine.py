"""The answer -> jobs that would narrow its zones: bisection in log context.

Each zone that nothing was measured in is halved until it is as narrow as the scenario asks. All
contenders of the conditions are measured at a new context, since the verdict needs the best of all
of them there and not of one pair; what is looked at beside latency was taken at the grid's lengths.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise

from msgspec.structs import replace

from ssmprof.analysis.compare.answer import Answer, Crossing
from ssmprof.analysis.compare.build import answers
from ssmprof.analysis.compare.conditions import by_conditions
from ssmprof.planning.expand import jobs
from ssmprof.records import Environment, Job, Outcome
from ssmprof.spec import Scenario


def refine(
    scenario: Scenario,
    outcomes: Iterable[Outcome],
    environments: Mapping[str, Environment] | None = None,
) -> list[Job]:
    """Jobs for the next step of bisection; empty when every zone is narrow or `max_extra` spent.

    `max_extra` limits the contexts added over the whole sweep, widest gaps first.
    """
    wish = scenario.sweep.refine
    if wish is None:
        return []
    every = list(outcomes)
    extra = {outcome.point.context for outcome in every} - set(scenario.sweep.contexts)
    groups = by_conditions(every, environments)
    found = answers(groups, environments or {}, scenario.budget.tie, metrics=("latency",))
    wide: list[tuple[float, Answer, int]] = []
    for answer in found:
        for low, high in _gaps(answer):
            middle = between(low, high)
            if high > low * (1 + wish.tolerance) and low < middle < high:
                wide.append((high / low, answer, middle))
    jobs_found: list[Job] = []
    for _, answer, middle in sorted(wide, key=lambda one: -one[0]):
        if middle not in extra and len(extra) >= wish.max_extra:
            continue
        extra.add(middle)
        jobs_found.extend(_jobs_at(scenario, answer, middle))
    unique = {job.key: job for job in jobs_found}
    done = {outcome.key for outcome in every}
    return sorted(
        (job for key, job in unique.items() if key not in done),
        key=lambda job: (job.round, job.point.block),
    )


def between(low: int, high: int) -> int:
    """The geometric mean of two contexts, rounded to 1/64 of its size so that it reads well.

    Between contexts that lie closer than that it is rounded to a whole token.
    """
    middle = math.sqrt(low * high)
    grain = max(1, 2 ** (math.floor(math.log2(middle)) - 6))
    rounded = round(middle / grain) * grain
    return rounded if low <= rounded <= high else round(middle)


def _gaps(answer: Answer) -> Iterable[tuple[int, int]]:
    """The widest gap between measured lengths inside each zone: of all contenders, and of pairs."""
    for crossing in (*answer.crossings, *(one for pair in answer.pairs for one in pair.crossings)):
        if crossing.kind == "zone":
            yield _widest(answer, crossing)


def _widest(answer: Answer, crossing: Crossing) -> tuple[int, int]:
    low, high = crossing.low_tokens or 0, crossing.high_tokens or 0
    pair = answer.pair(crossing.before, crossing.after)
    inside = [one.context for one in pair.points if low <= one.context <= high] if pair else []
    gaps = list(pairwise(inside)) or [(low, high)]
    return max(gaps, key=lambda gap: gap[1] / gap[0])


def _jobs_at(scenario: Scenario, answer: Answer, context: int) -> Iterable[Job]:
    """Latency jobs under the answer's conditions, without blocks that did not fit there."""
    conditions = answer.conditions
    assert conditions.batch is not None, "refinement is along the context"
    narrow = replace(
        scenario,
        sweep=replace(
            scenario.sweep,
            phase=(conditions.phase,),
            batch=(conditions.batch,),
            execution=(conditions.execution,),
            eager_up_to=None,
        ),
        passes=replace(
            scenario.passes, parts=False, memory="off", energy=False, host=False, cupti=False
        ),
    )
    gone = {
        block: min(at for at, reason in found.items() if reason in ("out-of-memory", "skipped"))
        for block, found in answer.failures.items()
        if any(reason in ("out-of-memory", "skipped") for reason in found.values())
    }
    fitting = [
        block.name for block in scenario.blocks if gone.get(block.name, context + 1) > context
    ]
    device = "cpu" if conditions.execution == "eager" else "cuda"
    return jobs(narrow, [context], device=device, blocks=fitting)
