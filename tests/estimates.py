"""`python -m estimates`: the first time left that a sweep prints, against the time it took.

Two kinds of sweeps whose end is known. Recorded: the committed runs, outcome by outcome as their
journals have it. Simulated: planted curves through the strategy that decides, on a device that adds
up seconds: points of the grid take what points of a recorded run took, processes and lengths of a
visit what `deciding` says of an H200. Each sweep is faster or slower than the plan knows, all of it
by a factor whose logarithm has a standard deviation of 0.35, and half of them have a budget.
The constants of `planning.left` were chosen with seeds 0 to 9; the table is of 10 to 29.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import deciding
import numpy as np
import simulations
from deciding import ENVIRONMENTS, MemoryJournal, Virtual
from msgspec.structs import replace

from ssmprof.planning.left import Left
from ssmprof.planning.machine import Machine
from ssmprof.planning.strategies import STRATEGIES, expected
from ssmprof.records import Job, Outcome, Run, Visit
from ssmprof.session.loop import measure_all
from ssmprof.spec import Scenario
from ssmprof.store import folder

ROOT = Path(__file__).parents[1]
RECORDED = sorted((ROOT / "reports").glob("2026-*"))
KINDS = ("smooth", "h200", "jagged", "never", "waves", "close", "five")
UNKNOWN = 0.35
LONGEST_S = 30.0  # between two points of one session; a run that went on later has more


class Told(NamedTuple):
    """What was said as soon as anything was, and what came."""

    sweep: str
    said_s: float
    took_s: float
    before_s: float

    @property
    def ratio(self) -> float:
        return self.said_s / self.took_s


def recorded(path: Path) -> Told:
    """A run as it was: what would have been said after its first point, or after its pilot.

    What the run does not hold was not asked for: it took its devices no time. Of several workers
    at the same time their seconds count together, as the plan's do.
    """
    run = folder.load(path)
    ordered = sorted(run.outcomes, key=lambda one: one.started_unix_s)
    if run.scenario.sweep.strategy == "decide":
        return _after_pilot(path.name, run, ordered)
    machine = next(iter(run.environments.values()))
    kind: Any = machine.kind
    device = Machine.of_device(machine.device, kind)
    left = Left(run.scenario, kind, device)
    asked = expected(run.scenario, kind)
    if run.scenario.sweep.strategy == "grid":  # others ask step by step
        left.expect(asked)
    left.skip({job.key for job in asked} - {one.key for one in ordered})
    first = ordered[0]
    took = max(_worked_s(ordered), sum(one.wall_s for one in ordered))
    spent = first.wall_s
    left.took(first.key, spent)
    points = len(ordered)
    return Told(path.name, left.left_s() or 0.0, took - spent, spent * (points - 1))


def _worked_s(ordered: Sequence[Outcome]) -> float:
    """From the first to the last point, without the time between a session and the next."""
    worked, until = 0.0, ordered[0].started_unix_s
    for one in ordered:
        end = one.started_unix_s + one.wall_s
        idle = max(0.0, one.started_unix_s - until)
        worked += max(0.0, end - until) - (idle if idle > LONGEST_S else 0.0)
        until = max(until, end)
    return worked


def _after_pilot(name: str, run: Run, ordered: Sequence[Outcome]) -> Told:
    machine = next(iter(run.environments.values()))
    kind: Any = machine.kind
    left = Left(run.scenario, kind, Machine.of_device(machine.device, kind))
    pilot = [one for one in ordered if one.round == ordered[0].round]
    plan = STRATEGIES["decide"]
    left.expect(plan.begin(run.scenario, [], run.environments, kind))
    for one in pilot:
        left.took(one.key, one.wall_s)
    step = plan.go_on(run.scenario, pilot, run.environments, kind)
    left.expect(step.asked, step.answers)
    end = max(one.started_unix_s + one.wall_s for one in ordered)
    rest = next(one for one in ordered if one.round != ordered[0].round)
    spent = sum(one.wall_s for one in pilot)
    points = len(ordered) - len(pilot)
    return Told(
        name, left.left_s() or 0.0, end - rest.started_unix_s, spent / len(pilot) * points
    )  # fmt: skip


class Timed(Virtual):
    """A virtual device whose grid takes what a recorded one took, all by an unknown factor."""

    def __init__(self, truth: Any, seed: int, walls: list[float]) -> None:
        super().__init__(truth, seed=seed)
        self._rng = np.random.default_rng([seed, 7])
        self._walls = walls
        self.factor = float(np.exp(self._rng.normal(0, UNKNOWN)))
        self._spent = 0.0
        self._before = 0.0

    def clock(self) -> float:
        return self._spent

    def __call__(self, todo: Any) -> Iterator[Outcome]:
        for asked in todo:
            for outcome in super().__call__([asked]):
                step = self.device_s - self._before
                self._before = self.device_s
                if isinstance(asked, Job):
                    step = float(self._rng.choice(self._walls))
                self._spent += step * self.factor
                yield outcome


def simulated(kind: str, seed: int, walls: list[float]) -> Told:
    """One sweep that decides; every second one within a budget of two to ten minutes."""
    rng = np.random.default_rng([seed, *kind.encode()])
    truth, _ = getattr(simulations, kind)(rng)
    scenario = deciding.scenario(*truth.curves)
    budget = float(rng.uniform(120, 600)) if seed % 2 else None
    scenario = replace(scenario, budget=replace(scenario.budget, sweep_s=budget))
    plan = STRATEGIES[scenario.sweep.strategy]
    device = Timed(truth, seed, walls)
    left = Left(scenario, "cuda", Machine.of_device("NVIDIA H200", "cuda"))
    said: list[tuple[float, float]] = []
    averages: list[float] = []
    asked = 0

    def begin(scenario: Scenario) -> Sequence[Job | Visit]:
        first = plan.begin(scenario, [], ENVIRONMENTS, "cuda")
        left.expect(first)
        return first

    def go_on(scenario: Scenario, outcomes: Sequence[Outcome]) -> Sequence[Job | Visit]:
        step = plan.go_on(scenario, outcomes, ENVIRONMENTS, "cuda")
        left.expect(step.asked, step.answers)
        return step.asked

    def measure(todo: Iterable[Job | Visit]) -> Iterator[Outcome]:
        nonlocal asked
        todo = list(todo)
        asked += sum(len(one.jobs()) for one in todo)
        before = device.clock()
        for outcome in device(todo):
            left.took(outcome.key, device.clock() - before)
            before = device.clock()
            told = left.left_s()
            if not averages:
                averages.append(before * (asked - 1))
            if told is not None and not said:
                said.append((told, before))
            yield outcome

    measure_all(scenario, MemoryJournal(), measure, go_on, expand=begin, clock=device.clock)
    first, at = said[0]
    name = f"{kind} {seed}" + (f", budget {budget:.0f} s" if budget else "")
    return Told(name, first, device.clock() - at, averages[0])


def walls_of(run: Run) -> list[float]:
    """Seconds that the points of a recorded run took."""
    return [one.wall_s for one in run.measurements() if one.wall_s > 0]


def all_of(seeds: Iterable[int]) -> list[Told]:
    """Every sweep."""
    walls = walls_of(folder.load(RECORDED[0]))
    return [recorded(path) for path in RECORDED] + [
        simulated(kind, seed, walls) for kind in KINDS for seed in seeds
    ]


def table(found: list[Told]) -> str:
    """A line per sweep and how many were told within a factor of two."""
    lines = [f"{'sweep':48}  {'said':>8}  {'took':>8}  ratio  {'average x points':>16}"]
    lines += [
        f"{one.sweep:48}  {one.said_s:7.0f}s  {one.took_s:7.0f}s  {one.ratio:5.2f}  "
        f"{one.before_s:15.0f}s"
        for one in found
    ]
    near = sum(abs(math.log2(one.ratio)) <= 1 for one in found)
    once = sum(abs(math.log2(max(one.before_s, 1e-9) / one.took_s)) <= 1 for one in found)
    lines.append(
        f"within a factor of 2: {near} of {len(found)}; average of the first point times what was "
        f"asked, as before: {once}"
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(all_of(range(10, 30))), end="")
