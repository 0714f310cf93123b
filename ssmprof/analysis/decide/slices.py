"""Whether slices of models may be ranked without a word: the one rule, and why.

Slices whose layers hold about as many parameters are stacks of one size, as blocks written out are:
a question of its own, and their names say that they are no models. Anything else ranks how much was
cut off as much as what is left. One share of the layers (8 of 48 and 4 of 24) is no better: what
was cut off may be of another kind than what was kept, and embedding and head were not divided.
Where no contender is a slice there is no such question: whole models and blocks written out are
compared as their author wants them.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ssmprof import limits
from ssmprof.models.cost import parameters
from ssmprof.models.recipe import Recipe
from ssmprof.spec import Subject

_MOST = 4  # contenders told in one breath


def unequal(contenders: Sequence[Subject]) -> str | None:
    """What a ranking of these must say; None where nothing has to be said."""
    slices = [one for one in contenders if isinstance(one, Recipe) and one.slice is not None]
    if not slices or len(contenders) < 2:
        return None
    if len(slices) == len(contenders) and _one_size(slices):
        return None
    told = ", ".join(_told(one, first=one is contenders[0]) for one in contenders[:_MOST])
    rest = f" and {len(contenders) - _MOST} more" if len(contenders) > _MOST else ""
    return f"{told}{rest}: what wins here need not win whole."


def _one_size(slices: Sequence[Recipe]) -> bool:
    """Whether the layers alone hold about as many parameters; tables of words do not count."""
    sizes = [parameters(replace(one, vocab=None, meta_tokens=0)) for one in slices]
    return max(sizes) <= min(sizes) * limits.EQUAL_SLICES


def _told(one: Subject, *, first: bool) -> str:
    if not isinstance(one, Recipe) or one.slice is None:
        return f"{one.name} is no slice"
    layers = " layers" if first else ""
    return f"{one.name} is {one.slice.layers} of {one.slice.whole}{layers}"
