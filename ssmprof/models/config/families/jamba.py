"""Jamba (arXiv:2403.19887): Mamba-1 with some attention without positions, experts in turns."""

from __future__ import annotations

from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import Attending, attention, gated
from ssmprof.models.config.experts import one_of, pairs_of
from ssmprof.models.config.keys import (
    Count,
    Epsilon,
    KeyProblem,
    Layers,
    Text,
    Whole,
    agree,
    chosen,
    kinds,
    must_be,
)
from ssmprof.models.config.names.hybrids import jamba_names
from ssmprof.models.config.reader import Family
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size, Tokens

KINDS = {
    "mamba": "mamba1", "linear_attention": "mamba1", "attention": "attention",
    "full_attention": "attention",
}  # fmt: skip


class Jamba(Attending, frozen=True, kw_only=True):
    """Keys of a Jamba; every `attn_layer_period` layers one is attention, and so for experts."""

    num_hidden_layers: Count
    intermediate_size: Size
    num_key_value_heads: Size | None = 8
    attn_layer_period: Size = 8
    attn_layer_offset: Whole = 4
    expert_layer_period: Size = 2
    expert_layer_offset: Whole = 1
    layers_block_type: Layers | None = None
    layer_types: Layers | None = None
    num_experts: Size | None = None
    num_local_experts: Size | None = None
    num_experts_per_tok: Size = 2
    mamba_d_state: Size = 16
    mamba_d_conv: Size = 4
    mamba_expand: Size = 2
    mamba_dt_rank: int | Text | None = "auto"
    mamba_conv_bias: bool = True
    mamba_proj_bias: bool = False
    mamba_inner_layernorms: bool = True
    sliding_window: Tokens | None = None
    n_ctx: Tokens | None = None
    hidden_act: Text = "silu"
    rms_norm_eps: Epsilon = 1e-6
    tie_word_embeddings: bool = False


def _every(layers: int, period: int, offset: int, key: str) -> list[bool]:
    """Which layers are those at an offset of a period."""
    if offset >= period:
        raise KeyProblem(f"{key}_layer_offset", f"{offset}, beyond a period of {period}")
    return [layer % period == offset for layer in range(layers)]


def _jamba(keys: Jamba, name: str) -> Recipe:
    must_be(keys.hidden_act, "silu", "hidden_act", "a Mamba-1 with another activation")
    must_be(keys.sliding_window, None, "sliding_window", "a Jamba whose attention slides")
    count = keys.num_hidden_layers
    attends = _every(count, keys.attn_layer_period, keys.attn_layer_offset, "attn")
    routes = _every(count, keys.expert_layer_period, keys.expert_layer_offset, "expert")
    mixers = ["attention" if here else "mamba1" for here in attends]
    for key in ("layers_block_type", "layer_types"):
        listed: tuple[str, ...] | None = getattr(keys, key)
        if listed is not None:
            agree(kinds(listed, KINDS, key), mixers, key, "what attn_layer_period makes")
    experts = one_of(
        keys.num_experts, keys.num_local_experts, "num_experts", "num_local_experts", 16
    )
    act = gated(keys.hidden_act)
    parts: dict[str, Part] = {
        "mamba1": Mamba1(
            d_inner=keys.mamba_expand * keys.hidden_size,
            d_state=keys.mamba_d_state,
            d_conv=keys.mamba_d_conv,
            dt_rank=chosen(keys.mamba_dt_rank, -(-keys.hidden_size // 16), "mamba_dt_rank"),
            conv_bias=keys.mamba_conv_bias,
            proj_bias=keys.mamba_proj_bias,
            inner_norms="weighted" if keys.mamba_inner_layernorms else "none",
        ),
        "attention": attention(keys, None),
        "mlp": Mlp(d_ff=keys.intermediate_size, act=act),
    }
    if experts > 1:
        parts["moe"] = Moe(
            experts=experts,
            experts_per_token=keys.num_experts_per_tok,
            d_ff=keys.intermediate_size,
            act=act,
            renormalise=False,
        )
    return recipe(
        name,
        keys.hidden_size,
        pairs_of(mixers, ["moe" if here and experts > 1 else "mlp" for here in routes]),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
    )


FAMILIES = {"jamba": Family(Jamba, _jamba, jamba_names)}
