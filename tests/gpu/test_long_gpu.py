"""Every contender of `zoo` from one token to 131,072 on a GPU, and the steps after them."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from ssmprof.models.build import build
from ssmprof.models.recipe import Recipe
from ssmprof.planning import scenario

pytestmark = pytest.mark.gpu

LONGEST, STEPS = 131_072, 3
ZOO = scenario.load(Path(__file__).parents[2] / "scenarios" / "zoo.toml").blocks
# Plain forms are walked from chunk to chunk: the kernels' lengths say the same of them.
CAST = [one for one in ZOO if isinstance(one, Recipe) and not one.name.endswith("-plain")]
each = pytest.mark.parametrize("spec", CAST, ids=lambda spec: spec.name)


@pytest.fixture(autouse=True)
def _room():
    yield
    gc.collect()
    torch.cuda.empty_cache()


@each
@pytest.mark.parametrize("tokens", [1, 2, 63, LONGEST])
def test_a_prompt_of_any_length_and_the_steps_after_it_are_finite(spec: Recipe, tokens: int):
    model = build(spec, "cuda", "bfloat16", seed=1)
    cache = model.new_cache(1, tokens + STEPS)
    assert model.prefill(model.example(1, tokens), cache).isfinite().all()
    cache.advance(tokens)
    for step in range(STEPS):
        assert model.step(model.example(1, None, seed=step), cache).isfinite().all()
        cache.advance()


@each
def test_a_step_after_the_longest_prompt_is_the_last_token_of_a_longer_one(spec: Recipe):
    model = build(spec, "cuda", "bfloat16", seed=1)
    inputs = model.example(1, LONGEST)
    cache = model.new_cache(1, LONGEST)
    model.prefill(inputs[:, :-1], cache)
    cache.advance(LONGEST - 1)
    stepped = model.step(inputs[:, -1], cache).float()
    whole = model.prefill(inputs, model.new_cache(1, LONGEST))[:, -1].float()
    assert (stepped - whole).norm() <= 3e-2 * whole.norm()
