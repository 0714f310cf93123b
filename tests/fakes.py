"""A runner without torch or device, for workers that are measured by formula and die on command.

`SSMPROF_TEST_FAULTS` names a JSON file of job key -> fault; a fault happens each time its job runs,
or as often as a number behind its name says ("kill 2"), in whatever processes.
Times are a function of the job's key alone, so any two runs of a job agree.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import make
from msgspec import structs

from ssmprof.measure.workers import wire
from ssmprof.measure.workers.client import Client
from ssmprof.measure.workers.worker import Stage, failure_of
from ssmprof.records import (
    Environment,
    Job,
    Measurement,
    Note,
    OpChoice,
    Outcome,
    Trial,
)

RUNNER = "fakes:FakeRunner"
FAULTS_FILE = "SSMPROF_TEST_FAULTS"
NAP = "SSMPROF_TEST_NAP_S"  # seconds each measurement takes, so that a sweep can be hit
ROOT = Path(__file__).resolve().parents[1]
ENVIRON = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT / "tests", ROOT, ROOT / "kernels")))}
OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB "
    "of which 1.50 GiB is free."
)


class OutOfMemoryError(RuntimeError):
    """Named as torch names it."""


# Only what hangs is given a short deadline: a busy machine may take a second over anything.
IMPATIENT = structs.replace(make.QUICK, timeout_s=0.4)


def jobs(count: int, **changes: Any) -> list[Job]:
    """Jobs that share nothing but the block: a curve of each is one point long."""
    return [make.job("mamba2", 64, seed=number, **changes) for number in range(count)]


def client(faults: Mapping[str, str] | None = None, folder: Path | None = None, **changes: Any):
    """A client of fake workers; `faults` are written below `folder`."""
    environ = dict(ENVIRON)
    if faults:
        assert folder is not None
        file = folder / "faults.json"
        file.write_text(json.dumps(dict(faults)))
        environ[FAULTS_FILE] = str(file)
    changes = {"first_call_s": 0.0} | changes
    return Client("cpu", runner=RUNNER, environ=environ | changes.pop("environ", {}), **changes)


def formula(job: Job) -> Measurement:
    """What a fake worker answers."""
    return make.measurement(
        point=job.point,
        round=job.round,
        times_s=(int(job.point.key[:6], 16) * 1e-9 + (1 + job.round) * 1e-3,) * 3,
    )


def _pipes() -> list[int]:
    """File descriptors of pipes this process may write to."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and Path(f"/proc/self/fd/{fd}").exists() and stat.S_ISFIFO(os.fstat(fd).st_mode):
            flags = int(
                Path(f"/proc/self/fdinfo/{fd}").read_text().split("flags:")[1].split()[0], 8
            )
            if flags & os.O_WRONLY:
                found.append(fd)
    return found


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _segfault() -> None:
    ctypes.string_at(0)


def _hang() -> None:
    time.sleep(1000)


def _chatter() -> None:
    print("a library says hello")
    sys.stdout.buffer.write(b'\xff\xfe{"type":"answer"}\n' * 100)
    sys.stdout.flush()


def _rubbish() -> None:
    for fd in _pipes():
        os.write(fd, b"\x00\xffnot an answer\n")
    time.sleep(1000)


def _closed_pipe() -> None:
    for fd in _pipes():
        os.close(fd)
    time.sleep(1000)


def _out_of_memory() -> None:
    raise OutOfMemoryError(OUT_OF_MEMORY)


def _illegal_address() -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def _unsupported() -> None:
    raise NotImplementedError("no kernel for this shape")


def _exit() -> None:
    print("last words")
    sys.stdout.flush()
    os._exit(3)


def _tegra() -> None:
    """The driver of a board complains on stderr, and the process ends itself."""
    print("NvMapMemAllocInternalTagged: 1075072515 error 12", file=sys.stderr, flush=True)
    os.abort()


def _orphan() -> None:
    """A compiler is running when its worker dies."""
    subprocess.Popen(["sleep", "1000"])
    _kill()


def _nap() -> None:
    """As long as a compiler takes."""
    time.sleep(1.2)


def _compiling() -> None:
    """A compiler is running when the launcher dies, in the middle of a pass."""
    subprocess.Popen(["sleep", "1000"])
    time.sleep(1000)


def _real_time_signal() -> None:
    os.kill(os.getpid(), 40)


def _litter() -> None:
    """A compiler's temporary file is there when the process is killed."""
    Path(tempfile.gettempdir(), "litter").write_text("half a kernel")
    _kill()


def _refuse() -> None:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


# Not every test can wait for these, so they are no part of FAULTS.
RARE: dict[str, Callable[[], None]] = {
    "compiling": _compiling,
    "real-time-signal": _real_time_signal,
    "litter": _litter,
    "refuse": _refuse,
}
FAULTS: dict[str, Callable[[], None]] = {
    "kill": _kill,
    "segfault": _segfault,
    "hang": _hang,
    "chatter": _chatter,
    "rubbish": _rubbish,
    "closed-pipe": _closed_pipe,
    "out-of-memory": _out_of_memory,
    "illegal-address": _illegal_address,
    "unsupported": _unsupported,
    "exit": _exit,
    "orphan": _orphan,
    "tegra": _tegra,
    "nap": _nap,
}
# What each fault must become: a reason, or None where the point is measured all the same.
EXPECTED: dict[str, str | None] = {
    "kill": "crash",
    "segfault": "crash",
    "hang": "timeout",
    "chatter": None,
    "rubbish": "crash",
    "closed-pipe": "crash",
    "out-of-memory": "out-of-memory",
    "illegal-address": "crash",
    "unsupported": "unsupported",
    "exit": "crash",
    "orphan": "crash",
    "tegra": "out-of-memory",
    "nap": "timeout",
}


def _asked() -> dict[str, str]:
    """Faults by where they happen."""
    file = os.environ.get(FAULTS_FILE)
    return json.loads(Path(file).read_text()) if file else {}


def suffer(where: str) -> None:
    """Let the fault of this place happen, unless it has happened as often as it should."""
    fault, _, times = _asked().get(where, "").partition(" ")
    if not fault:
        return
    if times:
        happened = Path(os.environ[FAULTS_FILE] + "." + where.replace("/", "-"))
        with happened.open("ab") as file:
            if file.tell() >= int(times):
                return
            file.write(b".")
    (FAULTS | RARE)[fault]()


def _forking(fork: Callable[[], int]) -> Callable[[], int]:
    def faulty() -> int:
        suffer("fork")
        return fork()

    return faulty


if os.environ.get(FAULTS_FILE) and "ssmprof.measure.workers.launcher" in sys.orig_argv:
    suffer("import")
    os.fork = _forking(os.fork)


class FakeRunner:
    """Answers by formula; its environment is the virtual device's."""

    def __init__(self, kind: str) -> None:
        self.faults = _asked()
        suffer("start")

    def environment(self) -> Environment:
        return make.ENVIRONMENT

    def measure(self, asked: wire.Measure, stage: Stage) -> Measurement:
        job = asked.job
        stage("latency")
        time.sleep(float(os.environ.get(NAP, "0")))
        fault = self.faults.get(job.key)
        if fault == "wrong":
            return formula(make.job("attention", 77))
        suffer(job.key)
        stage.keep(formula(job))
        for name in ("parts", "energy"):
            asked = "cupti" if name == "parts" and job.passes.cupti else name
            if getattr(job.passes, name):
                stage(name)
                suffer(f"{asked} of all")
        return formula(job)

    def weigh(self, asked: wire.Weigh, stage: Stage) -> wire.Weighed:
        job = asked.job
        stage("memory")
        suffer(f"memory {job.key}")
        text = make.memory(job.point.context, process_used_bytes=os.getpid())
        return wire.Weighed(key=job.key, memory=text, cold_s=1.5, measuring_s=0.1)

    def pair(self, asked: wire.Pair, stage: Stage) -> wire.Paired:
        """Contenders by formula; `fit` names those that do not fit beside each other."""
        names = [job.point.block for job in asked.jobs]
        outcomes: list[Outcome] = []
        for job in asked.jobs:
            stage(f"build of {job.point.block}")
            fault = self.faults.get(job.key)
            try:
                if fault:
                    FAULTS[fault]()
            except Exception as error:
                outcomes.append(failure_of(job, error, make.ENVIRONMENT.fingerprint, 0.0, 0.0))
                if outcomes[-1].reason != "unsupported":
                    return wire.Paired(outcomes=tuple(outcomes))
                continue
            pid = str(os.getpid())
            measured = structs.replace(
                formula(job),
                mode=asked.sampling.mode,
                providers=asked.chosen[names.index(job.point.block)],
                notes=(Note(kind="host", text=pid),),
            )
            outcomes.append(measured)
        if len(names) > 1:
            stage("samples")
            context = asked.jobs[0].point.context
            if fault := self.faults.get(f"together {context}"):
                if fault == "does not fit":
                    return wire.Paired(apart="2.00 GiB asked")
                FAULTS[fault]()
        if asked.sampling.energy:
            stage("energy")
            if fault := self.faults.get("energy"):
                FAULTS[fault]()
        return wire.Paired(outcomes=tuple(besides(outcomes)))

    def decide(self, asked: wire.Decide, stage: Stage) -> wire.Decided:
        """`fast` wins everywhere but where `decisions` (context -> provider) says otherwise."""
        trials, process = asked.trials, asked.process
        stage("build")
        suffer(f"decide {trials.subject.name}")
        stage("op deadly")
        if "op deadly" not in asked.excluded:
            suffer("deadly")
        says = json.loads(self.faults.get("decisions", "{}"))
        choices = [
            OpChoice(
                context=point.context,
                op="op",
                incumbent="steady",
                provider=says.get(f"{point.context} {process}", "steady"),
                share=0.25,
                trials=(
                    Trial(
                        context=point.context,
                        process=process,
                        provider="fast",
                        incumbent="steady",
                        outcome="lost",
                        log_ratio=0.01,
                        error=0.001,
                        pairs=6,
                        detail=", ".join(asked.excluded) or None,
                    ),
                ),
            )
            for point in trials.points
        ]
        return wire.Decided(choices=tuple(choices), candidates="plain" not in self.faults)


def besides(outcomes: list[Outcome]) -> list[Outcome]:
    """Measurements that name each other, as those of a visit do."""
    names = [one.point.block for one in outcomes if isinstance(one, Measurement)]
    return [
        structs.replace(
            one, beside=", ".join(name for name in names if name != one.point.block) or None
        )
        if isinstance(one, Measurement)
        else one
        for one in outcomes
    ]


def processes(tag: str) -> list[int]:
    """Living processes whose environment holds `tag`."""
    numbers = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    return [pid for pid in numbers if _is_tagged(Path(f"/proc/{pid}"), tag)]


def _is_tagged(process: Path, tag: str) -> bool:
    try:
        tagged = tag.encode() in (process / "environ").read_bytes()
        state = (process / "stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:  # it ended meanwhile, or belongs to another user
        return False
    return tagged and state != "Z"


def gone(tag: str, within_s: float = 10.0) -> list[int]:
    """Processes with `tag` that are still there after a while: none, if all is well."""
    end = time.monotonic() + within_s
    while (left := processes(tag)) and time.monotonic() < end:
        time.sleep(0.05)
    return left
