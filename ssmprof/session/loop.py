"""The loop of every sweep: what is to be measured, measured, kept, and looked at again.

`measure` is a parameter: a worker on this machine, a fleet, or a formula in a test. Every outcome
is on the disk before the next point begins, so nothing that was measured is lost, however a sweep
ends, and a resumed sweep measures nothing twice. What failed because a process was killed from
outside is not done for good: a resumed sweep measures it again.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Literal, Protocol

from ssmprof.records import Job, Outcome, Visit
from ssmprof.spec import Scenario

End = Literal["done", "interrupted", "out-of-time"]
Measure = Callable[[Iterable[Job | Visit]], Iterator[Outcome]]
Refine = Callable[[Scenario, Sequence[Outcome]], Iterable[Job | Visit]]


class Journal(Protocol):
    """Where outcomes are kept; `append` returns when they are on the disk.

    `done` names the jobs that no sweep needs to measure again.
    """

    outcomes: list[Outcome]
    done: set[str]

    def append(self, outcome: Outcome) -> None: ...


class Course:
    """One device's way through a scenario: what is asked of it, and what it answered.

    `first` is what it begins with, `refine` what would narrow its answer after that; what `journal`
    has, or this session got for better or for worse, is not asked for again.
    """

    def __init__(
        self,
        journal: Journal,
        measure: Measure,
        first: Iterable[Job | Visit],
        refine: Callable[[], Iterable[Job | Visit]],
        on_outcome: Callable[[Outcome], object] = lambda _: None,
    ) -> None:
        self.measure = measure
        self._journal = journal
        self._first: Iterable[Job | Visit] | None = first
        self._refine = refine
        self._on_outcome = on_outcome
        self._answered: set[str] = set()

    def following(self) -> list[Job | Visit]:
        """What to measure now; nothing where all is done."""
        if self._first is not None:
            first, self._first = self._first, None
            if todo := self._missing(first):
                return todo
        return self._missing(self._refine())

    def keep(self, outcome: Outcome) -> None:
        """Keep an outcome: it is on the disk when this returns. Raises StoreError."""
        self._journal.append(outcome)
        self._answered.add(outcome.key)
        self._on_outcome(outcome)

    def _missing(self, jobs: Iterable[Job | Visit]) -> list[Job | Visit]:
        done = self._journal.done | self._answered
        left = (job.remaining(done) for job in jobs)
        return [job for job in left if job is not None]


def measure_all(
    scenario: Scenario,
    journal: Journal,
    measure: Measure,
    refine: Refine,
    *,
    expand: Callable[[Scenario], Iterable[Job | Visit]],
    on_outcome: Callable[[Outcome], object] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> End:
    """Measure every job of the scenario that the journal lacks, then what would narrow the answer.

    Ctrl-C, SIGTERM and SIGHUP let the point in flight finish and be kept; a second one stops at
    once. The time budget of the scenario is looked at between points. Raises StoreError where an
    outcome cannot be kept: what cannot be kept is not measured.
    """
    course = Course(
        journal, measure, expand(scenario), lambda: refine(scenario, journal.outcomes), on_outcome
    )
    return run_course(course, scenario.budget.sweep_s, clock)


def run_course(
    course: Course, budget_s: float | None, clock: Callable[[], float] = time.monotonic
) -> End:
    """Measure what a course asks for, until it asks for no more; as `measure_all`."""
    end = clock() + (budget_s or float("inf"))
    with interruptible() as interrupted:
        while todo := course.following():
            with closing(closable(course.measure(todo))) as outcomes:
                for outcome in outcomes:
                    course.keep(outcome)
                    if interrupted():
                        return "interrupted"
                    if clock() > end:
                        return "out-of-time"
    return "done"


def closable(outcomes: Iterator[Outcome]) -> Generator[Outcome, None, None]:
    """Any iterator as one that can be closed, so that `measure` ends when the sweep does."""
    yield from outcomes


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first request to end into an answer to the question, the second into an exception.

    SIGHUP stays ignored where it was (nohup): that sweep is meant to outlive its terminal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = threading.Event()
    ends = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ends.append(signal.SIGHUP)

    def first(number: int, frame: object) -> None:
        asked.set()
        for each in ends:
            signal.signal(each, signal.default_int_handler)

    before = {number: signal.signal(number, first) for number in ends}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
