"""What the blocks of an engine leave empty at the prompts that somebody has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssmprof.analysis.findings import Advice
from ssmprof.models.recipe import Recipe
from ssmprof.serving import vllm
from ssmprof.serving.layout import Sharing, caches
from ssmprof.serving.rules import Vllm, engine

if TYPE_CHECKING:
    from ssmprof.records import Run

# Padding that is a smaller part of a prompt is not worth a word.
_WORTH = 0.05


def padding(recipe: Recipe, prompt_tokens: int, where: str) -> Advice | None:
    """How much of the last block of a prompt is empty, where states make blocks long.

    None where a model has no states or no attention, or where it is less than 5 % of the prompt.
    """
    kinds = {part.memory for _, part in recipe.used()}
    if not ("both" in kinds or {"grows", "fixed"} <= kinds):
        return None
    rules = engine("vllm")
    assert isinstance(rules, Vllm)
    block = vllm.plan(caches(recipe, Sharing()), rules, "align", "triton", 0).block_tokens
    assert block is not None
    empty = -prompt_tokens % block
    if empty < _WORTH * prompt_tokens:
        return None
    return Advice(
        finding=f"{recipe.name}: {empty:,} of {block:,} tokens of a block are padding at "
        f"{where} in vLLM",
        evidence=f"{prompt_tokens:,} tokens; vLLM {rules.version} makes a block as long as a state "
        f"is large, and reuses prefixes of {block:,} tokens only",
    )


def advice(run: Run) -> list[Advice]:
    """Padding of every contender at the median prompt that the run measured."""
    prompts = sorted(one.point.context for one in run.outcomes if one.point.phase == "prefill")
    if not prompts:
        return []
    median = prompts[len(prompts) // 2]
    recipes = (block for block in run.scenario.blocks if isinstance(block, Recipe))
    found = (padding(recipe, median, "your median prompt") for recipe in recipes)
    return [one for one in found if one is not None]
