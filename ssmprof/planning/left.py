"""How long a sweep still takes: the plan's own seconds, corrected by those that were seen.

Of what is asked for the plan knows each point, and of a sweep that decides the grid that is asked
last. How long narrowing takes cannot be told before the pilot has shown how many crossings there
are, so nothing is told before; from the first visit on the rest is taken to cost a multiple of it,
the median of simulated sweeps (`tests/estimates.py` holds this file against sweeps whose end is
known). No sweep takes longer than its budget.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ssmprof.analysis.compare.answer import Answer
from ssmprof.models.recipe import Recipe
from ssmprof.planning.calls import call_s
from ssmprof.planning.decided import COMPILE_S
from ssmprof.planning.feasible import peak_bytes
from ssmprof.planning.machine import Machine
from ssmprof.planning.spent import START_S, job_s
from ssmprof.planning.strategies import expected
from ssmprof.planning.strategies.facets import Device
from ssmprof.records import Job, Sampling, Visit
from ssmprof.spec import Scenario

LATER_VISITS = 1.6  # what follows the first visit of narrowing, in times of that visit
LAST_VISITS = 0.4  # what follows a later one, at least
STEADY_LENGTHS = 3  # under sustained load, for each crossing of a question that graphs answer
VISIT_S = {"cuda": 5.0, "cpu": 4.0}  # a worker that holds all contenders, and their first calls
PREPARE_S = {"cuda": 0.08, "cpu": 0.01}  # a contender made ready at one length of a visit
FLUSHED = {"cuda": 2.0, "cpu": 1.0}  # a cold call, in its own times
UNKNOWN_S = 1.0  # a point of a model that is not ours, before one was seen
TRUSTED_S = 4.0  # so much of the plan counts as seen before anything was
_REFUSED_S = 0.05  # a point that cannot fit is not tried


class Left:
    """Told what is asked and what each outcome took; says how long the rest takes."""

    def __init__(
        self, scenario: Scenario, device: Device, machine: Machine, *, compiled: bool = True
    ) -> None:
        self._machine = machine
        self._budget_s = scenario.budget.sweep_s or math.inf
        self._compile_s = 0.0 if compiled or device == "cpu" else COMPILE_S
        self._compiled: set[str] = set()
        self._compiling: set[str] = set()
        self._workers: set[tuple[str, int]] = set()
        self._asked: dict[str, float] = {}
        self._done: set[str] = set()
        self._planned_s = 0.0
        self._seen_s = 0.0
        self._decides = scenario.sweep.strategy == "decide" and len(scenario.blocks) > 1
        # The grid, which is asked last: what it takes is known before.
        jobs = [job for job in expected(scenario, device) if not self._decides or job.round == 0]
        self._later = {job.key: self._alone(job) for job in jobs}
        self._workers.clear()
        self._compiled.clear()
        self._narrow_s: float | None = None if self._decides else 0.0
        self._steady_s = 0.0
        self._crossing_s = 0.0
        if self._decides and device == "cuda":
            self._crossing_s = STEADY_LENGTHS * self._length(jobs[:2], Sampling(mode="sustained"))

    def expect(self, asked: Iterable[Job | Visit], answers: Sequence[Answer] = ()) -> None:
        """These are to be measured next, and that is how the questions look."""
        if answers:
            graphs = [len(one.crossings) for one in answers if one.conditions.execution == "graph"]
            self._steady_s = sum(graphs) * self._crossing_s
        for one in asked:
            found = self._visit(one) if isinstance(one, Visit) else {one.key: self._alone(one)}
            self._narrowed(one, sum(found.values()))
            for key, seconds in found.items():
                if key not in self._done:
                    self._asked[key] = seconds
                    self._later.pop(key, None)

    def skip(self, done: Iterable[str]) -> None:
        """Jobs that an earlier session answered."""
        for key in done:
            self._asked.pop(key, None)
            self._later.pop(key, None)
            self._done.add(key)

    def decided(self) -> None:
        """Who runs which op is decided now, which has compiled the kernels: no point does."""
        for known in (self._asked, self._later):
            for key in self._compiling & known.keys():
                known[key] -= self._compile_s
        self._compile_s = 0.0

    def took(self, key: str, seconds: float) -> None:
        """One is done, and that is how long it took."""
        self._planned_s += self._asked.pop(key, 0.0)
        self._later.pop(key, None)
        self._done.add(key)
        self._seen_s += seconds

    def left_s(self) -> float | None:
        """Seconds until the sweep ends; None where that cannot be told yet."""
        if self._narrow_s is None:
            return None
        pace = (self._seen_s + TRUSTED_S) / (self._planned_s + TRUSTED_S)
        rest = sum(self._asked.values()) + sum(self._later.values())
        rest += self._narrow_s + self._steady_s
        return max(0.0, min(rest * pace, self.most_s()))

    def most_s(self) -> float:
        """Seconds until the budget ends, infinite without one."""
        return max(0.0, self._budget_s - self._seen_s)

    def _narrowed(self, asked: Job | Visit, seconds: float) -> None:
        """What narrowing will still cost, by the visit that it asks for now."""
        if not self._decides:
            return
        if isinstance(asked, Job):
            if asked.round == 0:  # the grid: narrowing is over, or cut short by the budget
                self._narrow_s = self._crossing_s = self._steady_s = 0.0
        elif asked.sampling.mode == "sustained":
            self._narrow_s, self._crossing_s, self._steady_s = LAST_VISITS * seconds, 0.0, 0.0
        elif self._narrow_s is not None:
            self._narrow_s = max(self._narrow_s - seconds, LAST_VISITS * seconds)
        elif asked.round > 1:
            self._narrow_s = LATER_VISITS * seconds

    def _alone(self, job: Job) -> float:
        """A job by itself, with the start of its worker if it is the first there."""
        name = job.point.block
        spent = self._first(job)
        if (name, job.round) not in self._workers:
            self._workers.add((name, job.round))
            spent += START_S[self._machine.kind]
        known = job_s(job, self._machine)
        room = self._machine.memory_bytes
        if known is None:
            return spent + UNKNOWN_S
        if room is not None and (peak_bytes(job, self._machine) or 0) > room:
            return spent + _REFUSED_S
        return spent + known

    def _first(self, job: Job) -> float:
        """What compiling the kernels of a contender takes, once."""
        if job.point.block in self._compiled:
            return 0.0
        self._compiled.add(job.point.block)
        self._compiling.add(job.key)
        return self._compile_s

    def _visit(self, visit: Visit) -> dict[str, float]:
        """The points of a visit: those of a length share what it takes."""
        found: dict[str, float] = {}
        start = VISIT_S[self._machine.kind]
        for jobs in visit.lengths():
            share = self._length(jobs, visit.sampling) / len(jobs)
            for job in jobs:
                found[job.key] = share + start + self._first(job)
                start = 0.0
        return found

    def _length(self, jobs: Iterable[Job], sampling: Sampling) -> float:
        """Contenders in turn at one length."""
        kind = self._machine.kind
        calls = [
            call_s(job.subject, job.point, self._machine) if isinstance(job.subject, Recipe) else 0
            for job in jobs
        ]
        turn = sum(calls) * FLUSHED[kind]
        if sampling.mode == "sustained":
            return sampling.windows * len(calls) * (sampling.window_s + 0.1)
        timed = max(4 * turn, min(sampling.pairs * turn, sampling.length_s))
        return len(calls) * PREPARE_S[kind] + 3 * sum(calls) + timed


def any_compiled() -> bool:
    """Whether the cache of compiled kernels holds anything."""
    folder = Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")
    try:
        return next(folder.iterdir(), None) is not None
    except OSError:
        return False
