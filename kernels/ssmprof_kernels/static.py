"""What the compiler makes of every kernel, for a GPU that need not be there.

`python -m ssmprof_kernels.static --arch sm_87` compiles the specimens of all operations with the
configurations that device would get and prints registers, shared memory, spills, programs per
multiprocessor and the instruction mix of the longest loop; `--forms pairs` compiles every dtype
and option of `forms.AXES`, any two of them together, `--forms all` any three. Promises: no GPU is
needed; with `--check` the exit code is 1 if a kernel spills to local memory or exceeds the shared
memory of the target; it is 1 in any case if one does not compile.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import multiprocessing
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from triton import knobs

from ssmprof_kernels import covering, forms, launch, offline
from ssmprof_kernels.specimens import SPECIMENS

#: Calls to compile, and how many options a set of forms combines in every way.
WHICH = ("specimens", "everyday", "pairs", "all")
_STRENGTHS = {"pairs": 2, "all": 3}

#: Threads a multiprocessor holds, where it is not 2,048 (CUDA C++ Programming Guide, 16.2).
_THREADS = {86: 1536, 87: 1536, 89: 1536, 120: 1536, 121: 1536, 110: 1536}
_REGISTERS = 65536

#: Instruction name prefixes by kind, tried in order.
_KINDS = (
    ("MMA", ("HMMA", "HGMMA", "QGMMA", "IMMA", "WGMMA", "UTCHMMA", "UTCQMMA")),
    ("MUFU", ("MUFU",)),
    ("FMA", ("FFMA", "HFMA2")),
    ("FP", ("FADD", "FMUL", "FMNMX", "FSEL", "FSETP", "F2F", "F2I", "I2F", "HADD2", "HMUL2")),
    ("LDS/STS", ("LDS", "STS", "LDSM", "STSM", "ATOMS")),
    ("LDG/STG", ("LDGSTS", "LDG", "STG", "UTMA", "LDGDEPBAR", "UBLKCP")),
    ("local", ("LDL", "STL")),
    ("SHFL", ("SHFL",)),
    ("BAR", ("BAR", "SYNCS", "WARPSYNC", "DEPBAR")),
)
_LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P[0-9T]+\s+)?([A-Z0-9_]+)([^;]*);")


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


def capability(arch: str) -> int:
    """87 of 'sm_87'. ValueError on anything else."""
    match = re.fullmatch(r"sm_?(\d{2,3})", arch)
    if not match:
        raise ValueError(f"--arch must look like sm_87, got {arch!r}")
    return int(match[1])


def _part(text: str) -> tuple[int, int]:
    """(1, 2) of '1/2'. ValueError on anything else."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"--part must look like 1/2, got {text!r}")
    return int(match[1]), int(match[2])


def calls(
    op: str, which: str, part: tuple[int, int] = (1, 1)
) -> list[tuple[str, Callable[[], Any]]]:
    """Labelled calls of `op`: its specimens, `everyday` the first of them; or its forms, `pairs`
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
            used = [(b, c.tuned) for (name, b, _), c in launch._choices.items() if name == op]
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
    lines = [(int(a, 16), name, rest) for a, name, rest in _LINE.findall(sass)]
    loop = _longest_loop(lines)
    warps = kernel.metadata.num_warps
    shared = kernel.metadata.shared
    return Report(
        op, label, kernel.metadata.name, warps, registers, shared, stack,
        sum(_kind(name) == "local" for _, name, _ in lines),
        _programs(sm, warps, registers, shared), len(lines), len(loop),
        dict(collections.Counter(_kind(name) for _, name, _ in loop).most_common()),
        bucket, tuned,
    )  # fmt: skip


def dump(cubin: bytes, what: str) -> str:
    """What cuobjdump prints of a compiled kernel: `-sass` or `--dump-resource-usage`."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as handle:
        handle.write(cubin)
        handle.flush()
        command = [knobs.nvidia.cuobjdump.path, what, handle.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _kind(name: str) -> str:
    for kind, prefixes in _KINDS:
        if name.startswith(prefixes):
            return kind
    return "other"


def _longest_loop(lines: list[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    """Instructions between a backward branch and its target; all of them where nothing loops."""
    best: list[tuple[int, str, str]] = []
    for address, name, rest in lines:
        target = re.search(r"0x([0-9a-f]+)", rest) if name == "BRA" else None
        # The branch to itself behind the end of every kernel is padding, no loop.
        if target and int(target[1], 16) < address:
            body = [line for line in lines if int(target[1], 16) <= line[0] <= address]
            best = max(best, body, key=len)
    return best or lines


def _programs(sm: int, warps: int, registers: int, shared: int) -> int:
    # Registers are given to a warp in units of 256.
    per_warp = -(-max(registers, 1) * 32 // 256) * 256
    by_registers = _REGISTERS // (per_warp * warps)
    by_threads = _THREADS.get(sm, 2048) // (32 * warps)
    room = launch.SHARED_BYTES.get(sm, 101_376) + 1024
    by_shared = room // (shared + 1024)
    return min(by_registers, by_threads, by_shared, 32)


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


def main(argv: list[str] | None = None) -> int:
    """Command line; 0, 1 with `--check` and a complaint, 2 on bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m ssmprof_kernels.static")
    parser.add_argument("ops", nargs="*", metavar="OP", help=f"of {', '.join(SPECIMENS)}; all")
    parser.add_argument("--arch", default="sm_90", help="compute capability, for example sm_87")
    parser.add_argument("--forms", choices=WHICH, default="specimens", help="what to compile")
    parser.add_argument(
        "--quick", action="store_const", const="everyday", dest="forms",
        help="the everyday form of each op only",
    )  # fmt: skip
    parser.add_argument("--part", default="1/1", metavar="K/N", help="of N parts of the forms; 1/1")
    parser.add_argument("--jobs", type=int, default=1, help="processes that compile; 1")
    parser.add_argument("--check", action="store_true", help="exit 1 on a spill")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    args = parser.parse_args(argv)
    unknown = [op for op in args.ops if op not in SPECIMENS]
    if unknown:
        parser.error(f"unknown OP {', '.join(unknown)}; known are {', '.join(SPECIMENS)}")
    try:
        sm, part = capability(args.arch), _part(args.part)
    except ValueError as error:
        parser.error(str(error))
    found, failed = reports(
        sm, args.ops or list(SPECIMENS), which=args.forms, part=part, jobs=max(1, args.jobs)
    )
    if args.json:
        print(json.dumps([asdict(r) for r in found], indent=1))
    else:
        _print(found)
    problems = failed + complaints(found, sm)
    for line in problems:
        print(line, file=sys.stderr)
    return 1 if failed or (args.check and problems) else 0


def _print(found: list[Report]) -> None:
    print(
        f"{'op':<24}{'specimen':<17}{'kernel':<24}{'warps':>5}{'regs':>6}{'shared':>8}"
        f"{'spills':>7}{'per SM':>7}{'instr':>7}{'loop':>6}  mix of the longest loop"
    )
    for r in found:
        mix = " ".join(f"{kind} {n}" for kind, n in r.loop.items())
        print(
            f"{r.op:<24}{r.specimen:<17}{r.kernel:<24}{r.warps:>5}{r.registers:>6}"
            f"{r.shared_bytes:>8}{r.spills:>7}{r.programs_per_sm:>7}{r.instructions:>7}"
            f"{r.loop_instructions:>6}  {mix}"
        )


if __name__ == "__main__":
    sys.exit(main())
