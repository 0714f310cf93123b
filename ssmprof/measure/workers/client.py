"""`measure(jobs) -> outcomes`, with every job run in a worker process: the production `measure`.

A worker serves one block in one round and is replaced after a failure; a visit has a worker of its
own. Memory is weighed before, in a fresh process per point, so that the history of a worker and the
room it takes change nothing.
Whatever happens to a worker, the job yields exactly one outcome, and no process outlives `close`.
What was ended from outside is tried again in a fresh process, and is marked where that fails, too.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from msgspec import structs

from ssmprof.measure.board import suspected
from ssmprof.measure.workers import wire
from ssmprof.measure.workers.decisions import Decided, Deciding
from ssmprof.measure.workers.limits import DisabledPasses, Limits
from ssmprof.measure.workers.process import LostError, Watch, Worker
from ssmprof.measure.workers.retry import Remains, persistently
from ssmprof.measure.workers.scales import Scales
from ssmprof.measure.workers.staff import Staff
from ssmprof.measure.workers.visiting import Host, Visiting
from ssmprof.measure.workers.worker import BROKEN
from ssmprof.records import (
    Decision,
    DisabledPass,
    Environment,
    Failure,
    Job,
    Measurement,
    Note,
    Outcome,
    Trials,
    Visit,
    providers_at,
)
from ssmprof.units import format_bytes

RUNNER = "ssmprof.measure.point:PointRunner"
# The first call of a block may compile dozens of kernels, and implementations tune themselves: 73 s
# were seen on an H100 with an empty cache. That is no hang.
FIRST_CALL_S = 180.0

Group = tuple[str, int] | None


class Client:
    """Measures jobs on this machine's device. Use as a context manager, call it with jobs.

    `known` are outcomes of earlier sessions (what did not fit then is not tried again), `decisions`
    say who runs which op (`decide` adds to them; every worker obeys), `disabled` passes are not
    asked for and `on_disabled` is told when one more killed its worker,
    `on_environment` is told every new environment before the first outcome that refers to it,
    `watch` looks at the host while a worker runs, `room` says how many bytes a new worker may take
    where CPU and GPU share a memory (what is predicted to need more is not tried), `first_call_s`
    is what the first call of a block may take beyond the deadline of its point, `predict` gives a
    job's bytes and `folder` (the run's) keeps stacks. `environ` and `runner` exist for tests and
    for foreign runners.
    """

    def __init__(
        self,
        device: Literal["cuda", "cpu"],
        *,
        known: Iterable[Outcome] = (),
        decisions: Iterable[Decision] = (),
        disabled: Iterable[DisabledPass] = (),
        on_disabled: Callable[[DisabledPass], object] = lambda _: None,
        on_environment: Callable[[Environment], object] | None = None,
        watch: Watch | None = None,
        room: Callable[[], int | None] | None = None,
        predict: Callable[[Job], int | None] | None = None,
        folder: Path | None = None,
        first_call_s: float = FIRST_CALL_S,
        runner: str = RUNNER,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.device: Literal["cuda", "cpu"] = device
        self._staff = Staff(runner, device, environ, watch, on_environment)
        self._scales = Scales(self._weighing)
        self._limits = Limits(known)
        self._room = room or (lambda: None)
        self._free: int | None = None
        self._predict = predict or (lambda _: None)
        self._folder = None if folder is None else str(folder.resolve())
        self._first_call_s = first_call_s
        self._called: set[str] = set()
        self._worker: Worker | None = None
        self._group: Group | None = None
        self._decisions = tuple(decisions)
        self._disabled = DisabledPasses(disabled, on_disabled)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def environments(self) -> dict[str, Environment]:
        """The machines of its workers, by fingerprint."""
        return self._staff.environments

    def close(self) -> None:
        """End the worker and its launcher, and everything they started."""
        self._end_worker()
        self._staff.close()

    def __call__(self, jobs: Iterable[Job | Visit]) -> Iterator[Outcome]:
        """Yield one outcome per job (of a visit: per point), in the order of the jobs."""
        for group, members in itertools.groupby(jobs, _group):
            todo: list[Job] = []
            if group is None or group != self._group:
                self._end_worker()
                self._group = group
            for one in members:
                if isinstance(one, Visit):
                    yield from Visiting(self._host(), one)()
                else:
                    todo.append(one)
            self._weigh(todo)
            for job in todo:
                outcome = self._outcome(job)
                self._limits.learn(outcome)
                yield outcome

    def decide(self, asked: Iterable[Trials]) -> Decided:
        """Who runs which op: asked in two processes, obeyed by all workers from now on."""
        self._end_worker()
        found = Deciding(
            lambda: self._staff.start(0),
            lambda: self._staff.environments[self._staff.fingerprint or ""],
            lambda one: len(one.points) * one.budget.timeout_s + self._first_call_s,
        )(asked)
        self._decisions += found.decisions
        return found

    def heed(
        self,
        outcomes: Iterable[Outcome],
        decisions: Iterable[Decision],
        disabled: Iterable[DisabledPass],
    ) -> None:
        """Obey from now on what other clients of the run found, too."""
        for outcome in outcomes:
            self._limits.learn(outcome)
        self._decisions += tuple(decisions)
        self._disabled.add(disabled)

    def _chosen(self, job: Job) -> dict[str, str]:
        """Op -> provider that is decided for this job; empty until a worker told its device."""
        machine = self._staff.machine
        return {} if machine is None else providers_at(self._decisions, job.point, machine.device)

    def _host(self) -> Host:
        """What a visit may use of this client."""
        return Host(
            start=self._staff.start,
            failure=lambda job, lost, began, clock: self._failure(
                job, lost, began, clock, self._predict(job)
            ),
            deadline_s=self._deadline_s,
            verdict=lambda job: self._limits.verdict(job.point, self._predict(job)),
            learn=self._limits.learn,
            predicted=self._predict,
            room_bytes=self._room,
            chosen=self._chosen,
            persist=persistently,
        )

    def _outcome(self, job: Job) -> Outcome:
        started, clock = time.time(), time.monotonic()
        predicted = self._predict(job)
        verdict = self._limits.verdict(job.point, predicted) or self._cramped(predicted)
        if verdict is not None:
            return self._failure(job, LostError("skipped", verdict), started, clock, predicted)
        remains = Remains()
        try:
            reply = persistently(lambda: self._attempt(job, remains))
        except LostError as lost:
            if remains.kept is not None:
                return self._without(remains.kept, remains.stages, lost, job)
            return self._failure(job, lost, started, clock, predicted)
        if not isinstance(reply, wire.Answer) or reply.outcome.key != job.key:
            self._end_worker(kill=True)
            lost = LostError("crash", f"gave no valid answer: not that of {job.point.label()}")
            return self._failure(job, lost, started, clock, predicted)
        if isinstance(reply.outcome, Failure):
            if reply.outcome.reason != "unsupported" or self._stage() == "capture":
                self._end_worker(kill=True)  # the device context may be poisoned
            return self._suspected(structs.replace(reply.outcome, predicted_bytes=predicted))
        if any(note.kind == BROKEN for note in reply.outcome.notes):
            self._end_worker(kill=True)
        return self._scales.joined(reply.outcome, job)

    def _attempt(self, job: Job, remains: Remains) -> wire.Reply:
        """The worker's answer. Raises LostError, what the worker left behind then noted."""
        first = job.point.block_digest not in self._called
        try:
            worker = self._serving(job)  # it tells the device, on which the providers depend
            asked = self._disabled.of(job, self._staff.fingerprint or "")
            request = wire.Measure(job=asked, chosen=self._chosen(job), folder=self._folder)
            return worker.ask(request, self._deadline_s(job))
        except LostError as lost:
            remains.add(self._worker, job)
            self._end_worker()
            if first and lost.transient:
                self._called.discard(job.point.block_digest)
            raise

    def _cramped(self, predicted: int | None) -> str | None:
        """Why a point is too large for the memory that was free before its worker started."""
        if self._worker is None:
            self._free = self._room()
        if predicted is None or self._free is None or predicted <= self._free:
            return None
        return f"needs {format_bytes(predicted)}; the board can give {format_bytes(self._free)}"

    def _failure(
        self, job: Job, lost: LostError, started: float, clock: float, predicted: int | None
    ) -> Failure:
        failed = Failure(
            point=job.point,
            round=job.round,
            environment=self._staff.known(),
            reason=lost.reason,
            detail=lost.detail,
            predicted_bytes=predicted,
            transient=lost.transient,
            started_unix_s=started,
            wall_s=time.monotonic() - clock,
        )
        return self._suspected(failed)

    def _suspected(self, failed: Failure) -> Failure:
        """A lack of memory with memory to spare names the driver that is known for it."""
        return suspected(failed, self._staff.environments.get(failed.environment), self._free)

    def _deadline_s(self, job: Job) -> float:
        first = job.point.block_digest not in self._called
        self._called.add(job.point.block_digest)
        return job.budget.timeout_s + (self._first_call_s if first else 0.0)

    def _serving(self, job: Job) -> Worker:
        if self._worker is None:
            self._worker = self._staff.start(job.round)
        return self._worker

    def _stage(self) -> str:
        return self._worker.stage if self._worker is not None else ""

    def _without(
        self, kept: Measurement, stages: list[str], lost: LostError, job: Job
    ) -> Measurement:
        """A pass killed the worker: its latency stands, and the pass is not asked for again.

        Where several attempts died, each in another pass, no pass is to blame.
        """
        if len(set(stages)) == 1:
            where = self._staff.fingerprint or kept.environment
            self._disabled.blame(stages[0], job, where, lost.detail)
        note = Note(kind=BROKEN, text=f"{lost.reason} in pass {stages[-1]}: {lost.detail}")
        return self._scales.joined(structs.replace(kept, notes=(*kept.notes, note)), job)

    def _end_worker(self, kill: bool = False) -> None:
        if self._worker is not None:
            if kill:
                self._worker.kill()
            self._worker.end()
            self._worker = None

    def _weigh(self, jobs: Iterable[Job]) -> None:
        """Memory of every point that asks for it, each in a worker that has run nothing else."""
        for job in jobs:
            if not self._scales.lacks(job):
                continue
            if self._limits.verdict(job.point) is not None:
                continue
            self._end_worker()  # the room must be free
            if self._cramped(self._predict(job)) is not None:
                continue
            self._scales.weigh(job)

    def _weighing(self, job: Job) -> wire.Reply:
        worker = self._staff.start(job.round)
        try:
            request = wire.Weigh(job=job, chosen=self._chosen(job))
            return worker.ask(request, self._deadline_s(job))
        finally:
            worker.end()


def _group(job: Job | Visit) -> Group:
    """Jobs of one worker; a visit belongs to none."""
    return None if isinstance(job, Visit) else (job.point.block_digest, job.round)
