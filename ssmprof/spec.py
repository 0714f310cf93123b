"""What can be asked: contenders, axes and budget of a sweep, as frozen values.

`planning.scenario` decodes TOML into these; presets and `config.json` files are resolved before, so
a spec is complete in itself and its digest names what was measured. Sizes are elements unless the
name says bytes; contexts are tokens; durations are seconds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ssmprof import limits
from ssmprof.models.recipe import Recipe, check_recipe
from ssmprof.scalars import (
    Architecture,
    Batch,
    Dtype,
    Execution,
    Logits,
    Name,
    Phase,
    Seconds,
    StoredDtype,
    Strategy,
    Tokens,
    Value,
)

InputSize = Tokens | Literal["batch", "length"]


class ForeignSpec(Value, frozen=True, kw_only=True, tag="foreign"):
    """A model that is not ours: `hf:FOLDER/config.json`, `module:function` or `/path.py:function`.

    Only the command line can name one, since building it runs its code. `input` is the shape of
    what a module is fed that takes numbers and no token ids.
    """

    name: Name
    factory: Name
    input: Annotated[tuple[InputSize, ...], Meta(min_length=1, max_length=8)] | None = None
    architecture: Architecture = "transformer"


Subject = Recipe | ForeignSpec


class Refine(Value, frozen=True, kw_only=True):
    """Extra contexts bisected around a crossover until it is known to `tolerance` (ratio)."""

    tolerance: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    max_extra: Annotated[int, Meta(ge=0, le=limits.EXTRA_CONTEXTS)] = 16


class Sweep(Value, frozen=True, kw_only=True):
    """The axes: every combination is a point.

    `weights_dtype` and `cache_dtype` are `dtype`, and `state_dtype` is what the block says, unless
    something else is asked for; bytes of those are counted, calls with them refused. Beyond
    `eager_up_to` tokens eager calls are left out where graphs are asked for as well: a long call
    hides its launches, and the time is better spent elsewhere. With `chunk` prompts are read as
    servers read them: a prefill is the last so many tokens of its context. `strategy` says what is
    measured: the `grid` of all combinations, what it takes to `decide` who wins where, or, `dense`,
    every length around each change of winner, three times, or as many points as the `surface` of
    times over batch and context needs.
    """

    contexts: Annotated[tuple[Tokens, ...], Meta(min_length=1, max_length=limits.CONTEXTS)]
    batch: Annotated[tuple[Batch, ...], Meta(min_length=1, max_length=limits.CONTEXTS)] = (1,)
    phase: Annotated[tuple[Phase, ...], Meta(min_length=1, max_length=2)] = ("prefill",)
    dtype: Dtype = "bfloat16"
    weights_dtype: StoredDtype | None = None
    cache_dtype: StoredDtype | None = None
    state_dtype: StoredDtype | None = None
    execution: Annotated[tuple[Execution, ...], Meta(min_length=1, max_length=2)] = (
        "graph",
        "eager",
    )
    eager_up_to: Tokens | None = None
    chunk: Tokens | None = None
    logits: Logits = "none"
    refine: Refine | None = None
    strategy: Strategy = "grid"


class Budget(Value, frozen=True, kw_only=True):
    """How long and how precisely to measure. Durations in seconds, noise and tie as ratios.

    Contenders that differ by less than `tie` are equal for whoever decides.
    """

    rounds: Annotated[int, Meta(ge=1, le=limits.ROUNDS)] = 5
    min_samples: Annotated[int, Meta(ge=1, le=limits.SAMPLES)] = 10
    min_time_s: Annotated[float, Meta(ge=0, le=limits.SECONDS)] = 0.5
    max_noise: Annotated[float, Meta(gt=0, lt=1)] = 0.01
    point_s: Seconds = 10.0
    timeout_s: Seconds = 180.0
    sweep_s: Seconds | None = None
    tie: Annotated[float, Meta(gt=0, lt=1)] = 0.02


class Passes(Value, frozen=True, kw_only=True):
    """Which passes run beside latency, apart from it since instruments disturb each other.

    `memory="fresh"` takes the peak in a worker that has run nothing else, once per point;
    `"block"` reuses the block's worker, which is good for the allocated peak only. `cap_bytes`
    limits torch's allocator, as on a smaller card; times under it say nothing about that card.
    """

    parts: bool = True
    memory: Literal["off", "block", "fresh"] = "fresh"
    energy: bool = False
    host: bool = False
    cupti: bool = True
    cap_bytes: Annotated[int, Meta(ge=1, le=limits.BYTES)] | None = None


class Scenario(Value, frozen=True, kw_only=True):
    """One question, its contenders and how to answer it."""

    name: Name
    question: Annotated[str, Meta(max_length=limits.TEXT_CHARACTERS)]
    sweep: Sweep
    blocks: Annotated[
        tuple[Recipe | ForeignSpec, ...], Meta(min_length=1, max_length=limits.BLOCKS)
    ]
    budget: Budget = Budget()
    passes: Passes = Passes()
    device: Literal["any", "cuda", "cpu"] = "any"
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0  # what torch and random both take


def check_scenario(scenario: Scenario) -> tuple[str, str] | None:
    """The first inconsistency of a scenario as (key, problem), or None."""
    seen: set[str] = set()
    for position, block in enumerate(scenario.blocks):
        where = f"blocks[{position}]"
        if block.name in seen:
            return f"{where}.name", f'"{block.name}" is taken; give each block its name'
        seen.add(block.name)
        problem = check_recipe(block) if isinstance(block, Recipe) else None
        if problem:
            return f"{where}.{problem[0]}", problem[1]
    axes = scenario.sweep
    points = len(axes.contexts) * len(axes.batch) * len(axes.phase) * len(axes.execution)
    points *= len(scenario.blocks) * scenario.budget.rounds
    if points > limits.POINTS:
        return "sweep", f"{points:,} points, all rounds counted; at most {limits.POINTS:,}"
    return None
