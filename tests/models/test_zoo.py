"""The presets: sources, published sizes, and that they build."""

from __future__ import annotations

import pytest

from ssmprof.errors import ConfigError
from ssmprof.models import zoo
from ssmprof.models.build import build
from ssmprof.models.cost import parameters
from ssmprof.models.recipe import Recipe

NEEDED = {
    "qwen2.5-0.5b", "llama-3.2-1b", "mamba-130m", "mamba-790m", "mamba2-130m", "mamba2-780m",
    "falcon-h1-0.5b",
}  # fmt: skip
# Sums published to four digits only.
ROUNDED = {
    "nemotron-h-8b",
    "waleffe-mamba2-hybrid-8b",
    "waleffe-mamba2-8b",
    "waleffe-transformer-8b",
}


def test_the_zoo_holds_the_models_the_scenarios_need():
    assert set(zoo.names()) >= NEEDED
    for kind in ("transformer", "ssm", "hybrid"):
        assert zoo.names(kind)


@pytest.mark.parametrize("name", zoo.names())
def test_every_preset_has_a_source_and_the_published_parameters(name: str):
    found = zoo.entry(name)
    assert found.source
    assert found.recipe.name == name
    if found.params is not None:
        exact = 0 if name not in ROUNDED else 1e-3
        assert parameters(found.recipe) == pytest.approx(found.params, rel=exact)


@pytest.mark.parametrize("name", zoo.names())
def test_every_preset_builds_at_full_size_without_memory_or_says_why_not(name: str):
    recipe = zoo.preset(name)
    if name not in NEEDED and not runs(recipe):
        with pytest.raises(ConfigError, match="cannot be run yet"):
            build(recipe, "meta")
        return
    real = build(recipe, "meta")
    assert sum(p.numel() for p in real.parameters()) == parameters(recipe)


def runs(recipe: Recipe) -> bool:
    """Whether every sub-layer of a model has code, and nothing around them is counted only."""
    try:
        build(recipe, "meta")
    except ConfigError:
        return False
    return True


def test_an_unknown_preset_is_answered_with_the_nearest_known_one():
    with pytest.raises(
        ConfigError, match=r'unknown preset "mamba2-780"; did you mean "mamba2-780m"'
    ):
        zoo.preset("mamba2-780")
