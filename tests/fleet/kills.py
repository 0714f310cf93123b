"""Workers, scheduler and client of a fleet are killed at random, over repeated virtual sweeps.

Every session of a sweep is a process that is forked from here, as are scheduler and workers; all on
the loopback. A killed process is started again, a client resumes. After each sweep its journal is
held against what the clients were told to be on the disk, and against a sweep that nobody hurt.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import crew
import fakes
import make
from camp import Camp, end, fork

from fleet.results import quantity
from ssmprof.records import Failure
from ssmprof.session.executors.fleet.dask import Dask
from ssmprof.session.progress import Progress
from ssmprof.session.run import resume, sweep
from ssmprof.store import folder
from ssmprof.store.journal import read

LEAST = 300
CARDS = ("0", "1", "2")
ASKED = make.scenario(contexts=tuple(range(64, 704, 64)), device="cpu")
KEYS = {job.key for job in make.jobs(ASKED)}
NAP_S = 0.06
# Of a hundred kills: workers go most often, as in life.
SHARES = {"worker": 70, "client": 15, "scheduler": 15}
MOST_OF_A_SWEEP = 12  # then it is left in peace, and must come to its end
_SESSION_S = 90.0


class Ledger:
    """What was done, and what came of it."""

    def __init__(self) -> None:
        self.kills: Counter[str] = Counter()
        self.sweeps = 0
        self.sessions = 0
        self.lost: list[str] = []
        self.doubled: list[str] = []
        self.hangs: list[str] = []
        self.other: list[str] = []


class _Told(Progress):
    """Writes the key of each outcome that is on the disk."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def outcome(self, outcome: Any) -> None:
        if not (isinstance(outcome, Failure) and outcome.transient):
            os.write(self._file, f"{outcome.key}\n".encode())


def session(camp: Camp, path: Path) -> int:
    """A client in a process of its own: begins the run, or goes on with it."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    log = os.open(path.parent / "client.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)
    try:
        from dask import config

        with config.set({"distributed.comm.timeouts.connect": "10s"}):
            told = _Told(path.parent / "told")
            executor = Dask.at(camp.address, crew.napping)
            if (path / "run.json").exists():
                resume(path, executor=executor, examine=False, progress=told)
            else:
                sweep(ASKED, executor=executor, examine=False, output=path, progress=told)
            failed = any(True for _ in folder.load(path).failures())
            code = 3 if failed else 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        code = 2
    finally:
        os._exit(code)


def hurt(many: int, seed: int, ledger: Ledger, scratch: Path) -> None:
    """Sweep after sweep, until so many were killed."""
    draw = random.Random(seed)
    (scratch / "camp").mkdir()
    camp = Camp(scratch / "camp", fork, **{fakes.NAP: str(NAP_S)})
    camp.start_scheduler()
    for card in CARDS:
        camp.start_worker(card)
    try:
        while sum(ledger.kills.values()) < many:
            ledger.sweeps += 1
            _sweep(camp, scratch / f"sweep-{ledger.sweeps}", draw, many, ledger)
            if ledger.sweeps % 10 == 0:
                print(f"{sum(ledger.kills.values())} kills, {ledger.sweeps} sweeps", flush=True)
    finally:
        camp.close()


def _sweep(camp: Camp, path: Path, draw: random.Random, many: int, ledger: Ledger) -> None:
    path.mkdir()
    run = path / "run"
    most = min(many, sum(ledger.kills.values()) + MOST_OF_A_SWEEP)
    for _ in range(40):
        ledger.sessions += 1
        code = _session(camp, run, draw, most, ledger)
        _held(run, path / "told", ledger, path.name)
        if code == 0:
            break
    else:
        ledger.other.append(f"{path.name}: not whole after 40 sessions")
    _whole(run, ledger, path.name)


def _session(camp: Camp, run: Path, draw: random.Random, many: int, ledger: Ledger) -> int | None:
    """One client, and what is killed while it runs; its exit code, None where it was killed."""
    _mend(camp)
    client = session(camp, run)
    until = time.monotonic() + _SESSION_S
    mend = time.monotonic()
    strike = time.monotonic() + 0.2 + draw.random() * 0.6
    while True:
        ended, status = os.waitpid(client, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            ledger.hangs.append(f"{run.parent.name}: no end within {_SESSION_S:g} s")
            end(client)
            return None
        if time.monotonic() > strike and sum(ledger.kills.values()) < many:
            strike = time.monotonic() + 0.05 + draw.random() * 0.4
            whom = draw.choices(list(SHARES), list(SHARES.values()))[0]
            ledger.kills[whom] += 1
            if whom == "client":
                end(client)
                return None
            if whom == "scheduler":
                camp.kill_scheduler()
                time.sleep(draw.random() * 0.5)
            else:
                camp.kill_worker(draw.choice(sorted(camp.workers)))
            _mend(camp)
        if time.monotonic() > mend:  # workers leave a scheduler that was killed
            mend = time.monotonic() + 0.3
            _mend(camp)
        time.sleep(0.01)


def _mend(camp: Camp) -> None:
    """Start again whoever is gone."""
    if camp.scheduler is None:
        camp.start_scheduler()
    for card in CARDS:
        if not camp.alive(card):
            camp.workers.pop(card, None)
            camp.start_worker(card)


def _held(run: Path, told: Path, ledger: Ledger, where: str) -> None:
    """What a client was told to be on the disk is there, once."""
    journal = run / "outcomes.jsonl"
    kept = read(journal).outcomes if journal.exists() else ()
    done = Counter(one.key for one in kept if not (isinstance(one, Failure) and one.transient))
    for key in set(told.read_text().split() if told.exists() else ()) - done.keys():
        ledger.lost.append(f"{where}: {key}")
    ledger.doubled += [f"{where}: {key}, {count} times" for key, count in done.items() if count > 1]


def _whole(run: Path, ledger: Ledger, where: str) -> None:
    """A sweep that ended holds what an undisturbed one holds."""
    try:
        found = {one.key: one for one in folder.load(run).measurements()}
    except Exception as error:
        ledger.lost.append(f"{where}: {error}")
        return
    for key in KEYS - found.keys():
        ledger.lost.append(f"{where}: {key} is missing in the end")
    for key in found.keys() - KEYS:
        ledger.other.append(f"{where}: {key} was never asked for")
    for job in make.jobs(ASKED):
        one = found.get(job.key)
        if one is not None and list(one.times_s) != [
            float(f"{time_s:.5e}") for time_s in fakes.formula(job).times_s
        ]:
            ledger.other.append(f"{where}: {job.key} has other times")


def quantities(ledger: Ledger, seed: int, seconds: float) -> list[dict[str, Any]]:
    """Rows with their bars."""
    kinds = ", ".join(f"{count} {whom}s" for whom, count in ledger.kills.most_common())
    how = f"killed: {kinds}; {ledger.sweeps} sweeps of {len(KEYS)} points in {ledger.sessions} "
    how += f"sessions; seed {seed}, {seconds:.0f} s"
    unit = "times in the run"
    wrong = {
        "kills missing from 300": (max(0, LEAST - sum(ledger.kills.values())), []),
        "outcomes lost, of a fleet whose processes are killed": (len(ledger.lost), ledger.lost),
        "outcomes doubled, of a fleet whose processes are killed": (
            len(ledger.doubled), ledger.doubled
        ),
        "sessions that hang": (len(ledger.hangs), ledger.hangs),
        "sweeps that end otherwise than undisturbed": (len(ledger.other), ledger.other),
    }  # fmt: skip
    return [
        quantity(name, count, 0, unit, how, "; ".join(texts)[:400] or None)
        for name, (count, texts) in wrong.items()
    ]


def measure(many: int = LEAST, seed: int = 1) -> list[dict[str, Any]]:
    """The whole campaign."""
    began = time.monotonic()
    ledger = Ledger()
    with tempfile.TemporaryDirectory(prefix="ssmprof-fleet-") as scratch:
        hurt(many, seed, ledger, Path(scratch))
    return quantities(ledger, seed, time.monotonic() - began)


if __name__ == "__main__":
    from fleet.results import show

    for row in measure(*map(int, sys.argv[1:])):
        print(show(row))
