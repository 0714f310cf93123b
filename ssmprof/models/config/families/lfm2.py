"""LFM2 (arXiv:2511.23404): gated short convolutions, with attention in some layers."""

from __future__ import annotations

from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.part import Part
from ssmprof.mixers.short_conv.shape import ShortConv
from ssmprof.models.config.common import Attending, attention, each_with
from ssmprof.models.config.experts import Indices, one_of
from ssmprof.models.config.keys import (
    Count,
    Epsilon,
    Factor,
    KeyProblem,
    Layers,
    agree,
    held_against,
    kinds,
    must_be,
)
from ssmprof.models.config.names.recurrent import lfm2_names
from ssmprof.models.config.reader import Family
from ssmprof.models.config.rotary import turn
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size

KINDS = {"conv": "short_conv", "full_attention": "attention"}


class Lfm2(Attending, frozen=True, kw_only=True):
    """Keys of an LFM2; older files call sizes `block_*`, `theta` and `tie_embedding`."""

    num_hidden_layers: Count
    intermediate_size: Size | None = None
    block_ff_dim: Size | None = None
    num_key_value_heads: Size | None = 8
    num_heads: Size | None = None
    block_dim: Size | None = None
    conv_dim: Size | None = None
    conv_dim_out: Size | None = None
    conv_bias: bool = False
    conv_L_cache: Size = 3
    block_multiple_of: Size = 256
    block_ffn_dim_multiplier: Factor | None = 1.0
    block_auto_adjust_ff_dim: bool = True
    block_use_swiglu: bool = True
    block_norm_eps: Epsilon | None = None
    full_attn_idxs: Indices | None = None
    layer_types: Layers | None = None
    theta: Factor | None = None
    norm_eps: Epsilon = 1e-5
    tie_embedding: bool | None = None
    tie_word_embeddings: bool = True


def _d_ff(keys: Lfm2) -> int:
    """Two thirds of what the file says, times a factor, in whole multiples."""
    size = one_of(
        keys.block_ff_dim, keys.intermediate_size, "block_ff_dim", "intermediate_size", 12288
    )
    if not keys.block_auto_adjust_ff_dim:
        return size
    size = int(2 * size / 3)
    if keys.block_ffn_dim_multiplier is not None:
        step = keys.block_multiple_of
        size = -(-int(keys.block_ffn_dim_multiplier * size) // step) * step
    if not size:
        raise KeyProblem("block_ff_dim", "too small: a feed-forward of no width")
    return size


def _mixers(keys: Lfm2) -> list[str]:
    count = keys.num_hidden_layers
    if keys.layer_types is not None:
        found = kinds(keys.layer_types, KINDS, "layer_types")
        held_against(found, count, "layer_types")
        return found
    if keys.full_attn_idxs is None:
        return ["attention"] * count
    outside = [layer for layer in keys.full_attn_idxs if layer >= count]
    if outside:
        raise KeyProblem("full_attn_idxs", f"layer {outside[0]} of {count}")
    return ["attention" if layer in keys.full_attn_idxs else "short_conv" for layer in range(count)]


def _lfm2(keys: Lfm2, name: str) -> Recipe:
    must_be(keys.block_use_swiglu, True, "block_use_swiglu", "an LFM2 without gates")
    for key in ("block_dim", "conv_dim", "conv_dim_out"):
        agree(getattr(keys, key), keys.hidden_size, key, "hidden_size")
    agree(keys.num_heads, keys.num_attention_heads, "num_heads", "num_attention_heads")
    agree(keys.theta, keys.rope_theta, "theta", "rope_theta")
    turned = turn(keys, keys.width, theta=keys.theta or 1e6)
    parts: dict[str, Part] = {
        "short_conv": ShortConv(
            width=keys.hidden_size, d_conv=keys.conv_L_cache, bias=keys.conv_bias
        ),
        "attention": attention(keys, turned, qk_norm="head"),
        "mlp": Mlp(d_ff=_d_ff(keys)),
    }
    tied = keys.tie_word_embeddings if keys.tie_embedding is None else keys.tie_embedding
    return recipe(
        name,
        keys.hidden_size,
        each_with(_mixers(keys), "mlp"),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=tied,
        norm_eps=keys.block_norm_eps or keys.norm_eps,
    )


FAMILIES = {"lfm2": Family(Lfm2, _lfm2, lfm2_names)}
