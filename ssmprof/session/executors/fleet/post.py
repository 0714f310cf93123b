"""What runs on a worker of a fleet: one executor, its bench, and letters in and out.

Both directions are JSON of strict records, so that nothing a worker says is unpickled by who writes
the run. A bench stays open for as long as run, decisions and disabled passes are the same.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, cast

import msgspec
from distributed import WorkerPlugin, get_worker
from msgspec import Struct

from ssmprof import __version__
from ssmprof.measure.workers.decisions import Decided
from ssmprof.records import (
    Calibration,
    Decision,
    DisabledPass,
    Environment,
    Job,
    Outcome,
    Trials,
    Visit,
)
from ssmprof.session.executors.fleet.door import ADMIT
from ssmprof.session.executors.protocol import Bench, Desk, Executor, Kind

NAME = "ssmprof"
RESOURCE = f"{NAME}-device"  # each worker has one: a job holds its device alone
SHARE = "SSMPROF_FLEET_SHARE"  # `0/2`: the first half of this host's cores


def resource(device: str) -> str:
    """What a worker with such a device has, once it is admitted."""
    return f"{RESOURCE}: {device}"


class Terms(Struct, frozen=True, kw_only=True):
    """What a bench is opened with, and what is to be heeded since; it only grows in a run."""

    folder: str
    examine: bool
    outcomes: tuple[Outcome, ...] = ()
    decisions: tuple[Decision, ...] = ()
    disabled: tuple[DisabledPass, ...] = ()


class Request(Struct, frozen=True, kw_only=True):
    """One block's visit to a device: jobs, or a visit, or questions of who runs which op."""

    terms: Terms
    jobs: tuple[Job, ...] = ()
    predicted: tuple[int | None, ...] = ()
    visit: Visit | None = None
    trials: tuple[Trials, ...] = ()


class Reply(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came of it. Environments come with their examination, before outcomes that need them.

    `failed` says why the executor could not go on; its exception stays on the worker.
    """

    environments: tuple[Environment, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    disabled: tuple[DisabledPass, ...] = ()
    decided: Decided | None = None
    warned: tuple[str, ...] = ()
    failed: str | None = None


class Description(Struct, frozen=True, kw_only=True):
    """A worker: its version of ssmprof and its device, or why it has none. Memory in bytes."""

    version: str
    device: str = ""
    kind: Kind = "cpu"
    memory_bytes: int | None = None
    missing: str | None = None


class Post(WorkerPlugin):
    """The executor of this worker, made by `make` when the worker is admitted.

    A worker with a device and the version of ssmprof that asks for it has a resource by the
    device's name from then on; one that starts later, too. Nothing is sent to others.
    """

    name = NAME

    def __init__(self, make: Callable[[], Executor], asked: str = __version__) -> None:
        self._make = make
        self._asked = asked
        self._executor: Executor | None = None
        self._bench: Bench | None = None
        self._terms: Terms | None = None
        self._open = ExitStack()
        self._told: list[Environment] = []
        self._disabled: list[DisabledPass] = []
        self._warned: list[str] = []
        self._predicted: dict[str, int | None] = {}
        self._own: set[str] = set()

    async def setup(self, worker: Any) -> None:
        """Tell the scheduler what this worker is good for."""
        told = msgspec.json.decode(self.describe(), type=Description)
        if told.missing is None and told.version == self._asked:
            mine = resource(told.device)
            if mine not in worker.state.total_resources:
                worker.state.total_resources[mine] = worker.state.available_resources[mine] = 1
            await getattr(worker.scheduler, ADMIT)(worker=worker.address, resource=mine)

    def teardown(self, worker: object) -> None:
        """End the bench, and give the device back."""
        self._open.close()
        if self._executor is not None:
            self._executor.close()

    def describe(self) -> bytes:
        """Who this is. Raises nothing that an executor raises."""
        try:
            found = self._here()
            told = Description(
                version=__version__, device=found.name, kind=found.kind,
                memory_bytes=found.memory_bytes,
            )  # fmt: skip
        except Exception as error:
            told = Description(version=__version__, missing=str(error))
        return msgspec.json.encode(told)

    def answer(self, letter: bytes) -> bytes:
        """Measure what is asked for. Raises nothing that an executor raises."""
        request = msgspec.json.decode(letter, type=Request)
        keys = (job.key for job in request.jobs)
        self._predicted.update(zip(keys, request.predicted, strict=False))
        outcomes: list[Outcome] = []
        decided = failed = None
        try:
            bench = self._at(request.terms)
            todo = [*request.jobs, *([request.visit] if request.visit is not None else [])]
            outcomes.extend(bench(todo) if todo else ())
            decided = bench.decide(request.trials) if request.trials else None
        except Exception as error:
            traceback.print_exc()
            failed = f"the worker's executor failed: {type(error).__name__}: {error}"
            self._shut()
        self._own.update(one.key for one in outcomes)
        reply = Reply(
            environments=tuple(self._told),
            outcomes=tuple(outcomes),
            disabled=tuple(self._disabled),
            decided=decided,
            warned=tuple(self._warned),
            failed=failed,
        )
        self._disabled.clear()
        self._warned.clear()
        return msgspec.json.encode(reply)

    def _shut(self) -> None:
        """End a bench that failed: the next job opens another one."""
        self._bench = self._terms = None
        with suppress(Exception):
            self._open.close()

    def _here(self) -> Executor:
        if self._executor is None:
            _take_share()
            self._executor = self._make()
        return self._executor

    def _at(self, terms: Terms) -> Bench:
        """The bench for these terms: the open one, told what others found, where they grew."""
        if self._bench is None or self._terms is None or not _grew(self._terms, terms):
            self._open.close()
            self._told.clear()
            self._own.clear()
            self._bench = self._open.enter_context(self._here().open(self._desk(terms)))
        elif self._terms != terms:
            before = self._terms
            new = terms.outcomes[len(before.outcomes) :]
            self._bench.heed(
                [one for one in new if one.key not in self._own],
                terms.decisions[len(before.decisions) :],
                terms.disabled[len(before.disabled) :],
            )
        self._terms = terms
        return self._bench

    def _desk(self, terms: Terms) -> Desk:
        return Desk(
            folder=Path(terms.folder),
            examine=terms.examine,
            outcomes=terms.outcomes,
            decisions=terms.decisions,
            disabled=terms.disabled,
            predict=lambda job: self._predicted.get(job.key),
            meet=self._told.append,
            disable=self._disabled.append,
            telemetry=_unheard,
            examined=_unheard,
            warned=self._warned.append,
        )


def _unheard(_: object | Calibration) -> None:
    """Readings beside a fleet have no device to their name; an examination is in its machine."""


def _grew(before: Terms, now: Terms) -> bool:
    """Whether `now` is what was known before, and perhaps more."""
    return (before.folder, before.examine) == (now.folder, now.examine) and all(
        new[: len(old)] == old
        for old, new in (
            (before.outcomes, now.outcomes),
            (before.decisions, now.decisions),
            (before.disabled, now.disabled),
        )
    )


def _take_share() -> None:
    """Keep to this worker's part of the host's cores: its processes inherit it."""
    mine, _, every = os.environ.get(SHARE, "").partition("/")
    if every:
        cores = sorted(os.sched_getaffinity(0))
        first, last = (len(cores) * at // int(every) for at in (int(mine), int(mine) + 1))
        os.sched_setaffinity(0, cores[first:last] or cores)


def answer(letter: bytes) -> bytes:
    """A task of the fleet."""
    return cast("Post", get_worker().plugins[NAME]).answer(letter)


def describe(dask_worker: Any) -> bytes:
    """What every worker is asked before anything is measured."""
    return dask_worker.plugins[NAME].describe()
