"""A scenario -> jobs in rounds.

The process is the unit of replication, so each round visits all blocks, in an order drawn by the
seed and reversed in the next round: drift of clocks and temperature then hits every contender
alike, and the ratio of two medians of the same round is nearly free of it. All points of a block
and round follow each other, so that one worker serves them: first its decode steps, since a card
that has just read long prompts is at its power limit for a while. Contexts are shuffled as well,
except the longest: those that may not fit come last and ascending, since each death costs a worker
and says what the longer ones need not try.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Literal

import msgspec

from ssmprof.errors import ConfigError
from ssmprof.models.recipe import Recipe
from ssmprof.records import WORKLOADS, Job, Point, Prefill
from ssmprof.scalars import Execution, Phase, digest
from ssmprof.spec import Passes, Scenario, Subject

# Shares of time need three rounds for an interval; more would buy little for their cost.
PARTS_ROUNDS = 3
# What heats a card least is measured first.
HEAT: dict[Phase, int] = {"decode": 0, "prefill": 1}


def expand(scenario: Scenario, *, device: Literal["cuda", "cpu"] = "cuda") -> tuple[Job, ...]:
    """All jobs of a scenario, round by round, a block's jobs of a round in one piece."""
    return jobs(scenario, scenario.sweep.contexts, device=device)


def jobs(
    scenario: Scenario,
    contexts: Iterable[int],
    *,
    device: Literal["cuda", "cpu"] = "cuda",
    blocks: Iterable[str] | None = None,
) -> tuple[Job, ...]:
    """Jobs of the scenario at `contexts`, for all of its blocks or those named.

    A CPU has no graphs: execution "graph" is left out there, and "eager" takes its place where it
    was the only one.
    """
    refuse_unrunnable(scenario)
    lengths = tuple(contexts)
    wanted = None if blocks is None else set(blocks)
    chosen = [block for block in scenario.blocks if wanted is None or block.name in wanted]
    order = list(chosen)
    random.Random(scenario.seed).shuffle(order)
    found: list[Job] = []
    for turn in range(scenario.budget.rounds):
        for block in order if turn % 2 == 0 else reversed(order):
            found.extend(_block_round(scenario, block, turn, lengths, device))
    return tuple(found)


def refuse_unrunnable(scenario: Scenario) -> None:
    """Raise ConfigError for storage that no kernel here reads: better than to time another one."""
    sweep = scenario.sweep
    for name in ("weights_dtype", "cache_dtype", "state_dtype"):
        asked = getattr(sweep, name)
        if asked is not None and (asked != sweep.dtype or name == "state_dtype"):
            raise ConfigError(
                f"sweep.{name}: {asked} cannot be run, only counted",
                cause="blocks run with weights and caches of sweep.dtype and states of their own",
                fix=f"leave it out, or count its bytes: ssmprof memory MODEL --{name[:-6]}-dtype "
                f"{asked}",
            )


def _block_round(
    scenario: Scenario, block: Subject, turn: int, contexts: tuple[int, ...], device: str
) -> Iterable[Job]:
    sweep = scenario.sweep
    for phase in sorted(sweep.phase, key=HEAT.__getitem__):
        for batch in sweep.batch:
            for context in _shuffled(contexts, f"{scenario.seed}-{block.name}-{turn}-{phase}"):
                ways = executions(scenario, context, device)
                for execution in ways:
                    yield Job(
                        point=point_of(scenario, block, phase, batch, execution, context),
                        subject=block,
                        round=turn,
                        budget=scenario.budget,
                        passes=_passes(scenario.passes, turn, first=execution == ways[0]),
                    )


def point_of(
    scenario: Scenario,
    block: Subject,
    phase: Phase,
    batch: int,
    execution: Execution,
    context: int,
) -> Point:
    """One point of a scenario."""
    sweep = scenario.sweep
    if phase == "prefill" and sweep.chunk is not None:
        workload = Prefill(context=context, chunk=sweep.chunk)
    else:
        workload = WORKLOADS[phase](context=context)
    return Point(
        block=block.name,
        block_digest=digest(block),
        workload=workload,
        batch=batch,
        dtype=sweep.dtype,
        weights_dtype=sweep.weights_dtype,
        cache_dtype=sweep.cache_dtype,
        state_dtype=sweep.state_dtype,
        seed=scenario.seed,
        execution=execution,
        logits=sweep.logits if _has_head(block) else "none",
    )


def executions(scenario: Scenario, context: int, device: str) -> tuple[Execution, ...]:
    """How a point of this length is run: a CPU has no graphs, long calls need not be eager."""
    sweep = scenario.sweep
    if device != "cuda":
        return ("eager",)
    if sweep.eager_up_to is not None and context > sweep.eager_up_to and "graph" in sweep.execution:
        return ("graph",)
    return sweep.execution


def _has_head(block: Subject) -> bool:
    return not isinstance(block, Recipe) or block.vocab is not None


def _shuffled(contexts: tuple[int, ...], seed: str) -> list[int]:
    """Contexts in random order, those above half of the longest last and ascending."""
    limit = max(contexts, default=0) / 2
    early = [context for context in contexts if context <= limit]
    random.Random(seed).shuffle(early)
    return early + sorted(context for context in contexts if context > limit)


def _passes(passes: Passes, turn: int, *, first: bool) -> Passes:
    """What a job looks at beside latency.

    Memory, energy over a window of seconds, host and CUPTI's check hardly differ between rounds:
    they are looked at once. A call has the same kernels in a graph and eager, so only its first
    execution is taken apart and weighed.
    """
    return msgspec.structs.replace(
        passes,
        parts=passes.parts and first and turn < PARTS_ROUNDS,
        memory=passes.memory if first and turn == 0 else "off",
        energy=passes.energy and first and turn == 0,
        host=passes.host and turn == 0,
        cupti=passes.cupti and first and turn == 0,
    )
