"""Campaigns against the command itself: `ssmprof sweep` is ended in every way, and goes on."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import time
from pathlib import Path

from ledger import Ledger, check_equal, check_kept, check_nothing_left, check_once, loaded
from virtual import Sweep

from ssmprof.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_NOT_KEPT, EXIT_WITHHELD
from ssmprof.records import Measurement, Outcome

KINDS = (
    ["SIGKILL"] * 10
    + ["SIGTERM", "SIGHUP", "SIGINT"] * 4
    + ["SIGTERM twice", "SIGKILL to all"] * 3
    + ["disk full"] * 4
    + ["two at once"] * 4
)
_END_S = 40.0


def hurt(path: Path, seed: int, ledger: Ledger) -> None:
    """One run after the other is ended and resumed until it is whole, and is compared."""
    draw = random.Random(seed)
    plan = list(KINDS)
    draw.shuffle(plan)
    calm = Sweep(path / "calm")
    _end(calm.start(), ledger, "calm", (EXIT_WITHHELD,))
    whole = loaded(calm.run, ledger, "calm")
    turn = 0
    while plan:
        turn += 1
        sweep = Sweep(path / f"sweep-{turn}", nap_s=0.03)
        kept: dict[str, Outcome] = {}
        for _ in range(min(4, len(plan))):
            kept = _session(sweep, plan.pop(), kept, draw, ledger)
        _conclude(sweep, kept, whole, ledger)


def _session(
    sweep: Sweep, kind: str, kept: dict[str, Outcome], draw: random.Random, ledger: Ledger
) -> dict[str, Outcome]:
    """One session of a sweep that ends as `kind` says; returns what the run holds then."""
    where = f"{sweep.path.name}, {kind}"
    begun = ("--resume", "run") if (sweep.run / "run.json").exists() else ()
    before = sweep.lines()
    if kind == "disk full":
        file = sweep.run / "outcomes.jsonl"
        size = (file.stat().st_size if begun else 0) + draw.randrange(100, 2500)
        # The header and its machine must fit; a journal shorter than them is filled up to that.
        limit = max(size, 4500)
        process = sweep.start(
            *begun, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
        )
        ledger.inject(f"parent: {kind}")
        _end(process, ledger, where, (EXIT_NOT_KEPT, EXIT_WITHHELD))
        return check_kept(kept, sweep.run, ledger, where, sweep.finished())
    process = sweep.start(*begun)
    sweep.wait_for(min(before + draw.randrange(1, 6), 32))
    time.sleep(draw.random() * 0.05)
    codes = {EXIT_WITHHELD, EXIT_INTERRUPTED}  # it may have been done just before
    if kind == "two at once":
        process.send_signal(signal.SIGSTOP)  # one that ends meanwhile lets the other in, rightly
        at_work = process.poll() is None and not sweep.is_whole()
        other = sweep.start("--resume", "run")
        _end(other, ledger, where, (2, EXIT_WITHHELD))
        if at_work and other.returncode != 2:
            ledger.find("finished points lost", f"{where}: both were let in")
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
    elif kind == "SIGKILL to all":
        for pid in _launchers(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.kill()
        codes.add(-signal.SIGKILL)
    else:
        number = signal.Signals[kind.split()[0]]
        process.send_signal(number)
        if kind.endswith("twice"):
            time.sleep(draw.random() * 0.05)
            process.send_signal(number)
        if number == signal.SIGKILL:
            codes.add(-signal.SIGKILL)
    ledger.inject(f"parent: {kind}")
    _end(process, ledger, where, tuple(codes))
    return check_kept(kept, sweep.run, ledger, where, sweep.finished())


def _launchers(parent: int) -> list[int]:
    """Children of a process, which for a sweep are launchers."""
    file = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(word) for word in file.read_text().split()]


def _conclude(
    sweep: Sweep, kept: dict[str, Outcome], whole: dict[str, Outcome], ledger: Ledger
) -> None:
    where = sweep.path.name
    sweep.environ["SSMPROF_TEST_NAP_S"] = "0"
    _end(sweep.start("--resume", "run"), ledger, where, (EXIT_WITHHELD,))
    now = check_kept(kept, sweep.run, ledger, where, sweep.finished())
    check_equal(now, whole, ledger, where)
    check_once(sweep.run / "outcomes.jsonl", ledger, where)
    check_nothing_left(sweep.tag, sweep.scratch, ledger, where)


def _end(
    process: subprocess.Popen[str], ledger: Ledger, where: str, codes: tuple[int, ...]
) -> None:
    """Wait for the end, and look at how it ended."""
    try:
        _, said = process.communicate(timeout=_END_S)
    except subprocess.TimeoutExpired:
        ledger.find("hangs", f"{where}: not ended within {_END_S:g} s")
        process.kill()
        process.communicate()
        return
    if "Traceback" in said or process.returncode in (1, EXIT_INTERNAL):
        ledger.find("tracebacks", f"{where}: {said[-500:]}")
    elif process.returncode not in codes:
        text = f"{where}: exit {process.returncode}, not one of {codes}: {said[-300:]}"
        ledger.find("resumed runs that differ", text)


TORCH = """
name = "torch"
question = "Which is faster?"
device = "cpu"
[sweep]
contexts = "32-192+32"
execution = ["eager"]
dtype = "float32"
[budget]
rounds = 1
min_samples = 3
min_time_s = 0.0
max_noise = 0.5
point_s = 0.5
[passes]
parts = false
memory = "off"
energy = false
host = false
cupti = false
[[blocks]]
name = "parallel"
layers = "[attention mamba2] mlp"
merge = "mean"
d_model = 64
attention = { heads = 2, kv_heads = 1, head_dim = 32 }
mamba2 = { d_inner = 128, d_state = 16, headdim = 32 }
mlp = { d_ff = 128 }
"""
TORCH_POINTS = 6


def hurt_torch(path: Path, seed: int, ledger: Ledger) -> None:
    """The installed command with torch workers, killed and resumed."""
    draw = random.Random(seed)
    sweep = Sweep(path / "torch", scenario=TORCH, program="ssmprof", OMP_NUM_THREADS="1")
    kept: dict[str, Outcome] = {}
    for kind in draw.sample(["SIGKILL", "SIGTERM", "SIGKILL to all"], 3):
        begun = ("--resume", "run") if (sweep.run / "run.json").exists() else ()
        process = sweep.start(*begun)
        sweep.wait_for(min(sweep.lines() + 1, TORCH_POINTS))
        if kind == "SIGKILL to all":
            for pid in _launchers(process.pid):
                os.kill(pid, signal.SIGKILL)
        process.send_signal(signal.SIGTERM if kind == "SIGTERM" else signal.SIGKILL)
        ledger.inject(f"torch parent: {kind}", torch=True)
        codes = (-signal.SIGKILL, EXIT_INTERRUPTED, EXIT_WITHHELD)
        _end(process, ledger, f"torch, {kind}", codes)
        kept = check_kept(kept, sweep.run, ledger, f"torch, {kind}")
    _end(sweep.start("--resume", "run"), ledger, "torch", (EXIT_WITHHELD,))
    now = check_kept(kept, sweep.run, ledger, "torch")
    if len(now) != TORCH_POINTS or not all(isinstance(one, Measurement) for one in now.values()):
        ledger.find("resumed runs that differ", f"torch: {list(now.values())}")
    check_once(sweep.run / "outcomes.jsonl", ledger, "torch")
    check_nothing_left(sweep.tag, sweep.scratch, ledger, "torch")
