"""Transformers of one attention and one gated feed-forward per layer: what Llama began."""

from __future__ import annotations

from typing import Any

from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import Attending, attention, each_with, gated, windowed
from ssmprof.models.config.keys import Count, Epsilon, Layers, Text, held_against, kinds
from ssmprof.models.config.rotary import turn
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size

KINDS = {"full_attention": "attention", "sliding_attention": "sliding"}


class Dense(Attending, frozen=True, kw_only=True):
    """Keys of a dense transformer, with the defaults that most classes have."""

    intermediate_size: Size
    num_hidden_layers: Count
    hidden_act: Text = "silu"
    rms_norm_eps: Epsilon = 1e-6
    tie_word_embeddings: bool = False
    layer_types: Layers | None = None


def dense(
    keys: Dense,
    name: str,
    sliding: list[bool],
    window: int | None,
    *,
    mlp_bias: bool = False,
    yarn_is_longrope: bool = False,
    **values: Any,
) -> Recipe:
    """The recipe of a dense transformer; `sliding` says of each layer whether it has the window."""
    turned = turn(keys, keys.width, yarn_is_longrope=yarn_is_longrope)
    only = all(sliding)
    bound = windowed(window) if any(sliding) else None
    parts: dict[str, Part] = {
        "attention": attention(keys, turned, window=bound if only else None, **values),
        "sliding": attention(keys, turned, window=bound, **values),
        "mlp": Mlp(d_ff=keys.intermediate_size, act=gated(keys.hidden_act), bias=mlp_bias),
    }
    mixers = ["sliding" if slides and not only else "attention" for slides in sliding]
    return recipe(
        name,
        keys.hidden_size,
        each_with(mixers, "mlp"),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
    )


def slides(keys: Dense, otherwise: list[bool]) -> list[bool]:
    """Which layers slide by `layer_types`, or as the family has it where there is no list."""
    if keys.layer_types is None:
        return otherwise
    found = kinds(keys.layer_types, KINDS, "layer_types")
    held_against(found, keys.num_hidden_layers, "layer_types")
    return [kind == "sliding" for kind in found]
