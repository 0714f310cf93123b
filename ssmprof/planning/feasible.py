"""What a scenario would need on a machine: bytes, seconds and joules, before anything runs.

Times are the arithmetic of `models.cost` over peak rates at EFFICIENCY, plus a launch per op, plus
what measuring itself takes: good to a factor of about 1.5 on a GPU of the table, and called an
estimate. Memory is the predicted peak and much nearer. Points far beyond the memory are skipped
with the prediction as reason; those near the limit are tried: running out of memory is a result.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ssmprof.chips import chips, find_chip
from ssmprof.models.cost import breakdown
from ssmprof.models.footprint import footprint
from ssmprof.models.recipe import Recipe
from ssmprof.records import Job, Point
from ssmprof.spec import Scenario

EFFICIENCY = 0.5  # of the ceiling that binds an op, typical of the shapes of the scenarios
HOPELESS = 1.25  # predicted peak over memory from which a point is not tried
OPS_PER_SUBLAYER = 8  # kernels of one sub-layer, launched one by one
START_S = {"cuda": 5.0, "cpu": 4.0}  # a worker: imports, context, weights, compiled kernels loaded
FRESH_S = {"cuda": 1.5, "cpu": 1.5}  # a process of its own for one reading of memory
POINT_S = 0.12  # per point beside its calls
PARTS_CALLS = 4  # replays with marks and CUPTI's cycle, of a long call
PARTS_S = 0.25  # and at least this
ENERGY_S = 30.0  # five windows of five seconds, and idle
POWER_SHARE = 0.7  # of the board's limit under load


@dataclass(frozen=True)
class Machine:
    """What an estimate needs to know. Rates in bytes/s, FLOP/s and results/s; watts, bytes."""

    name: str
    kind: str
    bytes_per_s: float
    flops: float
    exps_per_s: float
    launch_s: float
    memory_bytes: int | None = None
    power_w: float | None = None
    hopper: bool = False

    @classmethod
    def of_device(cls, name: str, kind: str, memory_bytes: int | None = None) -> Machine:
        """By the table of chips; an unknown GPU is taken for a small one, a CPU for two cores."""
        key = find_chip(name) if kind == "cuda" else None
        if key is None:
            unknown_gpu = kind == "cuda"
            return cls(
                name=name,
                kind=kind,
                bytes_per_s=3e11 if unknown_gpu else 3e10,
                flops=3e13 if unknown_gpu else 1.6e11,
                exps_per_s=5e11 if unknown_gpu else 1.2e9,
                launch_s=6e-6,
                memory_bytes=memory_bytes,
            )
        chip = chips()[key]
        tensor = chip.bf16_dense_flops or chip.fp16_dense_flops or chip.fp32_flops
        visible = chip.memory_visible_bytes or chip.memory_bytes
        return cls(
            name=name,
            kind=kind,
            bytes_per_s=chip.mem_bandwidth_bytes_per_s.value,
            flops=tensor.value,
            exps_per_s=chip.exp_per_s,
            launch_s=6e-6,
            memory_bytes=memory_bytes or int(visible.value),
            power_w=chip.tdp_w.value if chip.tdp_w else None,
            hopper=float(chip.compute_capability) >= 9.0,
        )


@dataclass
class Row:
    """The plan of one block."""

    block: str
    points: int = 0
    skipped: list[Point] = field(default_factory=list[Point])
    seconds: float | None = 0.0  # None where nobody knows the work of a model that is not ours
    energy_j: float | None = None


def call_s(recipe: Recipe, point: Point, machine: Machine) -> float:
    """Estimated seconds of one call."""
    floors = 0.0
    for cost in breakdown(recipe, point).values():
        floors += max(
            (cost.read_bytes + cost.written_bytes) / machine.bytes_per_s,
            cost.flops / machine.flops,
            cost.exps / machine.exps_per_s,
        )
    launches = 0.0
    if point.execution == "eager":
        launches = sum(1 for _ in recipe.used()) * OPS_PER_SUBLAYER * machine.launch_s
    return floors / EFFICIENCY + launches


def job_s(job: Job, machine: Machine) -> float | None:
    """Estimated seconds of a job: its warm-up, samples and passes, without the worker's start.

    None for a model that is not ours, whose work no shape tells.
    """
    if not isinstance(job.subject, Recipe):
        return None
    one, budget = call_s(job.subject, job.point, machine), job.budget
    samples = max(budget.min_samples * one, budget.min_time_s)
    if samples > budget.point_s:
        samples = max(budget.point_s, 3 * one)
    spent = POINT_S + 2.5 * one + samples * (1.2 if machine.kind == "cuda" else 1.0)
    if job.passes.parts:
        spent += max(PARTS_CALLS * one, PARTS_S)
    if job.passes.memory != "off":
        spent += 2 * one + (FRESH_S[machine.kind] if job.passes.memory == "fresh" else 0.0)
    return spent + (ENERGY_S if job.passes.energy else 0.0)


def peak_bytes(job: Job, machine: Machine) -> int | None:
    """Predicted peak of a job's call; None for a subject whose shapes are not known."""
    if not isinstance(job.subject, Recipe):
        return None
    return footprint(job.subject, job.point, hopper=machine.hopper).peak_bytes


def plan(jobs: Iterable[Job], machine: Machine) -> list[Row]:
    """One row per block: its points, those that would not fit, seconds and joules of all rounds.

    A point is listed as skipped where its predicted peak exceeds the memory at all.
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
        if machine.power_w is not None and row.seconds is not None:
            row.energy_j = row.seconds * machine.power_w * POWER_SHARE
    return list(rows.values())


def limited_s(scenario: Scenario, rows: Iterable[Row]) -> float | None:
    """Estimated seconds of the whole sweep, cut at its own time budget; None where unknown."""
    told = [row.seconds for row in rows]
    if None in told:
        return None
    return min(sum(s for s in told if s is not None), scenario.budget.sweep_s or float("inf"))
