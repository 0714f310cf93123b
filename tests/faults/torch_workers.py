"""A campaign against workers that measure with torch, on this machine's CPU."""

from __future__ import annotations

import os
from pathlib import Path

import fakes
import make
from ledger import Ledger, check_equal, check_kept, check_nothing_left, check_once, loaded, timed
from msgspec import structs
from workers import Striker, swept

from ssmprof.measure.workers import control, pool, process
from ssmprof.measure.workers.client import Client
from ssmprof.records import Failure, Job, Outcome

STRIKES = ["worker killed", "worker: bus error", "worker aborted"] * 9
STRIKES += ["launcher killed"] * 3 + ["launcher stopped"] + ["launcher and worker killed"]
BUDGET = structs.replace(make.QUICK, min_time_s=0.1, timeout_s=60.0)


def jobs() -> list[Job]:
    """Tiny blocks, long enough measured to be hit."""
    return [
        make.job(name, context, budget=BUDGET)
        for name in ("attention", "mamba2")
        for context in range(32, 32 * 16, 32)
    ]


def _client(**changes: object) -> Client:
    environ = {**fakes.ENVIRON, "OMP_NUM_THREADS": "1", **changes.pop("environ", {})}
    return Client("cpu", environ=environ, **changes)


def struck(path: Path, seed: int, ledger: Ledger) -> None:
    """Torch workers and their launchers are hit; a resume completes the run."""
    control.ANSWER_S = 5.0
    process.FAREWELL_S = pool.FAREWELL_S = 1.0
    todo = jobs()
    with _client() as client:
        swept(path / "whole", todo, client)
    whole = loaded(path / "whole", ledger, "uninterrupted")
    striker = Striker(seed, list(STRIKES), ledger, torch=True)
    look = timed(240.0, ledger, "torch")
    for turn in range(6):  # what one run leaves of the plan strikes the next one
        if striker.plan:
            _run(path, f"run-{turn}", striker, todo, whole, ledger)
    look()


def _run(
    path: Path, name: str, striker: Striker, todo: list[Job], whole: dict[str, Outcome],
    ledger: Ledger,
) -> None:  # fmt: skip
    tag = f"tag-torch-{os.getpid()}"
    told: list[str] = []
    with _client(watch=striker, environ={"SSMPROF_TEST_TAG": tag}) as client:
        swept(path / name, todo, client, lambda outcome: told.append(outcome.key))
    first = check_kept({}, path / name, ledger, name, told)
    for outcome in first.values():
        if isinstance(outcome, Failure) and not outcome.transient:
            ledger.find("resumed runs that differ", f"torch: {outcome.reason}: {outcome.detail}")
    with _client() as client:
        swept(path / name, todo, client)
    now = check_kept(first, path / name, ledger, name)
    check_equal(now, whole, ledger, name, same=_answered)
    check_once(path / name / "outcomes.jsonl", ledger, name)
    check_nothing_left(tag, path / "tmp", ledger, name)


def _answered(outcome: Outcome) -> object:
    """Two measurements differ in their times; that there is one may not."""
    return type(outcome), outcome.key
