"""Qwen2 and Qwen3 with experts (arXiv:2407.10671, arXiv:2505.09388)."""

from __future__ import annotations

from typing import Any

from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import Attending, attention, gated
from ssmprof.models.config.experts import Indices, one_of, pairs_of, qwen_afters
from ssmprof.models.config.keys import (
    Count,
    Epsilon,
    Layers,
    Text,
    Whole,
    held_against,
    kinds,
    must_be,
)
from ssmprof.models.config.reader import Family
from ssmprof.models.config.rotary import turn
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size

NEEDS = "experts behind attention that slides"


class QwenMoe(Attending, frozen=True, kw_only=True):
    """Keys of both; windows are switched off in all published files."""

    num_hidden_layers: Count
    intermediate_size: Size
    hidden_act: Text = "silu"
    decoder_sparse_step: Size = 1
    mlp_only_layers: Indices = ()
    num_experts: Whole | None = None
    num_local_experts: Whole | None = None
    num_experts_per_tok: Size
    moe_intermediate_size: Size
    norm_topk_prob: bool = False
    rms_norm_eps: Epsilon = 1e-6
    tie_word_embeddings: bool = False
    use_sliding_window: bool = False
    sliding_window: Whole | None = None
    layer_types: Layers | None = None


class Qwen2Moe(QwenMoe, frozen=True, kw_only=True):
    """Keys of a Qwen2 with experts, one of them seen by every token."""

    num_key_value_heads: Size | None = 16
    num_experts_per_tok: Size = 4
    moe_intermediate_size: Size = 1408
    shared_expert_intermediate_size: Whole = 5632
    qkv_bias: bool = True


class Qwen3Moe(QwenMoe, frozen=True, kw_only=True):
    """Keys of a Qwen3 with experts."""

    num_key_value_heads: Size | None = 4
    num_experts_per_tok: Size = 8
    moe_intermediate_size: Size = 768
    attention_bias: bool = False


def _recipe(keys: QwenMoe, name: str, default: int, shared: int, **values: Any) -> Recipe:
    must_be(keys.use_sliding_window, False, "use_sliding_window", NEEDS)
    if keys.layer_types is not None:
        listed = kinds(keys.layer_types, {"full_attention": "attention"}, "layer_types")
        held_against(listed, keys.num_hidden_layers, "layer_types")
    experts = one_of(
        keys.num_experts, keys.num_local_experts, "num_experts", "num_local_experts", default
    )
    act, count = gated(keys.hidden_act), keys.num_hidden_layers
    parts: dict[str, Part] = {
        "attention": attention(keys, turn(keys, keys.width), **values),
        "mlp": Mlp(d_ff=keys.intermediate_size, act=act),
    }
    if experts:
        parts["moe"] = Moe(
            experts=experts,
            experts_per_token=keys.num_experts_per_tok,
            d_ff=keys.moe_intermediate_size,
            act=act,
            shared_d_ff=shared,
            shared_gate=bool(shared),
            renormalise=keys.norm_topk_prob,
        )
    afters = qwen_afters(count, experts, keys.decoder_sparse_step, keys.mlp_only_layers)
    return recipe(
        name,
        keys.hidden_size,
        pairs_of(["attention"] * count, afters),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
    )


def _qwen2(keys: Qwen2Moe, name: str) -> Recipe:
    return _recipe(keys, name, 60, keys.shared_expert_intermediate_size, qkv_bias=keys.qkv_bias)


def _qwen3(keys: Qwen3Moe, name: str) -> Recipe:
    return _recipe(keys, name, 128, 0, bias=keys.attention_bias, qk_norm="head")


FAMILIES = {"qwen2_moe": Family(Qwen2Moe, _qwen2), "qwen3_moe": Family(Qwen3Moe, _qwen3)}
