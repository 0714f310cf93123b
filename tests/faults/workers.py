"""Campaigns against workers and launchers: they die, hang, lie and cannot be started."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import fakes
import make
from ledger import Ledger, check_equal, check_kept, check_nothing_left, check_once, loaded, timed
from msgspec import structs

from ssmprof.measure.workers import control, pool, process
from ssmprof.measure.workers.client import Client
from ssmprof.measure.workers.pool import living
from ssmprof.records import Failure, Job, Outcome
from ssmprof.session.loop import measure_all
from ssmprof.store import folder

ASKED = make.scenario()
HURRIED = structs.replace(make.QUICK, timeout_s=0.5)
# What a worker does, how often at most; None is each time.
PASSING = [f"{kind} {times}" for kind in ("kill", "segfault", "orphan") for times in (1, 2)]
PASSING += ["litter 1"]
DEADLY = ["kill", "segfault", "orphan"]
RESULTS = ["out-of-memory", "unsupported", "illegal-address", "exit", "rubbish", "wrong"]


def jobs(count: int) -> list[Job]:
    """Jobs of three blocks, each on a curve of its own: no failure is a reason to skip another."""
    names = ("attention", "mamba1", "mamba2")
    return [make.job(names[3 * turn // count], 64 + turn, seed=turn) for turn in range(count)]


def swept(
    path: Path, todo: Iterable[Job], client: Client, told: Callable[[Outcome], Any] = lambda _: None
) -> None:
    """Measure what the run folder lacks of these jobs; it is made where it is missing."""
    opened = folder.resume(path) if path.exists() else folder.create(path, ASKED)
    with opened as run:
        client._staff._on_environment = run.add_environment
        for found in client.environments.values():
            run.add_environment(found)
        measure_all(
            ASKED, run.journal, client, lambda *_: (), expand=lambda _: todo, on_outcome=told
        )


def whole(path: Path, todo: list[Job], ledger: Ledger) -> dict[str, Outcome]:
    """The run when nothing happens to it."""
    with fakes.client() as client:
        swept(path, todo, client)
    return loaded(path, ledger, "uninterrupted")


def dying(path: Path, seed: int, ledger: Ledger) -> None:
    """Each worker meets the fault of its job: in passing, each time, or as a result."""
    draw = random.Random(seed)
    todo = jobs(150)
    kinds = (PASSING * 8 + DEADLY * 8 + RESULTS * 8 + ["hang"] * 5 + ["closed-pipe"])[: len(todo)]
    draw.shuffle(kinds)
    faults = {job.key: kind for job, kind in zip(todo, kinds, strict=False)}
    todo = [
        structs.replace(job, budget=HURRIED) if faults.get(job.key) == "hang" else job
        for job in todo
    ]
    expected = whole(path / "whole", todo, ledger)
    for job in todo:
        if (kind := faults.get(job.key, "")) in (*RESULTS, "hang"):
            reason: Any = fakes.EXPECTED.get(kind) or "crash"
            failed = Failure(
                point=job.point, round=0, environment="", reason=reason, detail="expected"
            )
            expected[job.key] = failed
    tag = f"tag-dying-{os.getpid()}"
    look = timed(240.0, ledger, "dying workers")
    told: list[str] = []
    with fakes.client(faults, path, environ={"SSMPROF_TEST_TAG": tag}) as client:
        swept(path / "run", todo, client, lambda outcome: told.append(outcome.key))
    for kind in faults.values():
        ledger.inject(f"worker: {kind.split()[0]}")
    first = check_kept({}, path / "run", ledger, "dying workers", told)
    for job in todo:
        kind, outcome = faults.get(job.key, ""), first.get(job.key)
        transient = isinstance(outcome, Failure) and outcome.transient
        if transient != (kind in (*DEADLY, "closed-pipe")):
            ledger.find("resumed runs that differ", f"{kind}: {outcome}")
    with fakes.client() as client:
        swept(path / "run", todo, client)
    look()
    now = check_kept(first, path / "run", ledger, "dying workers")
    check_equal(now, expected, ledger, "dying workers")
    check_once(path / "run" / "outcomes.jsonl", ledger, "dying workers")
    check_nothing_left(tag, path / "tmp", ledger, "dying workers")


class Striker:
    """Strikes at workers and launchers while a point is measured: a `Watch` of the client."""

    period_s = 0.01

    def __init__(self, seed: int, plan: list[str], ledger: Ledger, torch: bool = False) -> None:
        self.draw = random.Random(seed)
        self.plan = plan
        self.ledger = ledger
        self.torch = torch
        self.draw.shuffle(plan)

    def __call__(self, pid: int) -> str | None:
        if self.plan and self.draw.random() < 0.3:
            self.strike(self.plan.pop(), pid)
        return None

    def strike(self, kind: str, worker: int) -> None:
        """Send what the plan says, to whom it says."""
        (launcher,) = living
        signals = {
            "worker killed": [(worker, signal.SIGKILL)],
            "worker: bus error": [(worker, signal.SIGBUS)],
            "worker aborted": [(worker, signal.SIGABRT)],
            "launcher killed": [(launcher, signal.SIGKILL)],
            "launcher stopped": [(launcher, signal.SIGSTOP)],
            "launcher and worker killed": [(launcher, signal.SIGKILL), (worker, signal.SIGKILL)],
            "launcher told to end": [(launcher, signal.SIGTERM), (launcher, signal.SIGHUP)],
        }
        with suppress(ProcessLookupError):  # one that has ended by itself is no injection
            for pid, number in signals[kind]:
                os.kill(pid, number)
            self.ledger.inject(kind, torch=self.torch)


STRIKES = (
    ["worker killed", "worker: bus error", "worker aborted"] * 6
    + ["launcher killed"] * 12
    + ["launcher stopped"] * 6
    + ["launcher and worker killed"] * 6
    + ["launcher told to end"] * 4
)


def struck(path: Path, seed: int, ledger: Ledger) -> None:
    """Workers and launchers are hit from outside; forks fail, launchers die while they start."""
    control.ANSWER_S = 1.0
    process.FAREWELL_S = pool.FAREWELL_S = 0.3
    todo = jobs(60)
    expected = whole(path / "whole", todo, ledger)
    tag = f"tag-struck-{os.getpid()}"
    environ = {"SSMPROF_TEST_TAG": tag, fakes.NAP: "0.05"}
    refused, unstarted = 9, 4
    faults = {"fork": f"refuse {refused}", "import": f"kill {unstarted}"}
    # Some are struck while a compiler runs below them, which must go with them.
    faults |= {job.key: "compiling 1" for job in todo[:12:2]}
    striker = Striker(seed, list(STRIKES), ledger)
    look = timed(240.0, ledger, "struck")
    told: list[str] = []
    with fakes.client(faults, path, environ=environ, watch=striker) as client:
        swept(path / "run", todo, client, lambda outcome: told.append(outcome.key))
    for kind, times in (("fork refused", refused), ("launcher killed at its start", unstarted)):
        for _ in range(times):
            ledger.inject(kind)
    first = check_kept({}, path / "run", ledger, "struck", told)
    for outcome in first.values():
        if isinstance(outcome, Failure) and not outcome.transient:
            ledger.find("resumed runs that differ", f"struck: {outcome.reason}: {outcome.detail}")
    with fakes.client() as client:
        swept(path / "run", todo, client)
    look()
    now = check_kept(first, path / "run", ledger, "struck")
    check_equal(now, expected, ledger, "struck")
    check_once(path / "run" / "outcomes.jsonl", ledger, "struck")
    check_nothing_left(tag, path / "tmp", ledger, "struck")
