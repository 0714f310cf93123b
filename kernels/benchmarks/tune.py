"""Measure block sizes for this GPU and write them into a table: `python .../tune.py [OP ...]`.

Promises: opt-in, a call of an operation never tunes. Candidates are checked against the plain form
before they are timed (cold L2, `timing`), one that fails or differs is dropped; per bucket the
candidate with the best geometric mean over the bucket's cells is kept, if that is at least `GAIN`
faster than what the table has. Writes a user table (folder in SSMPROF_KERNELS_CONFIGS or
`--folder`), with `--ship` the package's own, and with `--raw` every time. Needs a CUDA device.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import gc
import json
import math
import multiprocessing
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import prepare
import timing
import torch
import verdicts
from candidates import CANDIDATES, TABLES, Meta
from cases import Case, build
from exact import error
from plan import Cell, cells, spread
from ssmprof_kernels import launch

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: How much faster than what the table has a candidate must be on average to replace it.
GAIN = 1.01

#: Largest relative RMS distance to the plain form of a candidate that may win.
LARGEST_ERROR = 1e-2


class Forced:
    """Stands in for `launch.pick`: answers one operation with one candidate, notes the bucket."""

    def __init__(self, op: str) -> None:
        self.table = TABLES.get(op, op)
        self.meta: Meta | None = None
        self.bucket = ""
        self.current: Meta = {}
        self.pick = launch.pick
        self._made: tuple[Meta, Meta, launch.Choice] | None = None

    def __call__(self, op: str, bucket: str, device: torch.device, default: Meta) -> launch.Choice:
        found = self.pick(op, bucket, device, default)
        if op != self.table:
            return found
        self.bucket, self.current = bucket, found.meta
        if self.meta is None or not set(self.meta) <= set(found.meta):
            return found
        made = self._made
        # The same object as long as nothing changes: another one would be recorded anew.
        if made is None or made[0] is not self.meta or made[1] is not found.meta:
            choice = launch.Choice(found.meta | self.meta, True, "candidate")
            made = self._made = (self.meta, found.meta, choice)
        return made[2]


def best(times: dict[str, list[float | None]]) -> tuple[str, float] | None:
    """Candidate with the smallest geometric mean of its times in every cell, and its first time.

    Args:
        times: candidate -> milliseconds per cell, None where it failed; such a one cannot win.
    """
    means = {
        name: verdicts.geometric_mean(t for t in row if t is not None)
        for name, row in times.items()
        if row and all(t is not None and t > 0 for t in row)
    }
    if not means:
        return None
    winner = min(means, key=lambda name: means[name])
    first = times[winner][0]
    assert first is not None
    return winner, first


def _time_ms(case: Case, truth: torch.Tensor | None) -> float | None:
    try:
        case.restore()
        got = case.calls[0]()
        if truth is not None and not error(got, truth) <= LARGEST_ERROR:
            return None
        timer = timing.RotatedTimer(case.calls) if case.rotated else timing.ColdTimer(case.calls[0])
        return statistics.median(timer.sample_ms() for _ in range(5))
    except Exception as failure:
        torch.cuda.synchronize()
        first = (str(failure).splitlines() or [""])[0][:120]
        print(f"  dropped: {type(failure).__name__}: {first}", flush=True)
        return None


def _compile(task: tuple[str, list[Cell], list[Meta]]) -> None:
    """Compile candidates on pretended tensors; one that cannot be is dropped when it is timed."""
    op, group, candidates = task
    forced = launch.pick = Forced(op)
    with prepare.pretended():
        for cell in group:
            case = build(cell)
            for meta in candidates:
                forced.meta = meta
                with contextlib.suppress(Exception):
                    case.calls[0]()


def compile_all(op: str, found: list[Cell], candidates: list[Meta], jobs: int) -> None:
    """What the cells need of every candidate, into Triton's cache, in so many processes."""
    groups: dict[str, list[Cell]] = collections.defaultdict(list)
    for cell in found:
        groups[cell.model["name"]].append(cell)
    tasks = [(op, group, candidates[at::jobs]) for group in groups.values() for at in range(jobs)]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, context) as pool:
        list(pool.map(_compile, [task for task in tasks if task[2]]))


class Timed(NamedTuple):
    """A cell: its bucket, what the table has there, its time in ms, and that of each candidate."""

    cell: str
    bucket: str
    meta: Meta
    now: float | None
    ms: list[float | None]


def measure(op: str, found: list[Cell], candidates: list[Meta], until: float) -> list[Timed]:
    """Every candidate in every cell, as far as `until` (seconds of `time.monotonic`) reaches."""
    forced = Forced(op)
    rows: list[Timed] = []
    launch.pick = forced
    try:
        for cell in spread(found):
            if time.monotonic() > until:
                print(f"{op}: time is over after {len(rows)} of {len(found)} cells", flush=True)
                break
            case = build(cell)
            forced.meta = None
            case.restore()
            truth = case.exact() if case.exact else case.calls[0]()
            now = _time_ms(case, truth)
            bucket, meta = forced.bucket, forced.current
            ms: list[float | None] = []
            for candidate in candidates:
                forced.meta = candidate
                ms.append(_time_ms(case, truth))
            rows.append(Timed(cell.name, bucket, meta, now, ms))
            fastest = min((t for t in ms if t), default=math.nan)
            print(
                f"{cell.name}: {bucket}, {now or math.nan:.4f} ms, best {fastest:.4f}", flush=True
            )
            # The cell's tensors hang in reference cycles of its closures.
            gc.collect()
    finally:
        launch.pick = forced.pick
    return rows


def chosen(rows: Iterable[Timed], candidates: list[Meta]) -> dict[str, tuple[Meta, float]]:
    """By bucket the blocks that are worth a change, and their time in its first cell in ms."""
    buckets: dict[str, list[Timed]] = collections.defaultdict(list)
    for row in rows:
        buckets[row.bucket].append(row)
    found = {}
    for bucket, group in buckets.items():
        times = {str(at): [row.ms[at] for row in group] for at in range(len(candidates))}
        winner = best(times)
        if winner is None:
            continue
        at, first = int(winner[0]), winner[1]
        now = verdicts.geometric_mean(row.now for row in group if row.now)
        if now > GAIN * verdicts.geometric_mean(row.ms[at] or 0.0 for row in group):
            found[bucket] = (group[0].meta | candidates[at], first)
    return found


def main() -> int:
    """Command line; 0 if a table was written, 2 where nothing can be measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ops", nargs="*", metavar="OP", help=f"of {', '.join(CANDIDATES)}; all")
    parser.add_argument("--folder", type=pathlib.Path, help="where the table is written")
    parser.add_argument("--ship", action="store_true", help="write the package's own table")
    parser.add_argument("--limit", type=int, default=0, help="first N candidates only")
    parser.add_argument("--jobs", type=int, default=0, help="processes that compile beforehand")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no cell later")
    parser.add_argument("--raw", type=pathlib.Path, help="a JSON file for every time")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="CELL", help="patterns of op/shape/length/batch"
    )
    args = parser.parse_args()
    unknown = [op for op in args.ops if op not in CANDIDATES]
    if unknown:
        parser.error(f"unknown OP {', '.join(unknown)}; known are {', '.join(CANDIDATES)}")
    user = os.environ.get("SSMPROF_KERNELS_CONFIGS")
    folder = launch.SHIPPED if args.ship else args.folder or (pathlib.Path(user) if user else None)
    if folder is None:
        parser.error("name a --folder, set SSMPROF_KERNELS_CONFIGS, or pass --ship")
    if not torch.cuda.is_available():
        print("Tuning needs a CUDA device; this machine has none.", file=sys.stderr)
        return 2
    table = tomllib.loads(pathlib.Path(__file__).with_name("shapes.toml").read_text("utf-8"))
    raw: list[dict[str, Any]] = []
    until = time.monotonic() + args.seconds
    for op in args.ops or CANDIDATES:
        candidates = CANDIDATES[op][: args.limit or None]
        found = cells(table, [op], args.only)
        if args.jobs:
            compile_all(op, found, candidates, args.jobs)
        rows = measure(op, found, candidates, until)
        raw += [{"op": op, "candidates": candidates, "cells": [row._asdict() for row in rows]}]
        if args.raw:
            args.raw.write_text(json.dumps(raw), encoding="utf-8")
        for bucket, (meta, ms) in chosen(rows, candidates).items():
            path = launch.write(TABLES.get(op, op), bucket, meta, ms, folder=folder)
            print(f"{op} {bucket}: {meta} {ms:.4f} ms -> {path}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
