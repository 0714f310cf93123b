"""A visit: the parent's half. One fresh process, length by length; each outcome is given at once.

Whatever happens to the process, every contender gets exactly one outcome per length. One that dies
takes only its own points along: the others go on in a new process, measured without it at that
length. Contenders that do not fit beside each other, or die only together, are measured one after
the other in processes of their own, and a note of kind `apart` says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from msgspec import structs

from ssmprof.measure.workers import wire
from ssmprof.measure.workers.process import LostError, Worker
from ssmprof.measure.workers.worker import BROKEN
from ssmprof.records import Failure, Job, Measurement, Note, Outcome, Sampling, Visit
from ssmprof.units import format_bytes

APART = "apart"
# A sustained window beyond its seconds: its lead-in and a first pace, and energy's windows.
_WINDOW_EXTRA_S = 1.0
_ENERGY_S = 8.0


@dataclass(frozen=True)
class Host:
    """What a visit needs of the client whose workers it uses.

    `start` (of a round) and what is asked of its worker raise LostError; `failure` makes one from
    (job, loss, unix time, monotonic time of the start). `verdict` says why a job is not tried,
    `chosen` who runs its ops; `persist` may repeat an attempt that was ended from outside.
    """

    start: Callable[[int], Worker]
    failure: Callable[[Job, LostError, float, float], Failure]
    deadline_s: Callable[[Job], float]
    verdict: Callable[[Job], str | None]
    learn: Callable[[Outcome], object]
    predicted: Callable[[Job], int | None]
    room_bytes: Callable[[], int | None]
    chosen: Callable[[Job], dict[str, str]]
    persist: Callable[[Callable[[], wire.Paired]], wire.Paired] = lambda attempt: attempt()


class Visiting:
    """One visit in progress."""

    def __init__(self, host: Host, visit: Visit) -> None:
        self._host = host
        self._visit = visit
        self._worker: Worker | None = None
        self._died_in: str | None = None
        self._apart: tuple[int, str] | None = None  # from which context on, and why

    def __call__(self) -> Iterator[Outcome]:
        """Outcomes length by length, in the order of the visit."""
        try:
            for jobs in self._visit.lengths():
                found: dict[str, Outcome] = {}
                for outcome in self._length(jobs):
                    self._host.learn(outcome)
                    found[outcome.key] = outcome
                yield from (found[job.key] for job in jobs)
        finally:
            self._end()

    def _length(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        left: list[Job] = []
        for job in jobs:
            why = self._host.verdict(job)
            if why is None:
                left.append(job)
            else:
                yield self._failed(job, LostError("skipped", why), time.time(), time.monotonic())
        apart = self._known_apart(left) or self._too_large(left)
        sampling = self._visit.sampling
        if apart is not None and len(left) > 1:
            yield from self._each_apart(left, apart, sampling)
        else:
            yield from self._together(left, sampling)

    def _known_apart(self, jobs: Sequence[Job]) -> str | None:
        """Why these are not even tried together after what a shorter length met."""
        if self._apart is None or all(job.point.context < self._apart[0] for job in jobs):
            return None
        return self._apart[1]

    def _too_large(self, jobs: Sequence[Job]) -> str | None:
        """Why these are not even tried together, where the room is known before."""
        room = self._host.room_bytes() if self._worker is None else None
        needed = [size for job in jobs if (size := self._host.predicted(job)) is not None]
        if room is None or sum(needed) <= room or len(jobs) < 2:
            return None
        return f"together they need {format_bytes(sum(needed))}, and {format_bytes(room)} are free"

    def _together(self, left: list[Job], sampling: Sampling) -> Iterator[Outcome]:
        """In turn; each step gives at least one of them its outcome, until none is left."""
        started, clock = time.time(), time.monotonic()
        while left:
            try:
                reply = self._ask(left, sampling)
            except LostError as lost:
                stage = self._died_in or ""
                if stage == "energy":  # the times were fine: once more, without the joules
                    less = structs.replace(sampling, energy=False)
                    note = Note(kind=BROKEN, text=f"{lost.reason} in pass energy: {lost.detail}")
                    yield from (_noted(one, note) for one in self._together(left, less))
                    return
                blamed = [job for job in left if stage.endswith(f" of {job.point.block}")]
                if len(left) > 1 and stage and not blamed:
                    yield from self._each_apart(left, lost.detail, sampling)
                    return
                for job in blamed or left:
                    yield self._failed(job, lost, started, clock)
                    left = [one for one in left if one is not job]
                continue
            if reply.apart is not None:
                self._end(kill=True)
                self._apart = (min(job.point.context for job in left), reply.apart)
                yield from self._each_apart(left, reply.apart, sampling)
                return
            yield from reply.outcomes
            known = {outcome.key for outcome in reply.outcomes}
            left = [job for job in left if job.key not in known]
            if any(_is_fatal(outcome) for outcome in reply.outcomes):
                self._end(kill=True)  # the device context may be poisoned

    def _each_apart(self, jobs: Sequence[Job], why: str, sampling: Sampling) -> Iterator[Outcome]:
        """One after the other, each in a process of its own."""
        names = [job.point.block for job in jobs]
        for job in jobs:
            self._end()
            others = ", ".join(name for name in names if name != job.point.block)
            note = Note(kind=APART, text=f"measured in a process without {others}: {why}")
            for outcome in self._together([job], sampling):
                yield _noted(outcome, note)
        self._end()

    def _ask(self, jobs: Sequence[Job], sampling: Sampling) -> wire.Paired:
        """One answer. Raises LostError, the stage it died in (None: at its start) then noted."""
        return self._host.persist(lambda: self._attempt(jobs, sampling))

    def _attempt(self, jobs: Sequence[Job], sampling: Sampling) -> wire.Paired:
        self._died_in = None
        try:
            if self._worker is None:
                self._worker = self._host.start(self._visit.round)
            request = wire.Pair(
                jobs=tuple(jobs),
                chosen=tuple(self._host.chosen(job) for job in jobs),
                sampling=sampling,
            )
            deadline_s = sum(self._host.deadline_s(job) for job in jobs)
            reply = self._worker.ask(request, deadline_s + _extra_s(sampling, len(jobs)))
            if not isinstance(reply, wire.Paired) or not _answers(reply, jobs):
                self._worker.kill()
                raise LostError("crash", "gave no valid answer: not the outcomes of the visit")
            return reply
        except LostError:
            if self._worker is not None:
                self._died_in = self._worker.stage
            self._end()
            raise

    def _failed(self, job: Job, lost: LostError, started: float, clock: float) -> Failure:
        return self._host.failure(job, lost, started, clock)

    def _end(self, kill: bool = False) -> None:
        if self._worker is not None:
            if kill:
                self._worker.kill()
            self._worker.end()
            self._worker = None


def _answers(reply: wire.Paired, jobs: Sequence[Job]) -> bool:
    """Whether a reply gives outcomes of these jobs, or says why several cannot be together."""
    told = {outcome.key for outcome in reply.outcomes}
    if reply.apart is not None:
        return not told and len(jobs) > 1
    return bool(told) and told <= {job.key for job in jobs}


def _extra_s(sampling: Sampling, contenders: int) -> float:
    if sampling.mode == "cold":
        return sampling.length_s
    window_s = sampling.window_s + _WINDOW_EXTRA_S + (_ENERGY_S if sampling.energy else 0.0)
    return sampling.windows * contenders * window_s


def _is_fatal(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and outcome.reason != "unsupported"


def _noted(outcome: Outcome, note: Note) -> Outcome:
    if isinstance(outcome, Measurement):
        return structs.replace(outcome, notes=(*outcome.notes, note))
    return outcome
