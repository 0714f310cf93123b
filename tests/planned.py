"""`python -m planned`: what the plan says of each block of the committed runs, and what it took.

Of each run the points that its scenario asks for whatever the outcomes are, as far as the run holds
them. A block took what its points took, and what lay between one and the next where one worker
measured all: starting it, weighing beside it. Points of several workers overlap; there their own
seconds count alone, and the plan's without the start of a worker. Such a run went on elsewhere, and
its first calls compiled there what the plan compiles while it is decided who runs what.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from estimates import LONGEST_S, RECORDED

from ssmprof.planning.feasible import plan
from ssmprof.planning.machine import Machine
from ssmprof.planning.spent import job_s
from ssmprof.planning.strategies import expected
from ssmprof.records import Measurement, Run
from ssmprof.store import folder


class Planned(NamedTuple):
    """One block of one run."""

    run: str
    block: str
    said_s: float
    took_s: float

    @property
    def ratio(self) -> float:
        return self.said_s / self.took_s


def planned(path: Path) -> list[Planned]:
    """Every block of a run."""
    run = folder.load(path)
    device = next(iter(run.environments.values()))
    kind: Any = device.kind
    held = {one.key for one in run.outcomes}
    jobs = [job for job in expected(run.scenario, kind) if job.key in held]
    took = _took(run, {job.key for job in jobs})
    machine = Machine.of_device(device.device, kind)
    rows = plan(jobs, machine)
    said = {row.block: row.seconds or 0.0 for row in rows}
    if _overlaps(run):
        said = dict.fromkeys(said, 0.0)
        for job in jobs:
            said[job.point.block] += job_s(job, machine) or 0.0
    return [Planned(path.name, block, said[block], took[block]) for block in said]


def _overlaps(run: Run) -> bool:
    """Whether several workers measured it."""
    return len(run.environments) > 1


def _took(run: Run, keys: set[str]) -> dict[str, float]:
    ordered = sorted(run.outcomes, key=lambda one: one.started_unix_s)
    spent: dict[str, float] = defaultdict(float)
    for before, one in zip([None, *ordered], ordered, strict=False):
        if one.key in keys:
            spent[one.point.block] += one.wall_s
            if _overlaps(run) and isinstance(one, Measurement):
                spent[one.point.block] -= one.cold_s
            if before is not None and not _overlaps(run):
                between = one.started_unix_s - before.started_unix_s - before.wall_s
                spent[one.point.block] += min(max(between, 0.0), LONGEST_S)
    return spent


def all_of() -> list[Planned]:
    """Every block of every run."""
    return [one for path in RECORDED for one in planned(path)]


def table(found: list[Planned]) -> str:
    """A line per block, and one per run."""
    lines = [f"{'run':44}  {'block':20}  {'said':>6}  {'took':>6}  ratio"]
    for name in dict.fromkeys(one.run for one in found):
        mine = [one for one in found if one.run == name]
        whole = Planned(
            name, "all", *(sum(s) for s in zip(*(one[2:] for one in mine), strict=True))
        )
        lines += [
            f"{one.run:44}  {one.block:20}  {one.said_s:5.0f}s  {one.took_s:5.0f}s  "
            f"{one.ratio:5.2f}"
            for one in (*mine, whole)
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(all_of()), end="")
