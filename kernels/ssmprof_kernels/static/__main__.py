"""The command `python -m ssmprof_kernels.static`: compile, print, complain.

`--arch sm_87` compiles the specimens of all operations with the configurations that device would
get and prints registers, shared memory, spills, programs per multiprocessor and the instruction mix
of the longest loop. `--forms values` compiles every dtype and option of `forms.AXES`, `pairs` any
two of them together, `all` any three. `--arch all` stands for every capability that is compiled
for, `--summary` for a line per kernel with its spills. Promises: no GPU is needed; with `--check`
the exit code is 1 if a kernel spills to local memory or exceeds the shared memory of the target; it
is 1 in any case if one does not compile.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict

from ssmprof_kernels.static import offline
from ssmprof_kernels.static.report import WHICH, Report, Spills, complaints, reports, spills
from ssmprof_kernels.static.specimens import SPECIMENS


def capability(arch: str) -> int:
    """87 of 'sm_87'. ValueError on anything else."""
    match = re.fullmatch(r"sm_?(\d{2,3})", arch)
    if not match:
        raise ValueError(f"--arch must look like sm_87, got {arch!r}")
    return int(match[1])


def capabilities(archs: str) -> tuple[int, ...]:
    """(87, 90) of 'sm_87,sm_90'. ValueError on anything else."""
    return tuple(dict.fromkeys(capability(arch) for arch in archs.split(",")))


def _part(text: str) -> tuple[int, int]:
    """(1, 2) of '1/2'. ValueError on anything else."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"--part must look like 1/2, got {text!r}")
    return int(match[1]), int(match[2])


def main(argv: list[str] | None = None) -> int:
    """Command line; 0, 1 with `--check` and a complaint, 2 on bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m ssmprof_kernels.static")
    parser.add_argument("ops", nargs="*", metavar="OP", help=f"of {', '.join(SPECIMENS)}; all")
    parser.add_argument(
        "--arch", default="sm_90", help="compute capabilities, for example sm_87,sm_90; or all"
    )
    parser.add_argument("--forms", choices=WHICH, default="specimens", help="what to compile")
    parser.add_argument(
        "--quick", action="store_const", const="everyday", dest="forms",
        help="the everyday form of each op only",
    )  # fmt: skip
    parser.add_argument("--part", default="1/1", metavar="K/N", help="of N parts of the forms; 1/1")
    parser.add_argument("--jobs", type=int, default=1, help="processes that compile; 1")
    parser.add_argument("--check", action="store_true", help="exit 1 on a spill")
    parser.add_argument("--summary", action="store_true", help="a line per kernel, its spills")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    args = parser.parse_args(argv)
    unknown = [op for op in args.ops if op not in SPECIMENS]
    if unknown:
        parser.error(f"unknown OP {', '.join(unknown)}; known are {', '.join(SPECIMENS)}")
    try:
        asked = offline.CAPABILITIES if args.arch == "all" else capabilities(args.arch)
        part = _part(args.part)
    except ValueError as error:
        parser.error(str(error))
    found, problems, failed = [], [], False
    for sm in asked:
        here, refused = reports(
            sm, args.ops or list(SPECIMENS), which=args.forms, part=part, jobs=max(1, args.jobs)
        )
        found += here
        problems += refused + complaints(here, sm)
        failed = failed or bool(refused)
    lines = spills(found) if args.summary else found
    if args.json:
        print(json.dumps([asdict(line) for line in lines], indent=1))
    elif args.summary:
        _print_spills(spills(found))
    else:
        _print(found)
    for line in problems:
        print(line, file=sys.stderr)
    return 1 if failed or (args.check and problems) else 0


def _print_spills(lines: list[Spills]) -> None:
    print(
        f"{'arch':<8}{'op':<24}{'kernel':<36}{'compiled':>9}{'spilling':>9}{'worst':>7}{'regs':>6}"
    )
    for r in lines:
        print(
            f"sm_{r.sm:<5}{r.op:<24}{r.kernel:<36}{r.compiled:>9}{r.spilling:>9}{r.worst:>7}"
            f"{r.registers:>6}"
        )


def _print(found: list[Report]) -> None:
    print(
        f"{'op':<24}{'specimen':<17}{'kernel':<36}{'warps':>5}{'regs':>6}{'shared':>8}"
        f"{'spills':>7}{'per SM':>7}{'instr':>7}{'loop':>6}  mix of the longest loop"
    )
    for r in found:
        mix = " ".join(f"{kind} {n}" for kind, n in r.loop.items())
        print(
            f"{r.op:<24}{r.specimen:<17}{r.kernel:<36}{r.warps:>5}{r.registers:>6}"
            f"{r.shared_bytes:>8}{r.spills:>7}{r.programs_per_sm:>7}{r.instructions:>7}"
            f"{r.loop_instructions:>6}  {mix}"
        )


if __name__ == "__main__":
    sys.exit(main())
