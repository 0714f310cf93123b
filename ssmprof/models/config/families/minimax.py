"""MiniMax-01 (arXiv:2501.08313): lightning attention, softmax every eighth layer, experts."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, structs

from ssmprof import limits
from ssmprof.mixers.linear_attention.shape import Lightning
from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import Attending, attention, each_with, gated
from ssmprof.models.config.experts import one_of
from ssmprof.models.config.keys import (
    Count,
    Epsilon,
    Factor,
    KeyProblem,
    Layers,
    Text,
    Whole,
    agree,
    held_against,
    kinds,
    must_be,
)
from ssmprof.models.config.names.minimax import minimax_names
from ssmprof.models.config.reader import Family
from ssmprof.models.config.rotary import turn
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size, Tokens

KINDS = {"linear_attention": "lightning", "full_attention": "attention"}
Types = Annotated[tuple[Literal[0, 1], ...], Meta(max_length=limits.LAYERS)]


class MiniMax(Attending, frozen=True, kw_only=True):
    """Keys of a MiniMax, under the names of its own code and of transformers.

    The factors alpha and beta scale the stream and what is added to it; as the stream is normed in
    every step, only their ratio counts, and that is a scale of weights.
    """

    num_hidden_layers: Count
    intermediate_size: Size
    num_key_value_heads: Size | None = 8
    rotary_dim: Size | None = None
    attn_type_list: Types | None = None
    layer_types: Layers | None = None
    block_size: Size = 256
    num_local_experts: Size | None = None
    num_experts: Size | None = None
    num_experts_per_tok: Size = 2
    shared_intermediate_size: Whole = 0
    shared_moe_mode: Text | None = None
    sliding_window: Tokens | None = None
    postnorm: bool = True
    layernorm_full_attention_alpha: Factor = 1.0
    layernorm_full_attention_beta: Factor = 1.0
    layernorm_linear_attention_alpha: Factor = 1.0
    layernorm_linear_attention_beta: Factor = 1.0
    layernorm_mlp_alpha: Factor = 1.0
    layernorm_mlp_beta: Factor = 1.0
    full_attn_alpha_factor: Factor = 1.0
    full_attn_beta_factor: Factor = 1.0
    linear_attn_alpha_factor: Factor = 1.0
    linear_attn_beta_factor: Factor = 1.0
    mlp_alpha_factor: Factor = 1.0
    mlp_beta_factor: Factor = 1.0
    hidden_act: Text = "silu"
    rms_norm_eps: Epsilon = 1e-5
    tie_word_embeddings: bool = False


def _mixers(keys: MiniMax) -> list[str]:
    count = keys.num_hidden_layers
    if keys.attn_type_list is not None:
        if not keys.attn_type_list:
            raise KeyProblem("attn_type_list", "empty: a model without layers")
        held_against(keys.attn_type_list, count, "attn_type_list")
        found = ["attention" if full else "lightning" for full in keys.attn_type_list]
        if keys.layer_types is not None:
            listed = kinds(keys.layer_types, KINDS, "layer_types")
            agree(listed, found, "layer_types", "attn_type_list")
        return found
    if keys.layer_types is None:
        return ["lightning" if layer % 2 else "attention" for layer in range(count)]
    found = kinds(keys.layer_types, KINDS, "layer_types")
    held_against(found, count, "layer_types")
    return found


def _minimax(keys: MiniMax, name: str) -> Recipe:
    must_be(keys.hidden_act, "silu", "hidden_act", "a MiniMax with another activation")
    must_be(keys.shared_intermediate_size, 0, "shared_intermediate_size", "an expert of all tokens")
    must_be(keys.sliding_window, None, "sliding_window", "a MiniMax whose attention slides")
    turned = turn(keys, keys.width, theta=1e6)
    agree(keys.rotary_dim, turned.dim, "rotary_dim", "partial_rotary_factor makes it")
    if keys.rotary_dim is not None and keys.rotary_dim != keys.width:
        turned = turned._replace(dim=keys.rotary_dim)
    heads = keys.num_attention_heads
    parts: dict[str, Part] = {
        "lightning": Lightning(
            heads=heads, key_dim=keys.width, value_dim=keys.width, norm_eps=1e-6
        ),
        "attention": attention(keys, turned),
        "moe": Moe(
            experts=one_of(
                keys.num_local_experts, keys.num_experts, "num_local_experts", "num_experts", 8
            ),
            experts_per_token=keys.num_experts_per_tok,
            d_ff=keys.intermediate_size,
            act=gated(keys.hidden_act),
        ),
    }
    layers = each_with(_mixers(keys), "moe")
    if keys.postnorm:
        layers = tuple(structs.replace(layer, norm="stream") for layer in layers)
    return recipe(
        name,
        keys.hidden_size,
        layers,
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
    )


FAMILIES = {
    "minimax": Family(MiniMax, _minimax, minimax_names),
    "minimax_text_01": Family(MiniMax, _minimax, minimax_names),
}
