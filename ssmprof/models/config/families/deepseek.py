"""DeepSeek-V2 (arXiv:2405.04434) and V3 (arXiv:2412.19437): latent attention, many experts."""

from __future__ import annotations

from typing import Literal

from ssmprof.mixers.mla.shape import Latent
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import gated
from ssmprof.models.config.experts import (
    LATENT_EPS,
    DeepseekExperts,
    deepseek_afters,
    one_of,
    pairs_of,
    without_bias,
)
from ssmprof.models.config.keys import Epsilon, KeyProblem, agree, must_be, shown
from ssmprof.models.config.names.experts import deepseek_names
from ssmprof.models.config.reader import Family
from ssmprof.models.config.rotary import turn
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size


class Deepseek(DeepseekExperts, frozen=True, kw_only=True):
    """Keys of a DeepSeek. Heads of keys are as many as queries: `num_key_value_heads`, `head_dim`
    and `qk_head_dim` are written out by files and say nothing more.
    """

    hidden_size: Size
    vocab_size: Size
    num_attention_heads: Size
    num_key_value_heads: Size | None = None
    head_dim: Size | None = None
    qk_head_dim: Size | None = None
    q_lora_rank: Size | None = 1536
    kv_lora_rank: Size = 512
    qk_nope_head_dim: Size = 128
    qk_rope_head_dim: Size = 64
    v_head_dim: Size = 128
    attention_bias: bool = False
    rope_interleave: bool = True
    rms_norm_eps: Epsilon = 1e-6
    tie_word_embeddings: bool = False


def _latent(keys: Deepseek) -> Latent:
    """Attention; every query head has a key of its own."""
    agree(keys.num_key_value_heads, keys.num_attention_heads, "num_key_value_heads", "heads")
    width = keys.qk_nope_head_dim + keys.qk_rope_head_dim
    agree(keys.qk_head_dim, width, "qk_head_dim", "qk_nope_head_dim + qk_rope_head_dim")
    turned = turn(keys, keys.qk_rope_head_dim)
    must_be(turned.dim, None, "partial_rotary_factor", "latent attention that turns a share")
    return Latent(
        heads=keys.num_attention_heads,
        kv_lora_rank=keys.kv_lora_rank,
        q_lora_rank=keys.q_lora_rank,
        qk_nope_head_dim=keys.qk_nope_head_dim,
        qk_rope_head_dim=keys.qk_rope_head_dim,
        v_head_dim=keys.v_head_dim,
        bias=keys.attention_bias,
        norm_eps=LATENT_EPS,
        rope_theta=turned.theta,
        rope_interleaved=keys.rope_interleave,
        rope_scaling=turned.scaling,
    )


def _recipe(keys: Deepseek, name: str, moe: Moe, dense: int) -> Recipe:
    without_bias(keys.mlp_bias)
    count = keys.num_hidden_layers
    parts: dict[str, Part] = {
        "mla": _latent(keys),
        "mlp": Mlp(d_ff=keys.intermediate_size, act=gated(keys.hidden_act)),
        "moe": moe,
    }
    return recipe(
        name,
        keys.hidden_size,
        pairs_of(["mla"] * count, deepseek_afters(count, dense, keys.moe_layer_freq)),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
    )


def _v3(keys: Deepseek, name: str) -> Recipe:
    must_be(keys.scoring_func or "sigmoid", "sigmoid", "scoring_func", "another score of experts")
    must_be(keys.topk_method or "noaux_tc", "noaux_tc", "topk_method", "another choice of experts")
    experts = one_of(
        keys.n_routed_experts, keys.num_local_experts, "n_routed_experts", "num_local_experts", 256
    )
    moe = Moe(
        experts=experts,
        experts_per_token=keys.num_experts_per_tok or 8,
        d_ff=keys.moe_intermediate_size,
        act=gated(keys.hidden_act),
        shared_d_ff=keys.moe_intermediate_size * _given(keys.n_shared_experts, 1),
        score="sigmoid",
        selection_bias=True,
        groups=keys.n_group or 8,
        top_groups=keys.topk_group or 4,
        renormalise=keys.norm_topk_prob is not False,
        scale=keys.routed_scaling_factor or 2.5,
    )
    return _recipe(keys, name, moe, _given(keys.first_k_dense_replace, 3))


def _v2(keys: Deepseek, name: str) -> Recipe:
    must_be(keys.scoring_func or "softmax", "softmax", "scoring_func", "another score of experts")
    method = keys.topk_method or "greedy"
    if method not in ("greedy", "group_limited_greedy"):
        raise KeyProblem("topk_method", f"{shown(method)}: another choice of experts")
    limited = method == "group_limited_greedy"
    groups = (keys.n_group or 1, keys.topk_group or 1) if limited else (1, 1)
    best: Literal["best"] = "best"
    if keys.num_experts_per_tok is None:
        raise KeyProblem("num_experts_per_tok", "missing")
    experts = one_of(
        keys.n_routed_experts, keys.num_local_experts, "n_routed_experts", "num_local_experts", 64
    )
    moe = Moe(
        experts=experts,
        experts_per_token=keys.num_experts_per_tok,
        d_ff=keys.moe_intermediate_size,
        act=gated(keys.hidden_act),
        shared_d_ff=keys.moe_intermediate_size * _given(keys.n_shared_experts, 2),
        groups=groups[0],
        top_groups=groups[1],
        group_score=best,
        renormalise=keys.norm_topk_prob is True,
        scale=keys.routed_scaling_factor or 1.0,
    )
    return _recipe(keys, name, moe, _given(keys.first_k_dense_replace, 0))


def _given(value: int | None, default: int) -> int:
    return default if value is None else value


FAMILIES = {
    "deepseek_v3": Family(Deepseek, _v3, deepseek_names),
    "deepseek_v2": Family(Deepseek, _v2, deepseek_names),
}
