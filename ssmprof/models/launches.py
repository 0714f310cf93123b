"""Kernels of one call of a recipe that run one after the other, by arithmetic, without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssmprof.mixers.steps import Steps
from ssmprof.mixers.workspace import form_of

if TYPE_CHECKING:
    from ssmprof.models.recipe import Recipe
    from ssmprof.records import Point

# Kernels of a sub-layer with its norm that do not depend on the length of a prompt.
PER_SUBLAYER = 8


def launches(recipe: Recipe, point: Point) -> Steps:
    """Those of all sub-layers; `PER_SUBLAYER` of each are launched by Python."""
    each = [part.steps(point, form_of(part, recipe.providers)) for _, part in recipe.used()]
    return Steps(
        launches=len(each) * PER_SUBLAYER + sum(one.launches for one in each),
        native=sum(one.native for one in each),
        moved_bytes=sum(one.moved_bytes for one in each),
    )
