"""Sweeps that decide, on a virtual device whose truth is planted.

`Virtual` answers jobs and visits from planted curves with the scatter that processes have; the same
seed gives the same numbers for the same process, so that a resumed sweep can equal a whole one. It
adds up the seconds that a device would have taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import make
import numpy as np
from planted import Scatter, Truth

from ssmprof.planning.strategies import STRATEGIES
from ssmprof.records import Job, Outcome, Visit
from ssmprof.session.executors.virtual import in_turn
from ssmprof.session.loop import measure_all
from ssmprof.spec import Passes, Scenario

QUIET = Scatter(level=0.003, slope=0.002, residual=0.0015, sample=0.003, slow=0.1)
# On an H200: what a process takes to start, a contender to be made ready at a length; a cold call
# takes twice its own time.
START_S, PREPARE_S, FLUSHED = 4.0, 0.08, 2.0
STEADY_S = 0.6  # a window under load, its lead-in shared
ENVIRONMENTS = {make.ENVIRONMENT.fingerprint: make.ENVIRONMENT}
Hurt = Callable[[Job], Outcome | None]


class MemoryJournal:
    """A journal without a disk."""

    def __init__(self, outcomes: Iterable[Outcome] = ()) -> None:
        self.outcomes = list(outcomes)

    @property
    def done(self) -> set[str]:  # pyright: ignore
        return {one.key for one in self.outcomes if not getattr(one, "transient", False)}

    def append(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


class Virtual:
    """A device with a truth per phase.

    `hurt` may answer a job in the device's place (a death); `slower` says how many times a process
    of this round takes at a length (a clock that drops).
    """

    def __init__(
        self,
        truths: Truth | Mapping[str, Truth],
        scatter: Scatter = QUIET,
        seed: int = 0,
        hurt: Hurt = lambda _: None,
        slower: Callable[[int, int], float] = lambda round_, context: 1.0,
    ) -> None:
        self.truths = {"prefill": truths, "decode": truths} if isinstance(truths, Truth) else truths
        self.scatter = scatter
        self.seed = seed
        self.hurt = hurt
        self.slower = slower
        self.asked: list[Job | Visit] = []
        self.calls = 0
        self.device_s = 0.0
        self.steady_s = 0.0
        self.modes: list[dict[str, bool]] = []

    def __call__(self, todo: Iterable[Job | Visit]) -> Iterator[Outcome]:
        for asked in todo:
            self.asked.append(asked)
            visit = isinstance(asked, Visit)
            self.device_s += START_S if visit else 0.0
            many = _samples(asked.sampling) if isinstance(asked, Visit) else 5
            for job in asked.jobs():
                yield self.hurt(job) or self._measured(job, many, asked if visit else None)

    def _measured(self, job: Job, many: int, visit: Visit | None) -> Outcome:
        point = job.point
        together = visit is not None
        where = "visit" if together else point.block
        process = self._random(job.round, where, point.phase if not together else "")
        modes = {name: bool(process.random() < 0.5) for name in self.truths[point.phase].jumps}
        if modes not in self.modes:
            self.modes.append(modes)
        # Of a process: by contender, so that ratios move by level and slope together.
        own = self._random(job.round, "own", point.block, point.phase)
        apart = 1 / math.sqrt(2)
        level, slope = own.normal(0, self.scatter.level), own.normal(0, self.scatter.slope)
        here = self._random(job.round, point.block, point.phase, point.context)
        short = self.scatter.short if point.context < 2048 else 1.0
        log = float(self.truths[point.phase].logs([point.context], modes)[point.block][0])
        log += apart * (level + slope * math.log(point.context / 4096) / math.log(2) * 0.5)
        log += apart * here.normal(0, self.scatter.residual * short)
        log += math.log(self.slower(job.round, point.context))
        samples = log + here.normal(0, self.scatter.sample * short, many)
        samples += (here.random(many) < 0.02) * here.uniform(0, self.scatter.slow, many)
        self.calls += many
        steady = visit is not None and visit.sampling.mode == "sustained"
        spent_s = math.fsum(np.exp(samples).tolist()) * FLUSHED
        self.steady_s += many * STEADY_S if steady else 0.0
        self.device_s += PREPARE_S + (many * STEADY_S if steady else spent_s)
        measured = make.measurement(
            point=point, round=job.round, times_s=tuple(np.exp(samples).tolist())
        )
        return measured if visit is None else in_turn(measured, visit)

    def _random(self, *words: Any) -> np.random.Generator:
        return np.random.default_rng([self.seed, *" ".join(map(str, words)).encode()])

    @property
    def visits(self) -> list[Visit]:
        return [one for one in self.asked if isinstance(one, Visit)]


def _samples(asked: Any) -> int:
    return asked.windows if asked.mode == "sustained" else min(asked.pairs, 10)


def scenario(*names: str, low: int = 512, high: int = 32768, **changes: Any) -> Scenario:
    """A scenario that decides, over powers of two; parts are measured once."""
    octaves = round(math.log2(high / low))
    values: dict[str, Any] = {
        "contexts": tuple(low * 2**step for step in range(octaves + 1)),
        "dtype": "bfloat16",
        "execution": ("graph",),
        "strategy": "decide",
        "passes": Passes(parts=True, memory="off", energy=False, host=False, cupti=False),
    }
    return make.scenario(*names, **(values | changes))


def swept(
    asked: Scenario,
    device: Callable[..., Iterator[Outcome]],
    journal: MemoryJournal | None = None,
    kind: Any = "cuda",
    **changes: Any,
) -> tuple[str, MemoryJournal]:
    """One session of a sweep."""
    journal = journal or MemoryJournal()
    plan = STRATEGIES[asked.sweep.strategy]
    before = list(journal.outcomes)
    end = measure_all(
        asked,
        journal,
        device,
        lambda scenario, outcomes: plan.go_on(scenario, outcomes, ENVIRONMENTS, kind).asked,
        expand=lambda scenario: plan.begin(scenario, before, ENVIRONMENTS, kind),
        **changes,
    )
    return end, journal


def rounds_of(journal: MemoryJournal, phase: str = "prefill") -> dict[int, set[int]]:
    """Context -> rounds it was measured in."""
    found: dict[int, set[int]] = {}
    for one in journal.outcomes:
        if one.point.phase == phase:
            found.setdefault(one.point.context, set()).add(one.round)
    return found


def answer_of(journal: MemoryJournal, phase: str = "prefill") -> Any:
    """The answer for one phase."""
    from ssmprof.analysis.compare.build import answers
    from ssmprof.analysis.compare.conditions import by_conditions

    groups = by_conditions(journal.outcomes, ENVIRONMENTS)
    found = answers(groups, ENVIRONMENTS, 0.02, metrics=("latency",))
    return next(one for one in found if one.conditions.phase == phase)


__all__ = ["ENVIRONMENTS", "MemoryJournal", "Virtual", "answer_of", "scenario", "swept"]
