"""Phi-3 and Phi-4 (arXiv:2404.14219): a Llama with fused projections, partly turned heads."""

from __future__ import annotations

from ssmprof.models.config.dense import Dense, dense, slides
from ssmprof.models.config.keys import Epsilon, must_be
from ssmprof.models.config.names.dense import phi3_names
from ssmprof.models.config.reader import Family
from ssmprof.models.recipe import Recipe
from ssmprof.scalars import Tokens


class Phi3(Dense, frozen=True, kw_only=True):
    """Keys of a Phi-3; those after the window are of its code on the Hub, and have one value."""

    rms_norm_eps: Epsilon = 1e-5
    max_position_embeddings: Tokens | None = 4096
    original_max_position_embeddings: Tokens | None = 4096
    sliding_window: Tokens | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    lm_head_bias: bool = False
    full_attn_mod: int = 1


def _phi3(keys: Phi3, name: str) -> Recipe:
    must_be(keys.attention_bias, False, "attention_bias", "a Phi-3 with biases")
    must_be(keys.mlp_bias, False, "mlp_bias", "a Phi-3 with biases")
    must_be(keys.lm_head_bias, False, "lm_head_bias", "a Phi-3 with biases")
    must_be(keys.full_attn_mod, 1, "full_attn_mod", "attention that looks far in some layers only")
    otherwise = [keys.sliding_window is not None] * keys.num_hidden_layers
    sliding = slides(keys, otherwise)
    return dense(keys, name, sliding, keys.sliding_window, yarn_is_longrope=True)


FAMILIES = {"phi3": Family(Phi3, _phi3, phi3_names)}
