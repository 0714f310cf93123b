"""gpt-oss (arXiv:2508.10925): alternating windows with sinks, experts with biases everywhere."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import Attending, attention, each_with, gated, windowed
from ssmprof.models.config.experts import one_of
from ssmprof.models.config.keys import (
    Count,
    Epsilon,
    Factor,
    Layers,
    Text,
    held_against,
    kinds,
    must_be,
)
from ssmprof.models.config.names.experts import gpt_oss_names
from ssmprof.models.config.reader import Family
from ssmprof.models.config.rotary import turn
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size, Tokens

KINDS = {"full_attention": "attention", "sliding_attention": "sliding"}
# How positions are stretched where a file does not say it.
STRETCHED: dict[str, Any] = {
    "rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
    "original_max_position_embeddings": 4096,
}  # fmt: skip


class GptOss(Attending, frozen=True, kw_only=True):
    """Keys of a gpt-oss; `experts_per_token` is an older name."""

    num_hidden_layers: Count
    intermediate_size: Size
    num_key_value_heads: Size | None = 8
    head_dim: Size | None = 64
    num_local_experts: Size | None = None
    num_experts: Size | None = None
    num_experts_per_tok: Size | None = None
    experts_per_token: Size | None = None
    sliding_window: Tokens | None = 128
    layer_types: Layers | None = None
    attention_bias: bool = True
    hidden_act: Text = "silu"
    swiglu_limit: Factor = 7.0
    swiglu_alpha: Factor = 1.702
    rms_norm_eps: Epsilon = 1e-5
    tie_word_embeddings: bool = False
    initial_context_length: Tokens | None = None


def _gpt_oss(keys: GptOss, name: str) -> Recipe:
    must_be(keys.hidden_act, "silu", "hidden_act", "a gpt-oss with another activation")
    must_be(keys.swiglu_alpha, 1.702, "swiglu_alpha", "a gated activation of another slope")
    if keys.rope_scaling is None and keys.rope_parameters is None:
        keys = structs.replace(keys, rope_scaling=STRETCHED)
    turned = turn(keys, keys.width, theta=150_000.0)
    types = keys.layer_types
    if types is None:
        names = ("sliding_attention", "full_attention")
        types = tuple(names[layer % 2] for layer in range(keys.num_hidden_layers))
    mixers = kinds(types, KINDS, "layer_types")
    held_against(mixers, keys.num_hidden_layers, "layer_types")
    window = windowed(keys.sliding_window) if "sliding" in mixers else None
    both = {"bias": keys.attention_bias, "sinks": True}
    moe = Moe(
        experts=one_of(
            keys.num_local_experts, keys.num_experts, "num_local_experts", "num_experts", 128
        ),
        experts_per_token=one_of(
            keys.num_experts_per_tok,
            keys.experts_per_token,
            "num_experts_per_tok",
            "experts_per_token",
            4,
        ),
        d_ff=keys.intermediate_size,
        act=gated(keys.hidden_act),
        bias=True,
        clamp=keys.swiglu_limit,
        router_bias=True,
    )
    parts: dict[str, Part] = {
        "attention": attention(keys, turned, **both),
        "sliding": attention(keys, turned, window=window, **both),
        "moe": moe,
    }
    return recipe(
        name,
        keys.hidden_size,
        each_with(mixers, "moe"),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
    )


FAMILIES = {"gpt_oss": Family(GptOss, _gpt_oss, gpt_oss_names)}
