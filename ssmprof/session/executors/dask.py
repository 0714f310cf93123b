"""A fleet: devices of one kind behind a Dask scheduler, a job being one block's visit to a device.

Transport, retries and discovery are Dask's. A worker that dies gives its job back; one that kills
three workers becomes a Failure, which a resumed run measures again. Workers never write the run.
A scheduler executes what it is sent: beyond this host only TLS is accepted.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
from distributed import Client, Nanny, Scheduler, SpecCluster, as_completed
from distributed.scheduler import KilledWorker
from msgspec.structs import replace

from ssmprof import __version__
from ssmprof.errors import ConfigError, NoDeviceError, SsmprofError
from ssmprof.measure import environment
from ssmprof.measure.workers.decisions import Decided
from ssmprof.records import DisabledPass, Failure, Job, Outcome, Trials, Visit
from ssmprof.session.executors.local import Local
from ssmprof.session.executors.post import (
    NAME,
    SHARE,
    Description,
    Post,
    Reply,
    Request,
    Terms,
    answer,
    describe,
)
from ssmprof.session.executors.protocol import Desk, Executor, Kind

DEATHS = 3  # of workers in a row, over one job
_START_S = 120.0
_RESOURCE = {f"{NAME}-device": 1}
_QUIET: Any = logging.CRITICAL  # a level, although the type says bool
_AHEAD = 2  # jobs per worker that are with the scheduler


class Dask:
    """The workers of a scheduler; `make` makes each worker's executor, on the worker.

    Raises NoDeviceError where no worker has a device, ConfigError where versions of ssmprof or
    kinds of devices differ.
    """

    def __init__(self, client: Client, make: Callable[[], Executor] = Local) -> None:
        self._client = client
        self._close: list[Callable[[], object]] = []
        client.wait_for_workers(1, timeout=_START_S)
        client.register_plugin(Post(make), name=NAME)
        told = cast("dict[str, bytes]", client.run(describe))
        self.workers = {
            address: msgspec.json.decode(one, type=Description) for address, one in told.items()
        }
        self._described = _agreed(self.workers)

    @classmethod
    def at(cls, address: str, make: Callable[[], Executor] = Local) -> Dask:
        """The fleet of a running scheduler, whose workers have the resource `ssmprof-device=1`.

        Certificates are Dask's own settings. Raises ConfigError where anybody could send to it, or
        where it does not answer.
        """
        refuse_open(address)
        try:
            client = Client(address, set_as_default=False)
        except (OSError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{address}: no scheduler answers", cause=str(error),
                fix="dask scheduler --host 127.0.0.1 starts one",
            ) from None  # fmt: skip
        try:
            found = cls(client, make)
        except BaseException:
            client.close()
            raise
        found._close.append(client.close)
        return found

    @classmethod
    def local(
        cls, devices: Sequence[str], make: Callable[[], Executor] = Local, **environ: str
    ) -> Dask:
        """A cluster on this host: one worker for each value of CUDA_VISIBLE_DEVICES.

        The host's cores are divided between them. `environ` is added to the workers'.
        """
        many = len(devices)
        workers = {
            number: {
                "cls": Nanny,
                "options": {
                    "host": "127.0.0.1",
                    "nthreads": 1,
                    "resources": _RESOURCE,
                    "silence_logs": _QUIET,
                    "env": environ
                    | {
                        "CUDA_VISIBLE_DEVICES": device,
                        "DASK_LOGGING__DISTRIBUTED": "critical",
                        SHARE: f"{number}/{many}",
                    },
                },
            }
            for number, device in enumerate(devices)
        }
        options = {
            "host": "127.0.0.1",
            "port": 0,
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
            "allowed_failures": DEATHS - 1,
        }
        cluster = SpecCluster(
            workers=workers,
            scheduler={"cls": Scheduler, "options": options},
            silence_logs=_QUIET,
        )
        client = Client(cluster, set_as_default=False)
        try:
            client.wait_for_workers(many, timeout=_START_S)
            found = cls(client, make)
        except BaseException:
            client.close()
            cluster.close()
            raise
        found._close += [client.close, cluster.close]
        return found

    @property
    def name(self) -> str:
        return self._described.device

    @property
    def kind(self) -> Kind:
        return self._described.kind

    @property
    def memory_bytes(self) -> int | None:
        return self._described.memory_bytes

    @contextmanager
    def open(self, desk: Desk) -> Iterator[FleetBench]:
        """Benches are opened by the workers, with the first job that they are given."""
        yield FleetBench(self._client, desk, self.kind, len(self.workers))

    def close(self) -> None:
        """Leave the scheduler; end the cluster that was started here."""
        while self._close:
            self._close.pop(0)()


class FleetBench:
    """A run's jobs on their way through the scheduler."""

    def __init__(self, client: Client, desk: Desk, kind: Kind, workers: int) -> None:
        self._client = client
        self._desk = desk
        self._kind: Kind = kind
        self._ahead = _AHEAD * workers
        self._met: set[str] = set()
        self._decisions = tuple(desk.decisions)
        self._disabled: tuple[DisabledPass, ...] = tuple(desk.disabled)
        self._numbers = itertools.count()

    def decide(self, asked: Iterable[Trials]) -> Decided:
        """Asked of one device, since all are of one kind."""
        trials = tuple(asked)
        if not trials:
            return Decided(())
        request = Request(terms=self._terms(), trials=trials)
        try:
            reply = self._read(self._send(request).result())
        except KilledWorker as error:
            return Decided((), (f"{trials[0].label()}: {error}",))
        found = reply.decided or Decided((), ("no answer of the fleet",))
        self._decisions += found.decisions
        return found

    def __call__(self, todo: Iterable[Job | Visit]) -> Iterator[Outcome]:
        """Outcomes job by job, as the devices finish them."""
        requests = (self._request(one) for one in _visits(todo))
        flying: dict[Any, Request] = {}
        landed = as_completed([], loop=self._client.loop)
        try:
            for request in itertools.islice(requests, self._ahead):
                future = self._send(request)
                flying[future] = request
                landed.add(future)
            for future in landed:
                yield from self._outcomes(future, flying.pop(future))
                for request in itertools.islice(requests, 1):
                    following = self._send(request)
                    flying[following] = request
                    landed.add(following)
        finally:
            self._client.cancel(list(flying))

    def _request(self, asked: list[Job] | Visit) -> Request:
        jobs = asked.jobs() if isinstance(asked, Visit) else tuple(asked)
        return Request(
            terms=self._terms(),
            jobs=() if isinstance(asked, Visit) else jobs,
            predicted=tuple(self._desk.predict(job) for job in jobs),
            visit=asked if isinstance(asked, Visit) else None,
        )

    def _terms(self) -> Terms:
        failed = tuple(one for one in self._desk.outcomes if isinstance(one, Failure))
        return Terms(
            folder=str(self._desk.folder),
            examine=self._desk.examine,
            outcomes=failed,
            decisions=self._decisions,
            disabled=self._disabled,
        )

    def _send(self, request: Request) -> Any:
        return self._client.submit(
            answer,
            msgspec.json.encode(request),
            key=f"{NAME}-{id(self)}-{next(self._numbers)}",
            pure=False,
            resources=_RESOURCE,
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
            self._desk.disable(found)
        for text in reply.warned:
            self._desk.warned(text)
        return reply

    def _outcomes(self, future: Any, request: Request) -> Iterator[Outcome]:
        """One outcome for each job, whatever happened to it."""
        jobs = request.visit.jobs() if request.visit is not None else request.jobs
        if future.status == "cancelled" or future.status == "lost":
            raise SsmprofError(
                "the scheduler of the fleet is gone", cause="every outcome so far is kept",
                fix=f"start it again, then ssmprof sweep --resume {self._desk.folder}",
            )  # fmt: skip
        try:
            found = {one.key: one for one in self._read(future.result()).outcomes}
            why = "gave other outcomes than those of its job"
        except KilledWorker:
            found, why = {}, f"{DEATHS} workers of the fleet died over this job"
        except msgspec.MsgspecError as error:
            found, why = {}, f"gave no valid answer: {error}"
        except SsmprofError as error:
            found, why = {}, f"the worker's executor failed: {error.what}"
        for job in jobs:
            yield found.get(job.key) or self._failed(job, why)

    def _failed(self, job: Job, why: str) -> Failure:
        machine = environment.bare(self._kind)
        if machine.fingerprint not in self._met:
            self._met.add(machine.fingerprint)
            self._desk.meet(machine)
        return Failure(
            point=job.point, round=job.round, environment=machine.fingerprint, reason="crash",
            detail=why, transient=True,
        )  # fmt: skip


def refuse_open(address: str) -> None:
    """Raise ConfigError for a plain address beyond this host: a scheduler runs what it is sent."""
    found = urlsplit(address if "://" in address else f"tcp://{address}")
    host = found.hostname or ""
    try:
        here = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        here = False
    if found.scheme not in ("tls", "inproc") and not here:
        raise ConfigError(
            f"{address}: not a scheduler of this host, and without TLS",
            cause="a scheduler executes what it is sent, and anybody on the way could send",
            fix="tls://HOST:PORT with distributed's Security, or a tunnel to this host",
        )


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES leaves of this host's GPUs. Raises NoDeviceError where none is."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        import pynvml

        try:
            pynvml.nvmlInit()
            found = [str(number) for number in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError as error:
            raise NoDeviceError("no GPU found", cause=str(error)) from None
    else:
        found = [one.strip() for one in given.split(",") if one.strip()]
    if not found:
        raise NoDeviceError("no GPU found", cause="CUDA_VISIBLE_DEVICES is empty")
    return found


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


def _agreed(workers: dict[str, Description]) -> Description:
    """What all workers have in common. Raises ConfigError or NoDeviceError where they do not."""
    versions = {address: one.version for address, one in workers.items()}
    if set(versions.values()) != {__version__}:
        other = next(address for address, one in versions.items() if one != __version__)
        raise ConfigError(
            f"worker {other} has ssmprof {versions[other]}, and this is {__version__}",
            cause="points of different versions are not compared",
            fix="install the same version on both",
        )
    for address, one in workers.items():
        if one.missing is not None:
            raise NoDeviceError(f"worker {address} has no device", cause=one.missing)
    kinds = {one.device: replace(one, memory_bytes=None) for one in workers.values()}
    if len(kinds) > 1:
        raise ConfigError(
            f"a fleet of different devices: {', '.join(sorted(kinds))}",
            cause="a point is measured once, by any of them",
            fix="one sweep for each kind of device",
        )
    sizes = [one.memory_bytes for one in workers.values() if one.memory_bytes is not None]
    return replace(next(iter(workers.values())), memory_bytes=min(sizes, default=None))
