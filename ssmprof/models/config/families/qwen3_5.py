"""Qwen3.5: Qwen3-Next's layers with a feed-forward each, or with experts; the text half of it."""

from __future__ import annotations

from msgspec import structs

from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import attention, each_with, gated
from ssmprof.models.config.deltas import GatedDeltas, gated_delta, mixers_of
from ssmprof.models.config.experts import Indices
from ssmprof.models.config.keys import Count, Epsilon, Text, Whole, must_be
from ssmprof.models.config.names.deltas import qwen35_names
from ssmprof.models.config.reader import Family
from ssmprof.models.config.rotary import turn
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size


class Qwen35(GatedDeltas, frozen=True, kw_only=True):
    """Keys of both; layers of `mtp_num_hidden_layers` predict further tokens and do not count."""

    num_hidden_layers: Count
    head_dim: Size | None = 256
    hidden_act: Text = "silu"
    attention_bias: bool = False
    attn_output_gate: bool = True
    mlp_only_layers: Indices = ()
    mtp_num_hidden_layers: Whole = 0
    mtp_use_dedicated_embeddings: bool = False
    rms_norm_eps: Epsilon = 1e-6
    tie_word_embeddings: bool = False


class Dense(Qwen35, frozen=True, kw_only=True):
    """Keys of a Qwen3.5 with feed-forwards."""

    num_key_value_heads: Size | None = 4
    intermediate_size: Size


class Sparse(Qwen35, frozen=True, kw_only=True):
    """Keys of a Qwen3.5 with experts; `intermediate_size` is of no layer."""

    num_key_value_heads: Size | None = 2
    intermediate_size: Size | None = None
    num_experts: Size = 256
    num_experts_per_tok: Size = 8
    moe_intermediate_size: Size = 512
    shared_expert_intermediate_size: Size = 512


def _of_text(keys: Qwen35) -> Qwen35:
    """The keys without those that place images: the three positions of a token of text agree."""
    told = keys.rope_parameters or {}
    kept = {key: value for key, value in told.items() if not key.startswith("mrope_")}
    return structs.replace(keys, rope_parameters=kept)


def _recipe(keys: Qwen35, name: str, after: str, part: Part) -> Recipe:
    must_be(keys.attn_output_gate, True, "attn_output_gate", "a Qwen3.5 without a gate")
    must_be(keys.mlp_only_layers, (), "mlp_only_layers", "a Qwen3.5 with two kinds of layers")
    turned = turn(_of_text(keys), keys.width, share=0.25)
    parts: dict[str, Part] = {
        "gated_delta": gated_delta(keys, keys.hidden_act),
        "attention": attention(keys, turned, bias=keys.attention_bias, qk_norm="head", gate=True),
        after: part,
    }
    return recipe(
        name,
        keys.hidden_size,
        each_with(mixers_of(keys, keys.num_hidden_layers), after),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
    )


def _dense(keys: Dense, name: str) -> Recipe:
    return _recipe(keys, name, "mlp", Mlp(d_ff=keys.intermediate_size, act=gated(keys.hidden_act)))


def _sparse(keys: Sparse, name: str) -> Recipe:
    moe = Moe(
        experts=keys.num_experts,
        experts_per_token=keys.num_experts_per_tok,
        d_ff=keys.moe_intermediate_size,
        act=gated(keys.hidden_act),
        shared_d_ff=keys.shared_expert_intermediate_size,
        shared_gate=True,
    )
    return _recipe(keys, name, "moe", moe)


FAMILIES = {
    "qwen3_5": Family(Dense, _dense, qwen35_names),
    "qwen3_5_text": Family(Dense, _dense, qwen35_names),
    "qwen3_5_moe": Family(Sparse, _sparse, qwen35_names),
    "qwen3_5_moe_text": Family(Sparse, _sparse, qwen35_names),
}
