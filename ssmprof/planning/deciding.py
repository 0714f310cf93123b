"""A scenario -> which providers must be decided: one question per block, phase and batch.

Five lengths per phase: the middles of five equal parts of the scenario's range on a log scale, each
the stand-in for its part, so that a switch between two of them lies at their geometric mean, the
border of the parts. They are multiples of 64 from 128 tokens on and no powers of two, which flatter
some kernels: 512 to 128K gives 896, 2,688, 8,256, 24,832 and 75,264. They depend on the range
alone, never on what was measured. What is asked about is the short form of a model
(`models.short_form`); the answer holds for all of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec.structs import replace

from ssmprof.analysis.surface.places import batches
from ssmprof.models.recipe import Recipe
from ssmprof.models.short_form import short_form
from ssmprof.planning.expand import jobs
from ssmprof.records import Decision, Job, Trials
from ssmprof.spec import Scenario

PARTS = 5
SURFACE_PARTS = 2  # of a surface, whose batches are two questions already
_GRAIN = 64


def questions(
    scenario: Scenario,
    *,
    device: Literal["cuda", "cpu"] = "cuda",
    known: Iterable[Decision] = (),
) -> tuple[Trials, ...]:
    """What is to be decided before the first point; blocks in `known` decisions are left out.

    Models that are not ours choose their code themselves. Raises ConfigError as `expand` does.
    """
    decided = {
        (found.block_digest, found.conditions.phase, found.conditions.batch) for found in known
    }
    batch, parts = scenario.sweep.batch, PARTS
    if scenario.sweep.strategy == "surface":  # the batches between take the nearest one's word
        batch, parts = tuple(dict.fromkeys((batch[0], batch[-1]))), SURFACE_PARTS
    once = replace(
        scenario,
        sweep=replace(scenario.sweep, execution=("graph",), batch=batch),
        budget=replace(scenario.budget, rounds=1),
    )
    groups: dict[tuple[str, str, int], list[Job]] = {}
    for job in jobs(once, lengths(scenario.sweep.contexts, parts), device=device):
        point = job.point
        if scenario.sweep.strategy == "surface" and point.batch not in batches(
            scenario.sweep, point.phase
        ):
            continue  # prompts are read one at a time
        key = (point.block_digest, point.phase, point.batch)
        if key not in decided:
            groups.setdefault(key, []).append(job)
    found: list[Trials] = []
    for members in groups.values():
        subject = members[0].subject
        if isinstance(subject, Recipe):
            points = sorted((job.point for job in members), key=lambda point: point.context)
            short, shortened = short_form(subject)
            found.append(
                Trials(
                    subject=short,
                    points=tuple(points),
                    budget=scenario.budget,
                    shortened=shortened,
                )
            )
    order = {block.name: index for index, block in enumerate(scenario.blocks)}
    return tuple(sorted(found, key=lambda one: order[one.subject.name]))


def lengths(contexts: Iterable[int], parts: int = PARTS) -> tuple[int, ...]:
    """The lengths at which a scenario over these contexts decides, ascending and distinct."""
    wanted = tuple(contexts)
    low, high = min(wanted), max(wanted)
    middles = (low * (high / low) ** ((part + 0.5) / parts) for part in range(parts))
    return tuple(sorted({_rounded(middle) for middle in middles}))


def _rounded(length: float) -> int:
    if length < 2 * _GRAIN:
        return max(1, round(length))
    tiles = max(2, round(length / _GRAIN))
    if tiles & (tiles - 1) == 0:
        tiles += 1
    return tiles * _GRAIN
