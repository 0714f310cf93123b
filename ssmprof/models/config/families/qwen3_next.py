"""Qwen3-Next: gated DeltaNet with gated attention every fourth layer, and experts."""

from __future__ import annotations

from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import attention, gated
from ssmprof.models.config.deltas import GatedDeltas, gated_delta, mixers_of
from ssmprof.models.config.experts import Indices, pairs_of, qwen_afters
from ssmprof.models.config.keys import Count, Epsilon, Text, Whole, must_be
from ssmprof.models.config.names.deltas import qwen3_next_names
from ssmprof.models.config.reader import Family
from ssmprof.models.config.rotary import turn
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size


class Qwen3Next(GatedDeltas, frozen=True, kw_only=True):
    """Keys of a Qwen3-Next; a quarter of a head is turned."""

    num_hidden_layers: Count
    intermediate_size: Size
    hidden_act: Text = "silu"
    num_key_value_heads: Size | None = 2
    head_dim: Size | None = 256
    decoder_sparse_step: Size = 1
    mlp_only_layers: Indices = ()
    num_experts: Whole = 512
    num_experts_per_tok: Size = 10
    moe_intermediate_size: Size = 512
    shared_expert_intermediate_size: Size = 512
    norm_topk_prob: bool = True
    attention_bias: bool = False
    attn_output_gate: bool = True
    rms_norm_eps: Epsilon = 1e-6
    tie_word_embeddings: bool = False


def _qwen3_next(keys: Qwen3Next, name: str) -> Recipe:
    must_be(keys.attn_output_gate, True, "attn_output_gate", "a Qwen3-Next without a gate")
    turned = turn(keys, keys.width, share=0.25)
    parts: dict[str, Part] = {
        "gated_delta": gated_delta(keys, keys.hidden_act),
        "attention": attention(keys, turned, bias=keys.attention_bias, qk_norm="head", gate=True),
        "mlp": Mlp(d_ff=keys.intermediate_size, act=gated(keys.hidden_act)),
    }
    if keys.num_experts:
        parts["moe"] = Moe(
            experts=keys.num_experts,
            experts_per_token=keys.num_experts_per_tok,
            d_ff=keys.moe_intermediate_size,
            act=gated(keys.hidden_act),
            shared_d_ff=keys.shared_expert_intermediate_size,
            shared_gate=True,
            renormalise=keys.norm_topk_prob,
        )
    count = keys.num_hidden_layers
    afters = qwen_afters(count, keys.num_experts, keys.decoder_sparse_step, keys.mlp_only_layers)
    return recipe(
        name,
        keys.hidden_size,
        pairs_of(mixers_of(keys, count), afters),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
    )


FAMILIES = {"qwen3_next": Family(Qwen3Next, _qwen3_next, qwen3_next_names)}
