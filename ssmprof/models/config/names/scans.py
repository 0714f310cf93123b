"""Names of models of state spaces alone."""

from __future__ import annotations

from typing import Any

from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.models.config.names import one
from ssmprof.models.config.names.parts import Names, ends, mamba1, mamba2
from ssmprof.models.recipe import Recipe


def _start(recipe: Recipe) -> Names:
    found = ends(recipe, "backbone.embeddings.weight", "backbone.norm_f.weight")
    for step in range(len(recipe.layers)):
        found[f"stack.layers.{step}.norm.weight"] = one(f"backbone.layers.{step}.norm.weight")
    return found


def mamba1_names(keys: Any, recipe: Recipe) -> Names:
    """Names of Mamba and Falcon-Mamba."""
    found, part = _start(recipe), recipe.parts["mamba1"]
    assert isinstance(part, Mamba1)
    for step in range(len(recipe.layers)):
        found |= mamba1(part, f"stack.layers.{step}.parts.0", f"backbone.layers.{step}.mixer")
    return found


def mamba2_names(keys: Any, recipe: Recipe) -> Names:
    """Names of Mamba-2."""
    found, part = _start(recipe), recipe.parts["mamba2"]
    assert isinstance(part, Mamba2)
    for step in range(len(recipe.layers)):
        found |= mamba2(part, f"stack.layers.{step}.parts.0", f"backbone.layers.{step}.mixer")
    return found
