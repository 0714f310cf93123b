"""The loop of a sweep over devices of several names: each goes its own way, all at the same time.

A thread for each device waits for its outcomes; everything else happens in the thread that calls:
whoever measures leaves letters, and they are opened here, one after the other. So one process and
one thread write the run, as ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from queue import SimpleQueue

from ssmprof.records import Job, Visit
from ssmprof.session.loop import Course, End, closable, interruptible

Letter = Callable[[], object]
_PATIENCE_S = 10.0  # for threads whose benches are closed


class Mailbox:
    """Letters of other threads, opened in the order they came; and the threads themselves."""

    def __init__(self) -> None:
        self._letters: SimpleQueue[Letter] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self.closed = threading.Event()

    def post(self, letter: Letter) -> None:
        """Leave a letter."""
        self._letters.put(letter)

    def open_next(self) -> None:
        """Wait for a letter, and do what it says."""
        self._letters.get()()

    def posting(self, told: Callable[..., object]) -> Callable[..., None]:
        """A function that lets `told` be called where letters are opened."""
        return lambda *said: self.post(partial(told, *said))

    def start(self, work: Callable[[], None]) -> None:
        """Do work beside this thread."""
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        """Ask the threads to end, which they do at their next outcome or with their bench."""
        self.closed.set()

    def join(self) -> None:
        """Wait for the threads; whose bench does not end is left behind."""
        for thread in self._threads:
            thread.join(_PATIENCE_S)


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """A mailbox whose threads have ended afterwards: close benches inside of it."""
    found = Mailbox()
    try:
        yield found
    finally:
        found.close()
        found.join()


def run_beside(
    courses: Sequence[Course],
    letters: Mailbox,
    budget_s: float | None,
    clock: Callable[[], float] = time.monotonic,
) -> End:
    """Measure what all courses ask for, until none asks for more; as `loop.run_course`.

    What one bench raises ends the others, too.
    """
    end = clock() + (budget_s or float("inf"))
    at_work = 0
    ends: list[End] = []

    with interruptible() as interrupted:

        def go_on(course: Course) -> None:
            nonlocal at_work
            if todo := course.following():
                letters.start(partial(_pump, course, todo, letters, arrived, went))
                at_work += 1

        def arrived(course: Course, outcome: object) -> None:
            course.keep(outcome)  # type: ignore[arg-type]
            if interrupted():
                ends.append("interrupted")
            elif clock() > end:
                ends.append("out-of-time")

        def went(course: Course, error: BaseException | None) -> None:
            nonlocal at_work
            at_work -= 1
            if error is not None:
                raise error
            go_on(course)

        try:
            for course in courses:
                go_on(course)
            while at_work and not ends:
                letters.open_next()
        finally:
            letters.close()
    return ends[0] if ends else "done"


def _pump(
    course: Course,
    todo: Sequence[Job | Visit],
    letters: Mailbox,
    arrived: Callable[[Course, object], None],
    went: Callable[[Course, BaseException | None], None],
) -> None:
    """Leave a letter for each outcome, and one at the end."""
    error: BaseException | None = None
    try:
        with closing(closable(course.measure(todo))) as outcomes:
            for outcome in outcomes:
                letters.post(partial(arrived, course, outcome))
                if letters.closed.is_set():
                    break
    except BaseException as raised:
        error = raised
    letters.post(partial(went, course, error))
