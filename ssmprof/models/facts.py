"""What a model weighs and keeps, from its recipe: the numbers people compare models by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from ssmprof.mixers import registry
from ssmprof.models.cost import active_parameters, held, parameters
from ssmprof.models.recipe import kinds
from ssmprof.records import Point, Prefill
from ssmprof.scalars import Architecture, StoredDtype, stored_bytes

if TYPE_CHECKING:
    from ssmprof.mixers.part import Owner
    from ssmprof.models.recipe import Recipe

# Keys and values are averaged over a sequence of so many tokens: windows cap what is kept.
SEQUENCE_TOKENS = 65_536


class Facts(Struct, frozen=True, kw_only=True):
    """Sizes of a model. `layers` counts sub-layers by kind, `layer_count` layers as models do.

    `kv_bytes_per_token` are the bf16 bytes of keys and values (latents of MLA) of a sequence of
    65,536 tokens, by its tokens; a recurrent state is kept in float32, a window of a convolution
    (or a token shift) in bf16, d_conv columns wide. `missing` are kinds of sub-layers that can be
    counted and not yet run.
    """

    name: str
    architecture: Architecture
    params: int
    active_params: int
    kv_bytes_per_token: float
    recurrent_bytes_per_sequence: int
    conv_bytes_per_sequence: int
    state_bytes_per_sequence: int
    d_model: int
    vocab: int | None
    layer_count: int
    layers: dict[str, int]
    missing: tuple[str, ...] = ()


def facts(recipe: Recipe) -> Facts:
    """The sizes of a recipe; what they mean stands with `Facts`."""
    kept = {
        "kv": _bytes(recipe, "kv", "bfloat16"),
        "ssm_state": _bytes(recipe, "ssm_state", "float32"),
        "conv_state": _bytes(recipe, "conv_state", "bfloat16"),
    }
    found = kinds(recipe)
    return Facts(
        name=recipe.name,
        architecture=recipe.architecture,
        params=parameters(recipe),
        active_params=active_parameters(recipe),
        kv_bytes_per_token=kept["kv"] / SEQUENCE_TOKENS,
        recurrent_bytes_per_sequence=kept["ssm_state"],
        conv_bytes_per_sequence=kept["conv_state"],
        state_bytes_per_sequence=kept["ssm_state"] + kept["conv_state"],
        d_model=recipe.d_model,
        vocab=recipe.vocab,
        layer_count=recipe.layer_count,
        layers=found,
        missing=tuple(name for name in found if not registry.runs(name)),
    )


def _bytes(recipe: Recipe, owner: Owner, dtype: StoredDtype) -> int:
    point = Point(block=recipe.name, block_digest="", workload=Prefill(context=SEQUENCE_TOKENS))
    tensors = (one for one in held(recipe, point) if one.owner == owner)
    return sum(stored_bytes(one.elements, dtype) for one in tensors)
