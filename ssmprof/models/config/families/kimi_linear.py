"""Kimi Linear (arXiv:2510.26692): Kimi delta attention, latent attention without positions."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ssmprof.mixers.delta.shape import Kda
from ssmprof.mixers.mla.shape import Latent
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import Attending, gated
from ssmprof.models.config.experts import LATENT_EPS, Indices, deepseek_afters, one_of, pairs_of
from ssmprof.models.config.keys import (
    Count,
    Epsilon,
    Factor,
    KeyProblem,
    Layers,
    Text,
    Whole,
    agree,
    decode,
    held_against,
    kinds,
    must_be,
)
from ssmprof.models.config.names.deltas import kimi_names
from ssmprof.models.config.reader import Family
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size

KINDS = {"linear_attention": "kda", "full_attention": "mla"}
AFTERS = {"dense": "mlp", "sparse": "moe"}


class KimiLinear(Attending, frozen=True, kw_only=True):
    """Keys of a Kimi Linear, under the names of its own code and of transformers 5.

    `head_dim` and `qk_head_dim` are written out by files and used by no layer.
    """

    num_hidden_layers: Count
    intermediate_size: Size
    moe_intermediate_size: Size
    qk_head_dim: Size | None = None
    linear_attn_config: dict[str, Any] | None = None
    linear_head_dim: Size | None = None
    linear_num_heads: Size | None = None
    linear_conv_kernel_dim: Size | None = None
    layer_types: Layers | None = None
    mlp_layer_types: Layers | None = None
    q_lora_rank: Size | None = None
    kv_lora_rank: Size = 512
    qk_nope_head_dim: Size = 128
    qk_rope_head_dim: Size = 64
    v_head_dim: Size = 128
    mla_use_nope: bool = True
    attention_bias: bool = False
    num_experts: Size | None = None
    num_local_experts: Size | None = None
    num_experts_per_token: Size | None = None
    num_experts_per_tok: Size | None = None
    num_shared_experts: Whole | None = None
    n_shared_experts: Whole | None = None
    first_k_dense_replace: Whole = 1
    moe_layer_freq: Size = 1
    moe_router_activation_func: Text = "sigmoid"
    moe_renormalize: bool | None = None
    norm_topk_prob: bool | None = None
    num_expert_group: Size | None = None
    n_group: Size | None = None
    topk_group: Size | None = 1
    use_grouped_topk: bool = True
    routed_scaling_factor: Factor = 2.446
    num_nextn_predict_layers: Whole = 0
    hidden_act: Text = "silu"
    rms_norm_eps: Epsilon = 1e-5
    tie_word_embeddings: bool = False


class Linear(Struct, frozen=True, kw_only=True):
    """Keys of the object that says which layers are delta attention, counted from one."""

    kda_layers: Indices | None = None
    full_attn_layers: Indices | None = None
    head_dim: Size | None = None
    num_heads: Size | None = None
    short_conv_kernel_size: Size | None = None


def _mixers(keys: KimiLinear, linear: Linear) -> list[str]:
    """The mixer of each layer: of the object, else of the list, else every fourth latent."""
    count = keys.num_hidden_layers
    if linear.kda_layers is not None and linear.full_attn_layers is not None:
        named = sorted((*linear.kda_layers, *linear.full_attn_layers))
        if named != list(range(1, count + 1)):
            told = f"{len(named)} layers named, but each of {count} is one or the other"
            raise KeyProblem("linear_attn_config.kda_layers", told)
        return ["kda" if layer + 1 in linear.kda_layers else "mla" for layer in range(count)]
    if keys.layer_types is None:
        return ["mla" if layer and layer % 4 == 0 else "kda" for layer in range(count)]
    found = kinds(keys.layer_types, KINDS, "layer_types")
    held_against(found, count, "layer_types")
    return found


def _afters(keys: KimiLinear) -> list[str]:
    if keys.mlp_layer_types is None:
        dense, every = keys.first_k_dense_replace, keys.moe_layer_freq
        return deepseek_afters(keys.num_hidden_layers, dense, every)
    found = kinds(keys.mlp_layer_types, AFTERS, "mlp_layer_types")
    held_against(found, keys.num_hidden_layers, "mlp_layer_types")
    return found


def _latent(keys: KimiLinear) -> Latent:
    must_be(keys.mla_use_nope, True, "mla_use_nope", "a Kimi Linear with positions")
    agree(keys.num_key_value_heads, keys.num_attention_heads, "num_key_value_heads", "heads")
    return Latent(
        heads=keys.num_attention_heads,
        kv_lora_rank=keys.kv_lora_rank,
        q_lora_rank=keys.q_lora_rank,
        qk_nope_head_dim=keys.qk_nope_head_dim,
        qk_rope_head_dim=keys.qk_rope_head_dim,
        v_head_dim=keys.v_head_dim,
        bias=keys.attention_bias,
        norm_eps=LATENT_EPS,
        rope_theta=None,
    )


def _kda(keys: KimiLinear, linear: Linear) -> Kda:
    width = one_of(linear.head_dim, keys.linear_head_dim, "head_dim", "linear_head_dim", 128)
    return Kda(
        heads=one_of(linear.num_heads, keys.linear_num_heads, "num_heads", "linear_num_heads", 32),
        key_dim=width,
        value_dim=width,
        d_conv=one_of(
            linear.short_conv_kernel_size,
            keys.linear_conv_kernel_dim,
            "short_conv_kernel_size",
            "linear_conv_kernel_dim",
            4,
        ),
    )


def _experts(keys: KimiLinear) -> Moe:
    score = keys.moe_router_activation_func
    must_be(score, "sigmoid", "moe_router_activation_func", "another score of experts")
    agree(keys.moe_renormalize, keys.norm_topk_prob, "moe_renormalize", "norm_topk_prob")
    shared = one_of(
        keys.num_shared_experts, keys.n_shared_experts, "num_shared_experts", "n_shared_experts", 1
    )
    groups = one_of(keys.num_expert_group, keys.n_group, "num_expert_group", "n_group", 1)
    return Moe(
        experts=one_of(
            keys.num_experts, keys.num_local_experts, "num_experts", "num_local_experts", 256
        ),
        experts_per_token=one_of(
            keys.num_experts_per_token,
            keys.num_experts_per_tok,
            "num_experts_per_token",
            "num_experts_per_tok",
            8,
        ),
        d_ff=keys.moe_intermediate_size,
        act=gated(keys.hidden_act),
        shared_d_ff=keys.moe_intermediate_size * shared,
        score="sigmoid",
        selection_bias=True,
        groups=groups if keys.use_grouped_topk else 1,
        top_groups=(keys.topk_group or 1) if keys.use_grouped_topk else 1,
        renormalise=False not in (keys.moe_renormalize, keys.norm_topk_prob),
        scale=keys.routed_scaling_factor,
    )


def _kimi(keys: KimiLinear, name: str) -> Recipe:
    must_be(keys.hidden_act, "silu", "hidden_act", "a Kimi Linear with another activation")
    linear = decode(keys.linear_attn_config or {}, Linear, inside="linear_attn_config.")
    parts: dict[str, Part] = {
        "kda": _kda(keys, linear),
        "mla": _latent(keys),
        "mlp": Mlp(d_ff=keys.intermediate_size, act=gated(keys.hidden_act)),
        "moe": _experts(keys),
    }
    return recipe(
        name,
        keys.hidden_size,
        pairs_of(_mixers(keys, linear), _afters(keys)),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
    )


FAMILIES = {"kimi_linear": Family(KimiLinear, _kimi, kimi_names)}
