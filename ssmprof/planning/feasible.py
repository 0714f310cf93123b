"""What a scenario would need on a machine: bytes, seconds and joules, before anything runs.

Times are those of calls (`calls`) as often as measuring makes them (`spent`), and of deciding who
runs which op before (`decided`): good to 40 % on a GPU of the table, and called an estimate. Memory
is the predicted peak and much nearer. Points far beyond the memory are skipped with the prediction
as reason; those near the limit are tried: running out of memory is a result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ssmprof.models.footprint import footprint
from ssmprof.models.recipe import Recipe
from ssmprof.planning.machine import Machine
from ssmprof.planning.spent import START_S, job_s
from ssmprof.records import Job, Point
from ssmprof.spec import Scenario

POWER_SHARE = 0.7  # of the board's limit under load


@dataclass
class Row:
    """The plan of one block."""

    block: str
    points: int = 0
    skipped: list[Point] = field(default_factory=list[Point])
    seconds: float | None = 0.0  # None where nobody knows the work of a model that is not ours
    energy_j: float | None = None
    deciding_s: float = 0.0  # before its first point: who runs which op


def peak_bytes(job: Job, machine: Machine) -> int | None:
    """Predicted peak of a job's call; None for a subject whose shapes are not known."""
    if not isinstance(job.subject, Recipe):
        return None
    return footprint(job.subject, job.point, hopper=machine.hopper).peak_bytes


def plan(
    jobs: Iterable[Job], machine: Machine, deciding: Mapping[str, float] | None = None
) -> list[Row]:
    """One row per block: its points, those that would not fit, seconds and joules of all rounds.

    A point is listed as skipped where its predicted peak exceeds the memory at all. `deciding` has
    the seconds by block of what comes before the points (`decided.deciding_s`).
    """
    rows: dict[str, Row] = {}
    workers: set[tuple[str, int]] = set()
    seen: set[str] = set()
    for job in jobs:
        row = rows.setdefault(job.point.block, Row(job.point.block))
        predicted = peak_bytes(job, machine)
        fits = machine.memory_bytes is None or (predicted or 0) <= machine.memory_bytes
        if job.point.key not in seen:
            seen.add(job.point.key)
            row.points += fits
            if not fits:
                row.skipped.append(job.point)
        if not fits:
            continue
        spent = job_s(job, machine)
        if spent is None or row.seconds is None:
            row.seconds = None
            continue
        row.seconds += spent
        if (job.point.block, job.round) not in workers:
            workers.add((job.point.block, job.round))
            row.seconds += START_S[machine.kind]
    for row in rows.values():
        row.deciding_s = (deciding or {}).get(row.block, 0.0)
        if machine.power_w is not None and row.seconds is not None:
            row.energy_j = (row.seconds + row.deciding_s) * machine.power_w * POWER_SHARE
    return list(rows.values())


def limited_s(scenario: Scenario, rows: Iterable[Row]) -> float | None:
    """Estimated seconds of all points, cut at the sweep's own time budget; None where unknown."""
    told = [row.seconds for row in rows]
    if None in told:
        return None
    return min(sum(s for s in told if s is not None), scenario.budget.sweep_s or float("inf"))


def whole_s(scenario: Scenario, rows: Iterable[Row]) -> float | None:
    """Seconds of the sweep: its points, and before them, beside its budget, who runs which op."""
    told = list(rows)
    points = limited_s(scenario, told)
    return None if points is None else points + sum(row.deciding_s for row in told)
