"""Granite 4: Mamba-2 and some attention without positions, feed-forwards or experts."""

from __future__ import annotations

from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import Scanning, attention, each_with, gated, scan
from ssmprof.models.config.keys import (
    Count,
    Epsilon,
    Factor,
    KeyProblem,
    Layers,
    Text,
    Whole,
    held_against,
    kinds,
    must_be,
    shown,
)
from ssmprof.models.config.names.hybrids import granite_names
from ssmprof.models.config.reader import Family
from ssmprof.models.config.rotary import turn
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size

KINDS = {
    "mamba": "mamba2", "linear_attention": "mamba2", "attention": "attention",
    "full_attention": "attention",
}  # fmt: skip


class Granite(Scanning, frozen=True, kw_only=True):
    """Keys of a Granite 4; `intermediate_size` is an expert's, where there are any.

    Attention and residual multipliers scale weights by name; those of the ends are in the recipe.
    """

    num_hidden_layers: Count
    intermediate_size: Size | None = None
    shared_intermediate_size: Size = 1024
    num_local_experts: Whole = 8
    num_experts_per_tok: Whole = 2
    layer_types: Layers | None = None
    hidden_act: Text = "silu"
    rms_norm_eps: Epsilon = 1e-6
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    position_embedding_type: Text | None = None
    normalization_function: Text = "rmsnorm"
    embedding_multiplier: Factor = 1.0
    logits_scaling: Factor = 1.0
    residual_multiplier: Factor = 1.0
    attention_multiplier: Factor = 1.0


def _after(keys: Granite) -> Part:
    """The feed-forward of every layer, or experts beside it."""
    act, shared = gated(keys.hidden_act), keys.shared_intermediate_size
    if not keys.num_local_experts:
        return Mlp(d_ff=shared, act=act)
    if not keys.num_experts_per_tok:
        raise KeyProblem("num_experts_per_tok", f"0 of {keys.num_local_experts} experts")
    if keys.intermediate_size is None:
        raise KeyProblem("intermediate_size", "missing: the width of an expert")
    return Moe(
        experts=keys.num_local_experts,
        experts_per_token=keys.num_experts_per_tok,
        d_ff=keys.intermediate_size,
        act=act,
        shared_d_ff=shared,
    )


def _granite(keys: Granite, name: str) -> Recipe:
    must_be(keys.hidden_act, "silu", "hidden_act", "a Granite with another activation")
    must_be(
        keys.normalization_function, "rmsnorm", "normalization_function", "norms of another kind"
    )
    if keys.position_embedding_type not in (None, "nope", "rope"):
        told = shown(keys.position_embedding_type)
        raise KeyProblem("position_embedding_type", f"{told} is neither rope nor nope")
    mixers = ["mamba2"] * keys.num_hidden_layers
    if keys.layer_types is not None:
        mixers = kinds(keys.layer_types, KINDS, "layer_types")
        held_against(mixers, keys.num_hidden_layers, "layer_types")
    turned = turn(keys, keys.width) if keys.position_embedding_type == "rope" else None
    after = "moe" if keys.num_local_experts else "mlp"
    parts: dict[str, Part] = {after: _after(keys)}
    if "attention" in mixers:
        parts["attention"] = attention(keys, turned, bias=keys.attention_bias)
    if "mamba2" in mixers:
        parts["mamba2"] = scan(keys)
    return recipe(
        name,
        keys.hidden_size,
        each_with(mixers, after),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
        embedding_scale=keys.embedding_multiplier,
        logits_scale=1.0 / keys.logits_scaling,
    )


FAMILIES = {"granitemoehybrid": Family(Granite, _granite, granite_names)}
