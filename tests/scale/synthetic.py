"""Run folders of any size, cast from a committed run: real records at times planted on power laws.

Each outcome takes its kernels, memory, notes, clocks and samples from a measurement of an H100 run
and is moved to its own contender, length and time. As there, replays of graphs have times per
kernel, the first round has memory, and two thirds of the points carry a note.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import make
from msgspec.structs import replace

from ssmprof.records import WORKLOADS, Attribution, Measurement, Memory, Point, Run
from ssmprof.spec import BlockSpec, Execution, Phase, Scenario, digest
from ssmprof.store import files, folder
from ssmprof.store.journal import encode_line

MOULD = Path(__file__).parents[2] / "reports" / "2026-11-22-crossover-h100-80gb-hbm3"
KERNELS = 10
_FIRST, _LAST = 256, 2**20  # tokens


class Shape(NamedTuple):
    """The axes of a synthetic run; their product is its number of outcomes."""

    contexts: int = 25
    contenders: int = 4
    rounds: int = 5
    batches: int = 1
    phases: tuple[Phase, ...] = ("prefill",)
    executions: tuple[Execution, ...] = ("graph", "eager")

    @property
    def outcomes(self) -> int:
        """How many there are."""
        facets = self.batches * len(self.phases) * len(self.executions)
        return self.contexts * self.contenders * self.rounds * facets

    @property
    def lengths(self) -> tuple[int, ...]:
        """Lengths evenly spaced in their logarithm, each once."""
        steps = max(self.contexts - 1, 1)
        found = [
            round(_FIRST * (_LAST / _FIRST) ** (step / steps)) for step in range(self.contexts)
        ]
        for index in range(1, len(found)):
            found[index] = max(found[index], found[index - 1] + 1)
        return tuple(found)


@cache
def mould() -> Run:
    """The run from which outcomes are cast."""
    return folder.load(MOULD)


def scenario(shape: Shape) -> Scenario:
    """The question: blocks of the committed run under numbered names."""
    first = mould().scenario
    sizes = [block for block in first.blocks if isinstance(block, BlockSpec)]
    blocks = tuple(
        replace(sizes[number % len(sizes)], name=f"{sizes[number % len(sizes)].name}-{number}")
        for number in range(shape.contenders)
    )
    return replace(
        first,
        name="scale",
        blocks=blocks,
        budget=replace(first.budget, rounds=shape.rounds),
        sweep=replace(
            first.sweep,
            contexts=shape.lengths,
            batch=tuple(range(1, shape.batches + 1)),
            phase=shape.phases,
            execution=shape.executions,
        ),
    )


def write(path: Path, shape: Shape) -> int:
    """Store a run of this shape; returns the bytes of its outcomes."""
    asked = scenario(shape)
    with folder.create(path, asked) as opened:
        for environment in mould().environments.values():
            opened.add_environment(environment)
        for sample in mould().telemetry:
            opened.add_telemetry(sample)
    file = path / files.OUTCOMES_FILE
    with file.open("wb") as lines:
        for outcome in outcomes(asked):
            lines.write(encode_line(outcome))
    return file.stat().st_size


def outcomes(asked: Scenario) -> Iterator[Measurement]:
    """Every point in every round, each measured."""
    axes = asked.sweep
    for round_index in range(asked.budget.rounds):
        for number, block in enumerate(asked.blocks):
            name, spec = block.name, digest(block)
            process = random.Random(f"{name} {round_index}").gauss(0, 0.004)
            for phase in axes.phase:
                for batch in axes.batch:
                    for context in axes.contexts:
                        for execution in axes.execution:
                            point = Point(
                                block=name,
                                block_digest=spec,
                                workload=WORKLOADS[phase](context=context),
                                batch=batch,
                                dtype=axes.dtype,
                                execution=execution,
                                logits=axes.logits,
                                seed=asked.seed,
                            )
                            time_s = _seconds(number, point) * math.exp(process)
                            yield _cast(number, point, round_index, time_s)


def _seconds(number: int, point: Point) -> float:
    """The planted time of a call: contenders cross one another along the lengths."""
    tokens = point.batch * point.context
    launches_s = 2e-4 if point.execution == "eager" else 0.0
    if point.phase == "decode":
        return launches_s + 1e-4 * point.batch * (1 + point.context / 2e4 / (1 + number))
    exponent = 1.0 + 0.5 / (1 + number % 7)
    return launches_s + 2e-8 * (1 + number % 5) * tokens**exponent


@cache
def _moulds(phase: Phase, execution: Execution) -> list[Measurement]:
    found = [
        one
        for one in mould().measurements()
        if one.point.phase == phase
        and one.point.execution == execution
        and (execution == "eager" or one.attribution is not None)
    ]
    return sorted(found, key=lambda one: one.point.context)


def _cast(number: int, point: Point, round_index: int, time_s: float) -> Measurement:
    moulds = _moulds(point.phase, point.execution)
    one = moulds[(number * 31 + point.context + round_index) % len(moulds)]
    scale = time_s / one.time_s
    graph = point.execution == "graph"
    return replace(
        one,
        point=point,
        round=round_index,
        times_s=tuple(time * scale for time in one.times_s[:24]),
        hot_times_s=tuple(time * scale for time in one.hot_times_s[:12]),
        attribution=_scaled(one.attribution, scale) if graph and one.attribution else None,
        memory=_memory(number, point) if graph and round_index == 0 else None,
    )


def _scaled(found: Attribution, scale: float) -> Attribution:
    kernels = tuple(
        replace(
            kernel,
            times_s=tuple(time * scale for time in kernel.times_s),
            cupti_s=kernel.cupti_s and kernel.cupti_s * scale,
        )
        for kernel in found.kernels[:KERNELS]
    )
    whole_s = math.fsum(sorted(kernel.times_s)[len(kernel.times_s) // 2] for kernel in kernels)
    return replace(found, kernels=kernels, whole_s=whole_s * 1.002, closure=0.002)


def _memory(number: int, point: Point) -> Memory:
    return make.memory(point.batch * point.context * (1 + number % 3), fresh=True)
