"""A sweep on this machine through the session, against a tree from before there was one.

Both commands run in turns, as processes; whole times. The old tree comes from git.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from fleet.results import ROOT, quantity

BEFORE = "e33629c"  # the last commit whose command put a sweep together itself
PAIRS = 5
BAR = 1.02


def measure(pairs: int = PAIRS) -> list[dict[str, Any]]:
    """Ratios of whole times, pair by pair; which goes first changes from pair to pair."""
    with tempfile.TemporaryDirectory(prefix="ssmprof-fleet-") as scratch:
        old = Path(scratch) / "before"
        old.mkdir()
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", BEFORE, "ssmprof", "kernels", "scenarios"],
            check=True, capture_output=True,
        ).stdout  # fmt: skip
        subprocess.run(["tar", "x", "-C", str(old)], input=archive, check=True)
        _run(old, Path(scratch) / "warm-before")
        _run(ROOT, Path(scratch) / "warm-now")
        times: list[dict[str, tuple[float, float]]] = []
        for turn in range(pairs):
            order = [("before", old), ("now", ROOT)][:: 1 if turn % 2 == 0 else -1]
            times.append(
                {name: _run(tree, Path(scratch) / f"{name}-{turn}") for name, tree in order}
            )
            print(_line(times[-1]), flush=True)
    walls = sorted(one["now"][0] / one["before"][0] for one in times)
    works = sorted(one["now"][1] / one["before"][1] for one in times)
    how = "wall " + ", ".join(f"{ratio:.3f}" for ratio in walls)
    how += "; processor time " + ", ".join(f"{ratio:.3f}" for ratio in works)
    how += f"; medians {median(walls):.3f} and {median(works):.3f}"
    how += f"; {os.cpu_count()} cores under a load of {os.getloadavg()[1]:.0f}"
    return [
        quantity(
            "local sweep through the session over one before it, median of five pairs",
            median(walls), BAR, "times", how,
            f"processor time is {median(works):.3f} times; wall times scatter on a shared machine",
        )
    ]  # fmt: skip


def _run(tree: Path, output: Path) -> tuple[float, float]:
    """(wall, processor) seconds of `ssmprof sweep smoke` of a tree. Raises RuntimeError."""
    environ = {
        **os.environ, "PYTHONPATH": f"{tree}:{tree / 'kernels'}", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    command = [sys.executable, "-m", "ssmprof", "sweep", "scenarios/smoke.toml"]
    command += ["--device", "cpu", "--no-doctor"]
    before, began = os.times(), time.monotonic()
    done = subprocess.run(
        [*command, "-o", str(output)], env=environ, cwd=tree, capture_output=True, text=True
    )
    wall_s, after = time.monotonic() - began, os.times()
    if done.returncode not in (0, 5):
        raise RuntimeError(f"{tree}: {done.stderr[-2000:]}")
    shutil.rmtree(output)
    spent = after.children_user + after.children_system
    return wall_s, spent - before.children_user - before.children_system


def _line(pair: dict[str, tuple[float, float]]) -> str:
    (wall, work), (old_wall, old_work) = pair["now"], pair["before"]
    return (
        f"now {wall:.2f} s, before {old_wall:.2f} s: {wall / old_wall:.3f}; "
        f"processor {work:.2f} and {old_work:.2f} s: {work / old_work:.3f}"
    )
