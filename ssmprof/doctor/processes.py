"""Work in fresh processes: the same call measured by several, and probes that may crash.

A process is the unit of replication: what differs between two of them no repetition within one can
show. Children are forked from a server that has imported torch and touched no device.
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Literal, ParamSpec, TypeVar

from ssmprof.records import Check, Level, median

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")
_TIMEOUT_S = 120.0
_FAREWELL_S = 3.0
PROCESSES = 5

# Calls of about 20 µs, 200 µs and milliseconds: rows of a (rows, 4096) bf16 softmax on a GPU and of
# a float32 one on a CPU.
SIZES: dict[str, dict[str, int]] = {
    "cuda": {"20 µs": 1024, "200 µs": 16_384, "2 ms": 131_072},
    "cpu": {"200 µs": 16, "2 ms": 256},
}
# Allowed variation of the median by the length of the call (seconds, share).
LIMITS = ((100e-6, 0.01), (10e-6, 0.03))


def fresh(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Run `function` (importable, arguments picklable) in a process that has run nothing else.

    Raises what it raises, BrokenProcessPool if the process dies, TimeoutError after two minutes;
    the process is gone then.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "ssmprof.doctor.device"])
    mine, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(theirs, function, args, kwargs), daemon=True)
    with mine:
        child.start()
        theirs.close()
        try:
            if not mine.poll(_TIMEOUT_S):
                raise TimeoutError(f"no answer of a fresh process within {_TIMEOUT_S:.0f} s")
            worked, found = mine.recv()
        except EOFError:
            raise BrokenProcessPool("the process died before it answered") from None
        finally:
            _end(child)
    if not worked:
        raise found
    return found


def _answer(answers: Connection, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    try:
        found = (True, function(*args, **kwargs))
    except Exception as error:
        found = (False, error)
    try:
        answers.send(found)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        answers.send((False, RuntimeError(f"an answer that cannot be sent: {error}")))


def _end(child: BaseProcess) -> None:
    """Wait a little for the end of a process that has answered, and kill one that has not."""
    child.join(_FAREWELL_S)
    if child.is_alive():
        child.kill()
        child.join(_FAREWELL_S)


def softmax_median_s(kind: Literal["cuda", "cpu"], rows: int) -> float:
    """Median seconds of one softmax over `rows` rows of 4,096, in this process."""
    import torch

    from ssmprof.doctor.device import median_seconds
    from ssmprof.measure.timing.timers import WallTimer

    if kind == "cuda":

        def make() -> Callable[[], Any]:
            x = torch.randn(rows, 4096, device="cuda", dtype=torch.bfloat16)
            out = torch.empty_like(x)
            return lambda: torch.softmax(x, -1, out=out)

        return median_seconds(make)
    torch.set_num_threads(1)
    x = torch.randn(rows, 4096)
    with torch.inference_mode():
        torch.softmax(x, -1)
        timer = WallTimer(lambda: torch.softmax(x, -1))
        return median(timer.sample() for _ in range(200))


def variations(
    kind: Literal["cuda", "cpu"], processes: int = PROCESSES
) -> dict[str, tuple[float, ...]]:
    """Medians of each size in each of `processes` fresh processes, in seconds; sizes in turns."""
    found: dict[str, list[float]] = {name: [] for name in SIZES[kind]}
    for _ in range(processes):
        for name, rows in SIZES[kind].items():
            found[name].append(fresh(softmax_median_s, kind, rows))
    return {name: tuple(values) for name, values in found.items()}


def variation(medians: tuple[float, ...]) -> float:
    """Coefficient of variation of the medians of several processes."""
    mean = sum(medians) / len(medians)
    variance = sum((value - mean) ** 2 for value in medians) / (len(medians) - 1)
    return variance**0.5 / mean


def limit_of(seconds: float) -> float | None:
    """Allowed variation for a call of this length; None below 10 µs."""
    return next((allowed for least, allowed in LIMITS if seconds >= least), None)


def noise_check(kind: Literal["cuda", "cpu"]) -> Check:
    """A/A between processes: the noise floor of every comparison on this machine."""
    found = variations(kind)
    texts: list[str] = []
    worst, level = 0.0, "ok"
    for name, medians in found.items():
        cv = variation(medians)
        allowed = limit_of(median(medians))
        texts.append(f"{cv:.2%} at {median(medians) * 1e6:,.0f} µs")
        if allowed is not None and cv > allowed:
            level = "warn"
        if name != next(iter(found)):  # the shortest call has a limit of its own
            worst = max(worst, cv)
    noted: Level = "warn" if level == "warn" else "ok"
    return Check(
        name="A/A processes",
        level=noted,
        text=f"{len(next(iter(found.values())))} processes differ by {', '.join(texts)}",
        fix="lock the clocks and end other processes" if noted == "warn" else None,
        value=worst,
    )


def cupti_check() -> Check:
    """CUPTI in a child: launches and kernels seen must agree, and the child must survive."""
    from ssmprof.doctor.device import cupti_probe

    try:
        launched, seen = fresh(cupti_probe)
    except BrokenProcessPool:
        return Check(
            name="CUPTI", level="warn", text="the profiler crashes the process; names are dropped"
        )
    except RuntimeError as error:
        return Check(
            name="CUPTI",
            level="warn",
            text=f"{error}; event times stand without a second opinion",
            fix="allow GPU performance counters (NVreg_RestrictProfilingToAdminUsers=0)",
        )
    if launched != seen:
        return Check(name="CUPTI", level="warn", text=f"{seen} of {launched} kernels seen")
    return Check(name="CUPTI", level="ok", text=f"{seen} of {launched} kernels seen")
