"""The measured process: jobs in, answers out, and nothing else.

A worker is forked by the launcher, serves one block in one round and ends when its pipe of requests
does. It leads a process group, so that compilers die with it; it dies with its launcher; and it
asks the kernel to be the first victim when the host runs out of memory. What it measures with is a
`Runner`, passed in by name, so that tests put a formula or a fault in its place.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from ssmprof.devices.jetson.memory import out_of_memory_rule
from ssmprof.measure.workers import wire
from ssmprof.records import Environment, Failure, FailureReason, Job, Measurement, NoteKind

BROKEN: NoteKind = "broken-pass"  # kind of the note of a pass that failed while the latency stands

_PR_SET_PDEATHSIG = 1
_PR_SET_PTRACER = 0x59616D61  # "Yama": lets py-spy look inside although it is no ancestor
_PR_SET_PTRACER_ANY = ctypes.c_ulong(-1)
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE = r"([\d.]+) (bytes|[KMGT]iB)"


class UnsupportedError(Exception):
    """The device, a provider or the shape does not allow this point: a result, not a fault."""


class Stage(Protocol):
    """How a runner tells where it is, and what it has already."""

    def __call__(self, name: str) -> None:
        """The pass that begins."""
        ...

    def keep(self, measurement: Measurement) -> None:
        """What stands even if a later pass kills the worker."""
        ...


class _Telling:
    """Stages told to the parent."""

    def __init__(self, say: Callable[[wire.Reply], None]) -> None:
        self._say = say

    def __call__(self, name: str) -> None:
        self._say(wire.Doing(stage=name))

    def keep(self, measurement: Measurement) -> None:
        self._say(wire.Kept(measurement=measurement))


class Runner(Protocol):
    """Measures points on one device; made once per worker, after the fork."""

    def environment(self) -> Environment: ...

    def measure(self, asked: wire.Measure, stage: Stage) -> Measurement: ...

    def weigh(self, asked: wire.Weigh, stage: Stage) -> wire.Weighed: ...

    def pair(self, asked: wire.Pair, stage: Stage) -> wire.Paired: ...

    def decide(self, asked: wire.Decide, stage: Stage) -> wire.Decided: ...


def load(runner: str) -> Callable[[Literal["cuda", "cpu"]], Runner]:
    """`module:name` -> the factory of a runner; importing it is the launcher's slow start."""
    module, _, name = runner.partition(":")
    return getattr(importlib.import_module(module), name)


def die_with(launcher: int) -> None:
    """Have the kernel kill this process when its launcher dies; at once where it has already."""
    with suppress(OSError, AttributeError):
        libc: Any = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher:
        os._exit(1)


def serve(requests: int, answers: int, make: Callable[[], Runner]) -> None:
    """Answer requests from one file descriptor on another until the first one ends."""
    _settle()

    def say(message: wire.Reply) -> None:
        data = wire.line(message)
        while data:
            data = data[os.write(answers, data) :]

    stage = _Telling(say)
    runner = make()
    environment = runner.environment()
    say(wire.Hello(environment=environment))
    with os.fdopen(requests, "rb") as lines:
        for data in lines:
            asked = wire.request(data)
            if isinstance(asked, wire.Measure):
                say(wire.Answer(outcome=_measure(runner, asked, stage, environment)))
            elif isinstance(asked, wire.Weigh):
                say(_weigh(runner, asked, stage))
            elif isinstance(asked, wire.Pair):
                say(runner.pair(asked, stage))
            else:
                say(runner.decide(asked, stage))


def _measure(
    runner: Runner, asked: wire.Measure, stage: Stage, environment: Environment
) -> Measurement | Failure:
    started, clock = time.time(), time.perf_counter()
    try:
        return runner.measure(asked, stage)
    except Exception as error:
        traceback.print_exc()
        spent = time.perf_counter() - clock
        return failure_of(asked.job, error, environment.fingerprint, started, spent)


def failure_of(
    job: Job, error: Exception, environment: str, started_unix_s: float, wall_s: float
) -> Failure:
    """What an exception means for the job it happened in."""
    reason, detail, size, free = classify(error)
    return Failure(
        point=job.point,
        round=job.round,
        environment=environment,
        reason=reason,
        detail=detail,
        asked_bytes=size,
        free_bytes=free,
        started_unix_s=started_unix_s,
        wall_s=wall_s,
    )


def _weigh(runner: Runner, asked: wire.Weigh, stage: Stage) -> wire.Weighed:
    clock = time.perf_counter()
    try:
        return runner.weigh(asked, stage)
    except Exception as error:
        traceback.print_exc()
        reason, detail, _, _ = classify(error)
        spent = time.perf_counter() - clock
        return wire.Weighed(key=asked.job.key, missing=f"{reason}: {detail}", measuring_s=spent)


def classify(error: BaseException) -> tuple[FailureReason, str, int | None, int | None]:
    """An exception as (reason, one line of detail, bytes asked, bytes free).

    Types are told by name: the worker itself knows neither torch nor triton.
    """
    text = " ".join(str(error).split())
    names = {kind.__name__ for kind in type(error).__mro__}
    detail = f"{type(error).__name__}: {text}" if text else type(error).__name__
    detail = detail if len(detail) <= 400 else detail[:399] + "…"
    lacking = names & {"OutOfMemoryError", "MemoryError"} or any(
        words in text.lower() for words in ("out of memory", "can't allocate memory")
    )
    # A driver of a shared memory has words of its own for it.
    if lacking or out_of_memory_rule(f"{type(error).__name__}: {error}"):
        return "out-of-memory", detail, _size(rf"allocate {_SIZE}", text), _free(text)
    if names & {"UnsupportedError", "NotImplementedError", "OutOfResources", "SsmprofError"}:
        return "unsupported", text or detail, None, None
    return "crash", detail, None, None


def _size(pattern: str, text: str) -> int | None:
    found = re.search(pattern, text)
    return int(float(found[1]) * _UNITS[found[2]]) if found else None


def _free(text: str) -> int | None:
    return _size(rf"of which {_SIZE} is free", text)


def _settle() -> None:
    """Become what the parent relies on: first to go when memory is short, open to py-spy."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to interpret
    with suppress(OSError, AttributeError):
        libc: Any = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
