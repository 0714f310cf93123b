"""Where the CPU is during an eager call: py-spy's stacks, sorted into places.

A profile, not a timing: the sampler pauses the process it looks at. It runs for launch-bound
points, in a pass of its own, on the worker's own process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter
from typing import Any

from ssmprof.measure.passes import py_spy
from ssmprof.private import without_own
from ssmprof.records import Host, Note

RATE_HZ = 250
SECONDS = 2.0
_START_S = 10.0
_LOOK_S = 0.05  # between two looks at the sampler, so that looking is not what is profiled

# Innermost frame that tells, from the leaf outwards: place -> words in "function (file:line)".
# The order breaks ties within one frame; what no word tells is the model's own Python.
PLACES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("waiting", ("ynchronize", "cuStreamWait", "cuEventSync", "sem_wait", "pthread_cond")),
    ("driver", ("libcuda", "cuLaunch", "cudaLaunch", "cuModule", "ioctl", "cudart", "nvrtc")),
    ("launcher", ("triton/", "triton\\", "launcher", "__triton")),
    (
        "framework",
        ("torch/", "torch\\", "libtorch", "libc10", "at::", "c10::", "aten::", "torch_"),
    ),
)
PYTHON = "python"


def place_of(stack: str) -> str:
    """Place of one collapsed stack (`outer;...;leaf`): its innermost frame that tells.

    Native frames of the interpreter tell nothing; a frame of a Python file that is neither torch
    nor Triton is the model's own code.
    """
    for frame in reversed(stack.split(";")):
        for place, words in PLACES:
            if any(word in frame for word in words):
                return place
        if ".py" in frame:
            return PYTHON
    return PYTHON


def shares(lines: Iterable[str], inside: str | None = None) -> tuple[dict[str, float], int]:
    """Share of samples per place from collapsed stacks (`stack count` per line), and their number.

    `inside` keeps only stacks with that word: other threads are not the call's.
    """
    counts: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if count.isdigit() and (inside is None or inside in stack):
            counts[place_of(stack)] += int(count)
    total = sum(counts.values())
    return {place: count / total for place, count in counts.most_common()}, total


def command(pid: int, seconds: float, output: Path, *, native: bool) -> list[str]:
    """The py-spy command that records process `pid` into collapsed stacks.

    `native` adds the frames of C++ libraries, without which a dispatcher's time looks like that of
    the Python that called it; not every platform can.
    """
    program = py_spy.find()
    if program is None:
        raise FileNotFoundError("py-spy is not installed")
    return [
        program, "record", "--pid", str(pid), "--rate", str(RATE_HZ), "--format", "raw",
        "--duration", str(max(1, round(seconds))), "--output", str(output), "--nolineno",
        *(["--native"] if native else []),
    ]  # fmt: skip


def profile(
    call: Callable[[], Any],
    *,
    synchronize: Callable[[], Any] = lambda: None,
    seconds: float = SECONDS,
    stacks: Path | None = None,
) -> Host | Note:
    """Run `call` again and again while py-spy looks at this process.

    `stacks` is where the collapsed stacks are kept. Returns a Note of kind `host` with py-spy's
    own words where it is missing or may not look (containers need SYS_PTRACE).
    """
    with tempfile.TemporaryDirectory(prefix="ssmprof-host-") as folder:
        raw, reason = Path(folder, "stacks.txt"), ""
        for native in (True, False):
            try:
                arguments = command(os.getpid(), seconds, raw, native=native)
            except FileNotFoundError as error:
                return Note(kind="host", text=str(error))
            with subprocess.Popen(
                arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            ) as spy:
                _call_until_done(call, synchronize, spy, seconds + _START_S)
                said = spy.communicate()[1]
            if not spy.returncode and raw.exists():
                break
            reason = _reason(said)
        else:
            return Note(kind="host", text=f"py-spy: {reason}")
        # What is kept of them lies in the run: not the names of this user and this home.
        lines = without_own(raw.read_text(encoding="utf-8", errors="replace")).splitlines()
    found, samples = shares(lines, inside=_call_until_done.__name__)
    if not samples:
        return Note(kind="host", text="py-spy took no sample of the call")
    if stacks is not None:
        stacks.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Host(shares=found, samples=samples, stacks=None if stacks is None else stacks.name)


def _call_until_done(
    call: Callable[[], Any],
    synchronize: Callable[[], Any],
    spy: subprocess.Popen[str],
    limit_s: float,
) -> None:
    began = perf_counter()
    while spy.poll() is None:
        looked = perf_counter()
        if looked - began > limit_s:
            spy.kill()
            return
        while perf_counter() - looked < _LOOK_S:
            call()
            synchronize()


def _reason(said: str) -> str:
    """The line of py-spy's complaint that tells most."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if "ermission" in line or "rror" in line]
    return (telling or lines or [f"exit on {sys.platform}"])[0][:200]
