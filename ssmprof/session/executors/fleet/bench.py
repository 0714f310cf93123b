"""A run's jobs on their way through the scheduler to the workers of one kind, and back.

Only what a worker says in strict records reaches the run: whatever else happens to a job becomes
its Failure, which a resumed run measures again.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, cast

import msgspec
from distributed import Client, as_completed
from distributed.client import ClosedClientError
from distributed.scheduler import KilledWorker
from msgspec.structs import replace

from ssmprof.errors import SsmprofError
from ssmprof.measure import environment
from ssmprof.measure.workers.decisions import Decided
from ssmprof.records import DisabledPass, Failure, Job, Outcome, Trials, Visit
from ssmprof.session.executors.fleet.post import (
    NAME,
    RESOURCE,
    Reply,
    Request,
    Terms,
    answer,
    resource,
)
from ssmprof.session.executors.protocol import Desk, Kind

_AHEAD = 2  # jobs per worker that are with the scheduler
_LOST = ("cancelled", "lost")
_LOOK_S = 0.1


class FleetBench:
    """The devices called `device` at work on one run."""

    def __init__(
        self,
        client: Client,
        desk: Desk,
        device: str,
        kind: Kind,
        workers: int,
    ) -> None:
        self._client = client
        self._desk = desk
        self._device = device
        self._kind: Kind = kind
        self._ahead = _AHEAD * workers
        self._resources = {RESOURCE: 1, resource(device): 1}
        self._met: set[str] = set()
        self._decisions = tuple(desk.decisions)
        self._disabled: tuple[DisabledPass, ...] = tuple(desk.disabled)
        self._failed = [one for one in desk.outcomes if isinstance(one, Failure)]
        self._terms: msgspec.Raw | None = None
        self._numbers = itertools.count()
        self._flying: dict[Any, Request] = {}
        self._stopped = False

    def decide(self, asked: Iterable[Trials]) -> Decided:
        """Each question asked of one device: all have one name. Several are asked at once."""
        sent = [(one, self._send(Request(terms=self._told(), trials=(one,)))) for one in asked]
        found = Decided(())
        for trials, future in sent:
            try:
                told = self._read(future.result())
                lost = f"{trials.label()}: {told.failed or 'no answer of the fleet'}"
                said = told.decided or Decided((), (lost,))
            except (KilledWorker, CancelledError, msgspec.MsgspecError, TypeError) as error:
                said = Decided((), (f"{trials.label()}: {error}",))
            found = Decided(found.decisions + said.decisions, found.problems + said.problems)
        if found.decisions:
            self._decisions += found.decisions
            self._terms = None
        return found

    def __call__(self, todo: Iterable[Job | Visit]) -> Iterator[Outcome]:
        """Outcomes job by job, as the devices finish them."""
        requests = (self._request(one) for one in _visits(todo))
        landed = as_completed([], loop=self._client.loop)
        try:
            for request in itertools.islice(requests, self._ahead):
                self._fly(request, landed)
            for future in landed:
                request = self._flying.pop(future)
                if self._stopped:
                    return
                if future.status in _LOST and self._is_back():
                    self._fly(request, landed)
                    continue
                yield from self._outcomes(future, request)
                for following in itertools.islice(requests, 1):
                    self._fly(following, landed)
        finally:
            self._cancel()
            self._flying.clear()

    def stop(self) -> None:
        """Have whoever waits for an outcome wait no longer."""
        self._stopped = True
        self._cancel()

    def _cancel(self) -> None:
        with suppress(ClosedClientError):  # then nothing flies
            self._client.cancel(list(self._flying))

    def heed(self, *_: object) -> None:
        """What others find reaches the workers with their next job."""

    def _fly(self, request: Request, landed: Any) -> None:
        future = self._send(request)
        self._flying[future] = request
        landed.add(future)

    def _is_back(self) -> bool:
        """Whether the scheduler is, after the network failed: it forgot what it was sent then.

        Dask's client tries for `distributed.comm.timeouts.connect`.
        """
        if self._client.status == "connecting":
            self._desk.warned("the scheduler does not answer; waiting for it")
        while self._client.status == "connecting" and not self._stopped:
            time.sleep(_LOOK_S)
        return self._client.status == "running" and not self._stopped

    def _request(self, asked: list[Job] | Visit) -> Request:
        jobs = asked.jobs() if isinstance(asked, Visit) else tuple(asked)
        return Request(
            terms=self._told(),
            jobs=() if isinstance(asked, Visit) else jobs,
            predicted=tuple(self._desk.predict(job) for job in jobs),
            visit=asked if isinstance(asked, Visit) else None,
        )

    def _told(self) -> Terms:
        """What a worker is to know before it measures, as JSON: made again only where it grew."""
        if self._terms is None:
            terms = Terms(
                folder=str(self._desk.folder),
                examine=self._desk.examine,
                outcomes=tuple(self._failed),
                decisions=self._decisions,
                disabled=self._disabled,
            )
            self._terms = msgspec.Raw(msgspec.json.encode(terms))
        return cast("Terms", self._terms)

    def _send(self, request: Request) -> Any:
        return self._client.submit(
            answer,
            msgspec.json.encode(request),
            key=f"{NAME}-{id(self)}-{next(self._numbers)}",
            pure=False,
            resources=self._resources,
        )

    def _read(self, letter: object) -> Reply:
        """A worker's answer, held against the records. Raises msgspec.MsgspecError."""
        reply = msgspec.json.decode(letter if isinstance(letter, bytes) else b"", type=Reply)
        for machine in reply.environments:
            if machine.fingerprint not in self._met:
                self._met.add(machine.fingerprint)
                self._desk.meet(machine)
                if machine.calibration is not None:
                    self._desk.examined(machine.calibration)
        for found in reply.disabled:
            self._disabled += (found,)
            self._terms = None
            self._desk.disable(found)
        for text in reply.warned:
            self._desk.warned(text)
        return reply

    def _outcomes(self, future: Any, request: Request) -> Iterator[Outcome]:
        """One outcome for each job, whatever happened to it."""
        jobs = request.visit.jobs() if request.visit is not None else request.jobs
        if future.status in _LOST:
            raise SsmprofError(
                "the scheduler of the fleet is gone", cause="every outcome so far is kept",
                fix=f"start it again, then ssmprof sweep --resume {self._desk.folder}",
            )  # fmt: skip
        try:
            reply = self._read(future.result())
            found = {one.key: one for one in reply.outcomes}
            why = reply.failed or "gave other outcomes than those of its job"
        except KilledWorker as killed:
            found = {}
            why = f"{killed.allowed_failures + 1} workers of the fleet died over this job"
        except (msgspec.MsgspecError, TypeError) as error:
            found, why = {}, f"gave no valid answer: {error}"
        for job in jobs:
            outcome = found.get(job.key) or self._missing(job, why)
            if isinstance(outcome, Failure):
                self._failed.append(outcome)
                self._terms = None
            yield outcome

    def _missing(self, job: Job, why: str) -> Failure:
        machine = replace(environment.bare(self._kind), device=self._device)
        if machine.fingerprint not in self._met:
            self._met.add(machine.fingerprint)
            self._desk.meet(machine)
        return Failure(
            point=job.point, round=job.round, environment=machine.fingerprint, reason="crash",
            detail=why, transient=True,
        )  # fmt: skip


def _visits(todo: Iterable[Job | Visit]) -> Iterator[list[Job] | Visit]:
    """What one worker does in one go: a visit, or the jobs of a block in a round."""

    def group(one: Job | Visit) -> object:
        return one.round if isinstance(one, Visit) else (one.point.block_digest, one.round)

    for _, members in itertools.groupby(todo, group):
        jobs: list[Job] = []
        for one in members:
            if isinstance(one, Visit):
                yield one
            else:
                jobs.append(one)
        if jobs:
            yield jobs
