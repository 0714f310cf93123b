"""Measure block sizes for this GPU and write them into a table: `python .../tune.py [OP ...]`.

Promises: opt-in, a call of an operation never tunes. Candidates are checked against the plain form
before they are timed (cold L2, `timing`), one that fails or differs is dropped; per bucket the
candidate with the best geometric mean over the bucket's cells is kept. Writes a user table (folder
in SSMPROF_KERNELS_CONFIGS or `--folder`), with `--ship` the package's own. Needs a CUDA device.
"""

from __future__ import annotations

import argparse
import collections
import gc
import itertools
import math
import os
import pathlib
import statistics
import sys
from collections.abc import Collection
from typing import Any

import timing
import torch
import verdicts
from cases import Case, build
from plan import cells
from ssmprof_kernels import launch

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Meta = dict[str, Any]

#: Largest relative RMS distance to the plain form of a candidate that may win.
LARGEST_ERROR = 1e-2


def _grid(**axes: list[int | float]) -> list[Meta]:
    return [dict(zip(axes, v, strict=True)) for v in itertools.product(*axes.values())]


CANDIDATES: dict[str, list[Meta]] = {
    "causal_conv1d": [
        m
        for m in _grid(
            BLOCK_L=[8, 16, 32, 64],
            BLOCK_D=[64, 128, 256, 512],
            U=[4, 8, 16],
            num_warps=[1, 2, 4, 8],
        )
        if m["U"] <= m["BLOCK_L"]
        and 2 <= m["BLOCK_L"] * m["BLOCK_D"] // (32 * m["num_warps"]) <= 64
    ],
    "causal_conv1d_update": _grid(BLOCK_D=[32, 64, 128, 256, 512], num_warps=[1, 2, 4]),
    "gated_rmsnorm": _grid(ELEMENTS=[1024, 2048, 4096, 8192], PER_WARP=[256, 512, 1024, 2048]),
    "attention_decode": _grid(
        BLOCK_N=[32, 64, 128],
        FILL=[1, 2, 3, 4, 6],
        MIN_TILES=[1, 2],
        EFFICIENCY=[0.97],
        num_warps=[2, 4, 8],
        num_stages=[2, 3, 4],
    ),
}


class Forced:
    """Stands in for `launch.pick`: answers one operation with one candidate, notes the bucket."""

    def __init__(self, op: str) -> None:
        self.op = op
        self.meta: Meta | None = None
        self.bucket = ""
        self._pick = launch.pick

    def __call__(self, op: str, bucket: str, device: torch.device, default: Meta) -> launch.Choice:
        if op != self.op:
            return self._pick(op, bucket, device, default)
        self.bucket = bucket
        if self.meta is None or set(self.meta) != set(default):
            return self._pick(op, bucket, device, default)
        return launch.Choice(self.meta, True, "candidate")


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
        got = case.calls[0]().float()
        if truth is not None:
            error = ((got.reshape(truth.shape) - truth).norm() / truth.norm()).item()
            if not error <= LARGEST_ERROR:
                return None
        timer = timing.RotatedTimer(case.calls) if case.rotated else timing.ColdTimer(case.calls[0])
        return statistics.median(timer.sample_ms() for _ in range(5))
    except Exception as error:
        torch.cuda.synchronize()
        print(f"  dropped: {type(error).__name__}: {str(error).splitlines()[0][:120]}", flush=True)
        return None


def tune(
    op: str, table: dict[str, Any], limit: int, only: Collection[str] = ()
) -> dict[str, tuple[Meta, float]]:
    """Best meta-parameters and their time in milliseconds for every bucket the cells reach.

    Args:
        op, table: the operation, and shapes.toml.
        limit: first candidates only; 0 is all.
        only: patterns of cell names (`plan.cells`).
    """
    forced = Forced(op)
    candidates = CANDIDATES[op][:limit] if limit else CANDIDATES[op]
    times: dict[str, dict[str, list[float | None]]] = collections.defaultdict(
        lambda: collections.defaultdict(list)
    )
    launch.pick = forced
    try:
        for cell in cells(table, [op], only):
            case = build(cell)
            forced.meta = None
            case.restore()
            truth = case.plain().float() if case.plain else case.calls[0]().float()
            for at, meta in enumerate(candidates):
                forced.meta = meta
                ms = _time_ms(case, truth)
                times[forced.bucket][str(at)].append(ms)
            print(
                f"{op} {case.shape} {case.length} x{case.batch}: bucket {forced.bucket}", flush=True
            )
            # The cell's tensors hang in reference cycles of its closures.
            gc.collect()
    finally:
        launch.pick = forced._pick
    found = {}
    for bucket, rows in times.items():
        winner = best(rows)
        if winner is not None and math.isfinite(winner[1]):
            found[bucket] = (candidates[int(winner[0])], winner[1])
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
    for op in args.ops or CANDIDATES:
        for bucket, (meta, ms) in tune(op, table, args.limit, args.only).items():
            path = launch.write(op, bucket, meta, ms, folder=folder)
            print(f"{op} {bucket}: {meta} {ms:.4f} ms -> {path}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
