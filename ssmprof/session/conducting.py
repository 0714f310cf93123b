"""What happens in a sweep, from an open run folder to its end: plan, measure, keep, look again.

Each device goes its own way through the scenario: what it lacks, who runs its ops, what would
narrow its answer. One alone is measured in this thread; several are measured side by side.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from ssmprof.measure.workers.decisions import Decided
from ssmprof.planning import feasible
from ssmprof.planning.again import noisy_again
from ssmprof.planning.strategies import STRATEGIES
from ssmprof.records import Environment, Job, Outcome, Visit
from ssmprof.report.redact import recorded
from ssmprof.session.beside import Mailbox, mailbox, run_beside
from ssmprof.session.decisions import Decisions
from ssmprof.session.executors import Bench, Desk, Executor, devices_of
from ssmprof.session.loop import Course, End, Journal, Measure, run_course
from ssmprof.session.progress import Planned, Progress
from ssmprof.spec import Scenario
from ssmprof.store.folder import RunFolder
from ssmprof.store.portion import Portion


class Asked(NamedTuple):
    """What is asked of a session."""

    folder: RunFolder
    scenario: Scenario
    examine: bool
    again: bool
    decide: bool = True


class Way:
    """One device's way through a run; of several, with its own part of the run."""

    def __init__(
        self, asked: Asked, executor: Executor, progress: Progress, portion: Portion | None = None
    ) -> None:
        self._asked = asked
        self._executor = executor
        self._portion = portion
        self._journal: Journal = portion or asked.folder.journal
        self._known = Decisions(asked.folder, portion)
        self._strategy = STRATEGIES[asked.scenario.sweep.strategy]
        self._machine = feasible.Machine.of_device(
            executor.name, executor.kind, executor.memory_bytes
        )
        self.progress = progress
        progress.begins(asked.scenario, self._machine)
        self._first = self._begin()
        points = [job.key for one in self._first for job in one.jobs()]
        self.missing = sum(key not in self._journal.done for key in points)
        progress.planned(
            Planned(
                points=len(points),
                missing=self.missing,
                strategy=asked.scenario.sweep.strategy,
                device=executor.name,
                folder=asked.folder.path,
            )
        )
        if not asked.examine:
            progress.examined(None)

    @property
    def undecided(self) -> bool:
        """Whether it is to be found who runs which op, before anything is measured."""
        return self._asked.decide and bool(self.missing)

    @property
    def _environments(self) -> dict[str, Environment]:
        return (self._portion or self._asked.folder).environments

    def _begin(self) -> list[Job | Visit]:
        asked, outcomes = self._asked, self._journal.outcomes
        begun = self._strategy.begin(
            asked.scenario, outcomes, self._environments, self._executor.kind
        )
        first = [*begun, *(noisy_again(asked.scenario, outcomes) if asked.again else [])]
        self.progress.expect(first)
        first = first or list(self._go_on())
        self.progress.skip(self._journal.done)
        return first

    def _go_on(self) -> Sequence[Job | Visit]:
        step = self._strategy.go_on(
            self._asked.scenario, self._journal.outcomes, self._environments, self._executor.kind
        )
        self.progress.narrowed(step.answers)
        self.progress.expect(step.asked)
        return step.asked

    def desk(self, letters: Mailbox | None = None) -> Desk:
        """What a bench is told, and whom it tells; by letter, if it works in another thread."""
        told = letters.posting if letters is not None else lambda function: function
        return Desk(
            folder=self._asked.folder.path,
            examine=self._asked.examine and bool(self.missing),
            outcomes=self._known.outcomes,
            decisions=self._known.providers,
            disabled=self._known.disabled,
            predict=lambda job: feasible.peak_bytes(job, self._machine),
            meet=told(self._known.meet),
            disable=told(self._known.disable),
            telemetry=told(self._asked.folder.add_telemetry),
            examined=told(self.progress.examined),
            warned=told(self.progress.warned),
        )

    def open(self, desk: Desk, stack: ExitStack) -> Bench:
        """The bench of this device, which `stack` closes."""
        return stack.enter_context(self._executor.open(desk))

    def decide(self, bench: Bench) -> tuple[Decided, float]:
        """Who runs which op, and how many seconds that took."""
        begin = time.monotonic()
        return self._known.decide(
            self._asked.scenario, bench, self._executor.kind
        ), time.monotonic() - begin

    def decided(self, found: Decided, seconds: float) -> None:
        """Keep who runs which op."""
        self._known.add(found)
        self.progress.decided(found, seconds)

    def course(self, measure: Measure) -> Course:
        """What is asked of the device, in the order of the scenario's strategy."""
        return Course(
            self._journal,
            lambda todo: (recorded(outcome) for outcome in measure(todo)),
            self._first,
            self._go_on,
            self.progress.outcome,
        )


def measure_run(
    opened: RunFolder,
    scenario: Scenario,
    executor: Executor,
    progress: Progress,
    *,
    examine: bool,
    again: bool = False,
    decide: bool = True,
) -> End:
    """Measure what a run folder lacks of a scenario, and say how that ended."""
    asked = Asked(opened, scenario, examine, again, decide)
    devices = devices_of(executor)
    known = {opened.environments[one.environment].device for one in opened.journal.outcomes}
    if len(devices) == 1 and len(known) < 2:
        return _alone(Way(asked, devices[0], progress), scenario)
    ways = [Way(asked, one, progress.at(one.name), Portion(opened, one.name)) for one in devices]
    return _beside(ways, scenario) if len(ways) > 1 else _alone(ways[0], scenario)


def _alone(way: Way, scenario: Scenario) -> End:
    with ExitStack() as stack:
        bench = way.open(way.desk(), stack)
        stack.enter_context(way.progress)
        if way.undecided:
            way.decided(*way.decide(bench))
        way.progress.started()
        return run_course(way.course(bench), scenario.budget.sweep_s)


def _beside(ways: Sequence[Way], scenario: Scenario) -> End:
    """All at once: a device decides who runs its ops while another one may measure already."""
    with mailbox() as letters, ExitStack() as stack:
        courses = [
            way.course(_Deciding(way, way.open(way.desk(letters), stack), letters)) for way in ways
        ]
        for way in ways:
            stack.enter_context(way.progress)
            way.progress.started()
        return run_beside(courses, letters, scenario.budget.sweep_s)


class _Deciding:
    """A bench of several, which decides before it measures; the decisions are kept before that."""

    def __init__(self, way: Way, bench: Bench, letters: Mailbox) -> None:
        self._way = way
        self._bench = bench
        self._letters = letters
        self._asked = not way.undecided

    def __call__(self, todo: Iterable[Job | Visit]) -> Iterator[Outcome]:
        if not self._asked:
            self._asked = True
            self._letters.posting(self._way.decided)(*self._way.decide(self._bench))
        return self._bench(todo)
