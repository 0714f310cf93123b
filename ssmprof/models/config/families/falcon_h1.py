"""Falcon-H1 (arXiv:2507.22448): attention and Mamba-2 side by side, then a feed-forward.

Its multipliers scale; those of the ends are in the recipe, the others in the weights by name.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import Scanning, attention, each_with, gated, scan
from ssmprof.models.config.keys import Count, Epsilon, Factor, Text, Whole, agree, must_be
from ssmprof.models.config.names.hybrids import falcon_h1_names
from ssmprof.models.config.reader import Family
from ssmprof.models.config.rotary import turn
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size

Two = Annotated[tuple[Factor, ...], Meta(min_length=2, max_length=2)]
Five = Annotated[tuple[Factor, ...], Meta(min_length=5, max_length=5)]


class FalconH1(Scanning, frozen=True, kw_only=True):
    """Keys of a Falcon-H1; nothing reads `mlp_expansion_factor`."""

    num_hidden_layers: Count
    intermediate_size: Size
    num_key_value_heads: Size | None = 8
    hidden_act: Text = "silu"
    rms_norm_eps: Epsilon = 1e-5
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    projectors_bias: bool = False
    mamba_d_ssm: Size | None = 1024
    mamba_rms_norm: bool = False
    mamba_norm_before_gate: bool = True
    mamba_use_mlp: bool = True
    mlp_expansion_factor: Whole | None = None
    lm_head_multiplier: Factor = 1.0
    embedding_multiplier: Factor = 1.0
    key_multiplier: Factor = 1.0
    attention_in_multiplier: Factor = 1.0
    attention_out_multiplier: Factor = 1.0
    ssm_in_multiplier: Factor = 1.0
    ssm_out_multiplier: Factor = 1.0
    mlp_multipliers: Two = (1.0,) * 2
    ssm_multipliers: Five = (1.0,) * 5


def _falcon_h1(keys: FalconH1, name: str) -> Recipe:
    must_be(keys.mamba_use_mlp, True, "mamba_use_mlp", "a Falcon-H1 without feed-forward")
    agree(keys.projectors_bias, keys.mamba_proj_bias, "projectors_bias", "mamba_proj_bias")
    parts: dict[str, Part] = {
        "attention": attention(keys, turn(keys, keys.width), bias=keys.attention_bias),
        "mamba2": scan(
            keys,
            keys.mamba_d_ssm,
            gated_norm=keys.mamba_rms_norm,
            norm_before_gate=keys.mamba_norm_before_gate and keys.mamba_rms_norm,
        ),
        "mlp": Mlp(d_ff=keys.intermediate_size, act=gated(keys.hidden_act), bias=keys.mlp_bias),
    }
    must_be(keys.hidden_act, "silu", "hidden_act", "a Falcon-H1 with another activation")
    return recipe(
        name,
        keys.hidden_size,
        each_with([("attention", "mamba2")] * keys.num_hidden_layers, "mlp"),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
        embedding_scale=keys.embedding_multiplier,
        logits_scale=keys.lm_head_multiplier,
    )


FAMILIES = {"falcon_h1": Family(FalconH1, _falcon_h1, falcon_h1_names)}
