"""Olmo Hybrid: gated DeltaNet with negative eigenvalues, and OLMo-2's attention every fourth layer.

Attention layers norm what they made, the others what they read.
"""

from __future__ import annotations

from msgspec import structs

from ssmprof.mixers.delta.shape import GatedDelta
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import Attending, attention, gated, steps
from ssmprof.models.config.keys import (
    Count,
    Epsilon,
    KeyProblem,
    Layers,
    Positive,
    Text,
    held_against,
    kinds,
    must_be,
)
from ssmprof.models.config.names.deltas import olmo_hybrid_names
from ssmprof.models.config.reader import Family
from ssmprof.models.config.rotary import THETA, Turn, turn
from ssmprof.models.recipe import Layer, Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size

KINDS = {"linear_attention": "gated_delta", "full_attention": "attention"}


class OlmoHybrid(Attending, frozen=True, kw_only=True):
    """Keys of an Olmo Hybrid; a base of null is no positions, and one not there the usual."""

    num_hidden_layers: Count
    intermediate_size: Size
    rope_theta: Positive | None = THETA
    layer_types: Layers | None = None
    linear_num_key_heads: Size | None = None
    linear_num_value_heads: Size | None = None
    linear_key_head_dim: Size | None = None
    linear_value_head_dim: Size | None = None
    linear_conv_kernel_dim: Size = 4
    linear_allow_neg_eigval: bool = True
    linear_a_log_min: float | None = None
    linear_a_log_max: float | None = None
    linear_dt_min: float | None = None
    linear_dt_max: float | None = None
    linear_dt_init_floor: float | None = None
    attention_bias: bool = False
    hidden_act: Text = "silu"
    rms_norm_eps: Epsilon = 1e-6
    tie_word_embeddings: bool = False


def _mixers(keys: OlmoHybrid) -> list[str]:
    count = keys.num_hidden_layers
    if keys.layer_types is None:
        found = ["attention" if layer % 4 == 3 else "gated_delta" for layer in range(count)]
        return found if "attention" in found else [*found[:-1], "attention"]
    found = kinds(keys.layer_types, KINDS, "layer_types")
    held_against(found, count, "layer_types")
    return found


def _delta(keys: OlmoHybrid) -> GatedDelta:
    key_heads = keys.linear_num_key_heads or keys.num_attention_heads
    key = keys.linear_key_head_dim or int(0.75 * keys.hidden_size / key_heads)
    if not key:
        raise KeyProblem("linear_num_key_heads", f"{key_heads} do not fit {keys.hidden_size}")
    return GatedDelta(
        heads=keys.linear_num_value_heads or keys.num_attention_heads,
        key_heads=key_heads,
        key_dim=key,
        value_dim=keys.linear_value_head_dim or 2 * key,
        d_conv=keys.linear_conv_kernel_dim,
        negative_eigenvalues=keys.linear_allow_neg_eigval,
        norm_eps=1e-5,
    )


def _turned(keys: OlmoHybrid) -> Turn | None:
    """How attention turns, if it does."""
    theta = (keys.rope_parameters or {}).get("rope_theta", keys.rope_theta)
    return None if theta is None else turn(keys, keys.width)


def _layers(mixers: list[str]) -> tuple[Layer, ...]:
    before = steps([name for mixer in mixers for name in (mixer, "mlp")])
    after = [structs.replace(layer, norm="after") for layer in before]
    attends = [mixer == "attention" for mixer in mixers for _ in range(2)]
    return tuple(a if here else b for here, a, b in zip(attends, after, before, strict=True))


def _olmo_hybrid(keys: OlmoHybrid, name: str) -> Recipe:
    must_be(keys.hidden_act, "silu", "hidden_act", "an Olmo Hybrid with another activation")
    parts: dict[str, Part] = {
        "gated_delta": _delta(keys),
        "attention": attention(keys, _turned(keys), bias=keys.attention_bias, qk_norm="width"),
        "mlp": Mlp(d_ff=keys.intermediate_size, act=gated(keys.hidden_act)),
    }
    return recipe(
        name,
        keys.hidden_size,
        _layers(_mixers(keys)),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
    )


FAMILIES = {"olmo_hybrid": Family(OlmoHybrid, _olmo_hybrid, olmo_hybrid_names)}
