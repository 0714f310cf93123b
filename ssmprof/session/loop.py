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
    end = clock() + (scenario.budget.sweep_s or float("inf"))
    answered: set[str] = set()  # in this session, for better or for worse

    def missing(jobs: Iterable[Job | Visit]) -> list[Job | Visit]:
        done = journal.done | answered
        left = (job.remaining(done) for job in jobs)
        return [job for job in left if job is not None]

    with _interruptible() as interrupted:
        todo = missing(expand(scenario))
        while todo or (todo := missing(refine(scenario, journal.outcomes))):
            with closing(_closable(measure(todo))) as outcomes:
                for outcome in outcomes:
                    journal.append(outcome)
                    answered.add(outcome.key)
                    on_outcome(outcome)
                    if interrupted():
                        return "interrupted"
                    if clock() > end:
                        return "out-of-time"
            todo = []
    return "done"


def _closable(outcomes: Iterator[Outcome]) -> Generator[Outcome, None, None]:
    """Any iterator as one that can be closed, so that `measure` ends when the sweep does."""
    yield from outcomes


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
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
