"""Kernel times beside every importable peer: `python kernels/benchmarks/run.py [OP ...]`.

Promises: every cell is measured by `contest.cell`; cells come in an order of which any beginning
covers all operations; with --resume a stopped run is completed by later ones, and the totals are
those of all rows in the folder. Writes bench.csv, bench.json and totals.json; prints the cells as
they come and the totals against floor and aim at the end. Needs a CUDA device.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import hashlib
import pathlib
import random
import sys
import time
from typing import Any

import ceilings
import contest
import peers
import plan
import prepare
import record
import show
import ssmprof_kernels
import torch
import triton
import verdicts
from cases import BUILDERS
from ssmprof_kernels import launch

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Seconds between two writings of what is measured so far.
WRITE_EVERY = 5.0


def main() -> int:
    """Parse the command line, measure, write, print; 0 unless nothing can be measured."""
    started = time.monotonic()
    args = _arguments()
    if not torch.cuda.is_available():
        print("The kernel benchmark needs a CUDA device; this machine has none.", file=sys.stderr)
        return 2
    table = tomllib.loads(pathlib.Path(__file__).with_name("shapes.toml").read_text("utf-8"))
    asked = plan.cells(table, args.ops or BUILDERS, args.only)
    if args.prepare:
        prepare.load_peers()
        shapes = prepare.tuned_cells(asked, table)
        for line in prepare.compile_all(asked, shapes, args.prepare):
            print(f"not compiled: {line}")
        print(f"{len(asked)} cells compiled after {time.monotonic() - started:.0f} s")
        return 0
    clock = contest.Clock()
    with clock.stage("device"):
        device = torch.cuda.get_device_name()
    out = args.out or pathlib.Path("runs") / f"kernels-{device.lower().replace(' ', '-')}"
    with clock.stage("imports"):
        prepare.load_peers()
    environment = _environment(device)
    try:
        kept = record.continued(out, environment) if args.resume else record.Record(environment)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for op in kept.retuned:
        print(f"{op}: other tables than in {out}, all its cells are measured anew", flush=True)
    if args.errors:
        _errors(kept, asked, table, out, args.seconds)
        return 0
    if args.again:
        kept.drop({cell.key for cell in asked})
    done = kept.measured(verdicts.OWN, eager=not args.no_eager)
    todo = [cell for cell in plan.spread(asked) if cell.key not in done]
    print(f"{len(todo)} of {len(asked)} cells to measure", flush=True)
    kept.drop({cell.key for cell in todo})
    if todo:
        _measure(kept, todo, table, out, args, clock, started)
    show.totals(verdicts.judge(kept.rows, table))
    show.missing(kept.rows)
    print(f"written: {out}/bench.csv, bench.json, totals.json")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ops", nargs="*", metavar="OP", help=f"of {', '.join(BUILDERS)}; all")
    parser.add_argument("--out", type=pathlib.Path, help="folder; runs/kernels-<device>")
    parser.add_argument("--rounds", type=int, default=30, help="samples per provider and cell")
    parser.add_argument("--seconds", type=float, default=0, help="stop after; 0 is never")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="CELL",
        help="patterns of op/shape/length/batch, for example 'ssd_scan/*/8192/1'",
    )
    parser.add_argument("--no-eager", action="store_true", help="graph times only")
    parser.add_argument(
        "--resume", action="store_true", help="keep the rows in --out, measure the missing cells"
    )
    parser.add_argument(
        "--again", action="store_true", help="with --resume: measure the named cells anew"
    )
    parser.add_argument(
        "--errors",
        action="store_true",
        help="with --resume: only compute the errors of the named cells anew",
    )
    parser.add_argument(
        "--prepare",
        type=int,
        default=0,
        metavar="N",
        help="only compile the cells, in N processes, and let the peers choose their blocks",
    )
    args = parser.parse_args()
    unknown = [op for op in args.ops if op not in BUILDERS]
    if unknown:
        parser.error(f"unknown OP {', '.join(unknown)}; known are {', '.join(BUILDERS)}")
    return args


def _measure(
    kept: record.Record,
    todo: list[plan.Cell],
    table: dict[str, Any],
    out: pathlib.Path,
    args: argparse.Namespace,
    clock: contest.Clock,
    started: float,
) -> None:
    random.seed(0)
    torch.manual_seed(0)
    with clock.stage("ceilings"):
        limits = ceilings.measure()
    print(
        f"{kept.environment['device']}: copy {limits.bytes_per_s / 1e9:.0f} GB/s, "
        f"bf16 matmul {limits.flops_per_s / 1e12:.0f} TFLOP/s, "
        f"exponentials {limits.exps_per_s / 1e12:.2f} T/s, launch {limits.launch_s * 1e6:.2f} us",
        flush=True,
    )
    with clock.stage("peers' choices"):
        for line in prepare.tune(prepare.tuned_cells(todo, table)):
            print(f"peer not tuned: {line}", flush=True)
    name = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    run = {
        "run": name,
        "ceilings": vars(limits),
        "rounds": args.rounds,
        "sources": _sources(),
        "cells": 0,
        "seconds": clock.seconds,
    }
    if kept.runs and kept.runs[-1]["sources"] != run["sources"]:
        print("the kernels' sources differ from those of the last run in this folder", flush=True)
    kept.runs.append(run)
    # What is alive now stays; the cells' tensors hang in reference cycles of their closures, and
    # finding those must not mean walking all of torch each time.
    gc.collect()
    gc.freeze()
    gc.disable()
    written = time.monotonic()
    for at, cell in enumerate(todo):
        if args.seconds and time.monotonic() - started > args.seconds:
            left = len(todo) - at
            print(f"stopped after {args.seconds:.0f} s, {left} cells missing: see --resume")
            break
        fresh = contest.cell(cell, limits, clock, rounds=args.rounds, eager=not args.no_eager)
        kept.rows += [row | {"run": name} for row in fresh]
        run["cells"] += 1
        show.rows(fresh)
        with clock.stage("memory"):
            gc.collect()
        if time.monotonic() - written > WRITE_EVERY:
            with clock.stage("files"):
                kept.write(out, verdicts.judge(kept.rows, table))
            written = time.monotonic()
    gc.enable()
    kept.write(out, verdicts.judge(kept.rows, table))
    spent = ", ".join(f"{stage} {s:.1f}" for stage, s in clock.seconds.items())
    print(f"{run['cells']} cells in {time.monotonic() - started:.1f} s: {spent}")


def _errors(
    kept: record.Record, asked: list[plan.Cell], table: dict[str, Any], out: pathlib.Path,
    seconds: float,
) -> None:  # fmt: skip
    """Write the errors of measured cells anew, as far as `seconds` reach; 0 is all."""
    started = time.monotonic()
    done = kept.measured(verdicts.OWN, eager=False)
    todo = [cell for cell in plan.spread(asked) if cell.key in done]
    for at, cell in enumerate(todo):
        if seconds and time.monotonic() - started > seconds:
            print(f"stopped after {seconds:.0f} s, {len(todo) - at} cells have their old errors")
            break
        found = contest.errors(cell)
        for row in kept.rows:
            if record.key(row) == cell.key and row["mode"] == "graph":
                row["error"] = found.get(row["provider"])
        told = ", ".join(f"{name} {value:.2e}" for name, value in found.items())
        print(f"{cell.name}: {told or 'no exact result'}", flush=True)
        gc.collect()
    kept.write(out, verdicts.judge(kept.rows, table))


def _environment(device: str) -> dict[str, Any]:
    return {
        "device": device,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "peers": {name: peers.version(name) for name in peers.INSTALL},
        "tables": launch.digests(),
    }


def _sources() -> str:
    h = hashlib.sha256()
    for path in sorted(pathlib.Path(ssmprof_kernels.__file__).parent.rglob("*.py")):
        h.update(path.name.encode() + path.read_bytes())
    return h.hexdigest()[:12]


if __name__ == "__main__":
    sys.exit(main())
