"""Compiles the calls of operations for a GPU that need not be there, and reports each kernel.

Promises: no GPU is needed; a call that does not compile is a sentence, not an exception.
"""

from __future__ import annotations

import collections
import functools
import multiprocessing
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ssmprof_kernels import launch
from ssmprof_kernels.static import covering, forms, offline
from ssmprof_kernels.static.sass import LINE, dump, kind, longest_loop, programs_per_sm
from ssmprof_kernels.static.specimens import SPECIMENS

#: Calls to compile, and how many options a set of forms combines in every way.
WHICH = ("specimens", "everyday", "values", "pairs", "all")
_STRENGTHS = {"values": 1, "pairs": 2, "all": 3}


@dataclass(frozen=True)
class Report:
    """One compiled kernel. Bytes per program; `loop` counts instructions of the longest loop.
    Of `forms` without a spill no instructions are read, and their numbers are 0."""

    op: str
    specimen: str
    kernel: str
    warps: int
    registers: int
    shared_bytes: int
    stack_bytes: int
    spills: int
    programs_per_sm: int
    instructions: int
    loop_instructions: int
    loop: dict[str, int] = field(default_factory=dict)
    bucket: str = ""
    tuned: bool = False
    sm: int = 0


@dataclass(frozen=True)
class Spills:
    """The kernels of one name on one capability: how many were compiled, how many of them spill,
    local loads and stores of the worst, and the most registers."""

    sm: int
    op: str
    kernel: str
    compiled: int
    spilling: int
    worst: int
    registers: int


def calls(
    op: str, which: str, part: tuple[int, int] = (1, 1)
) -> list[tuple[str, Callable[[], Any]]]:
    """Labelled calls of `op`: its specimens, `everyday` the first of them; or its forms, `values`
    with every value of its options, `pairs`
    with any two values of its options, `all` with any three, of which part k of n is taken."""
    if which in _STRENGTHS:
        found = covering.covering(forms.AXES[op], _STRENGTHS[which])
        mine = covering.split(found, part[1])[part[0] - 1]
        return [(forms.label(form), functools.partial(forms.call, op, form)) for form in mine]
    specimens = list(SPECIMENS[op]())
    return specimens[:1] if which == "everyday" else specimens


def reports(
    sm: int,
    ops: list[str],
    *,
    which: str = "specimens",
    part: tuple[int, int] = (1, 1),
    jobs: int = 1,
) -> tuple[list[Report], list[str]]:
    """Compile part k of n of the `calls` of `ops` for capability `sm`, on `jobs` processes.

    Returns the reports, each kernel once, and one sentence for each call that was refused.
    """
    shares = [(sm, op, which, part, job, jobs) for op in ops for job in range(jobs)]
    if jobs == 1:
        done = [_compile(*share) for share in shares]
    else:
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            done = pool.starmap(_compile, shares, chunksize=1)
    found = {name: report for reports, _ in done for name, report in reports.items()}
    return list(found.values()), [sentence for _, failed in done for sentence in failed]


def _compile(
    sm: int, op: str, which: str, part: tuple[int, int], job: int, jobs: int
) -> tuple[dict[str, Report], list[str]]:
    """Reports by the kernels' hashes, and failures, of every `jobs`-th call of a part of `op`."""
    found: dict[str, Report] = {}
    failed: list[str] = []
    with offline.compiling(sm) as kernels:
        for label, call in calls(op, which, part)[job::jobs]:
            before = len(kernels)
            try:
                call()
            except Exception as error:
                # The compiler's own failure; what it said stands on stderr already.
                failed.append(f"{op}, {label}, does not compile for sm_{sm}: {error}")
                continue
            used = [(b, c.tuned) for (name, b), c in launch.chosen().items() if name == op]
            bucket, tuned = used[-1] if used else ("", False)
            for kernel in kernels[before:]:
                if kernel.hash not in found:
                    found[kernel.hash] = _report(
                        sm, op, label, kernel, bucket, tuned, brief=which in _STRENGTHS
                    )
    return found, failed


def _report(
    sm: int, op: str, label: str, kernel: Any, bucket: str, tuned: bool, *, brief: bool = False
) -> Report:
    """`brief` reads instructions only where there is a stack, hence perhaps a spill."""
    cubin = kernel.asm["cubin"]
    usage = dump(cubin, "--dump-resource-usage")
    stack = int(re.findall(r"STACK:(\d+)", usage)[0])
    sass = "" if brief and not stack else dump(cubin, "-sass")
    registers = int(re.findall(r"REG:(\d+)", usage)[0])
    lines = [(int(a, 16), name, rest) for a, name, rest in LINE.findall(sass)]
    loop = longest_loop(lines)
    warps = kernel.metadata.num_warps
    shared = kernel.metadata.shared
    return Report(
        op, label, kernel.metadata.name, warps, registers, shared, stack,
        sum(kind(name) == "local" for _, name, _ in lines),
        programs_per_sm(sm, warps, registers, shared), len(lines), len(loop),
        dict(collections.Counter(kind(name) for _, name, _ in loop).most_common()),
        bucket, tuned, sm,
    )  # fmt: skip


def spills(found: list[Report]) -> list[Spills]:
    """One line per capability, operation and kernel name, in the order of the reports."""
    groups: dict[tuple[int, str, str], list[Report]] = {}
    for r in found:
        groups.setdefault((r.sm, r.op, r.kernel), []).append(r)
    return [
        Spills(
            *key, len(of_it), sum(r.spills > 0 for r in of_it), max(r.spills for r in of_it),
            max(r.registers for r in of_it),
        )
        for key, of_it in groups.items()
    ]  # fmt: skip


def complaints(found: list[Report], sm: int) -> list[str]:
    """One sentence per kernel that spills or does not fit."""
    limit = launch.SHARED_BYTES.get(sm, 101_376)
    lines = []
    for r in found:
        where = f"{r.kernel} ({r.op}, {r.specimen}) on sm_{sm}"
        if r.spills:
            lines.append(f"{where} spills: {r.spills} local loads and stores")
        if r.shared_bytes > limit:
            lines.append(f"{where} needs {r.shared_bytes} bytes of shared memory of {limit}")
    return lines
