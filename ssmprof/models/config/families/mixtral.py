"""Mixtral (arXiv:2401.04088): a Mistral with experts in every layer."""

from __future__ import annotations

from ssmprof.mixers.moe.shape import Moe
from ssmprof.models.config.common import Attending, attention, each_with, gated
from ssmprof.models.config.experts import one_of
from ssmprof.models.config.keys import Count, Epsilon, Text
from ssmprof.models.config.names.experts import mixtral_names
from ssmprof.models.config.reader import Family
from ssmprof.models.config.rotary import turn
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size, Tokens


class Mixtral(Attending, frozen=True, kw_only=True):
    """Keys of a Mixtral; null and absent are no window."""

    num_hidden_layers: Count
    intermediate_size: Size
    num_key_value_heads: Size | None = 8
    num_local_experts: Size | None = None
    num_experts: Size | None = None
    num_experts_per_tok: Size = 2
    sliding_window: Tokens | None = None
    hidden_act: Text = "silu"
    rms_norm_eps: Epsilon = 1e-5
    tie_word_embeddings: bool = False


def _mixtral(keys: Mixtral, name: str) -> Recipe:
    turned = turn(keys, keys.width, theta=1e6)
    moe = Moe(
        experts=one_of(
            keys.num_local_experts, keys.num_experts, "num_local_experts", "num_experts", 8
        ),
        experts_per_token=keys.num_experts_per_tok,
        d_ff=keys.intermediate_size,
        act=gated(keys.hidden_act),
    )
    return recipe(
        name,
        keys.hidden_size,
        each_with(["attention"] * keys.num_hidden_layers, "moe"),
        {"attention": attention(keys, turned, window=keys.sliding_window), "moe": moe},
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
    )


FAMILIES = {"mixtral": Family(Mixtral, _mixtral, mixtral_names)}
