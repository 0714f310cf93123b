"""What files written by flash-linear-attention share: ends, feed-forward, layers of attention."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import each_with, gated
from ssmprof.models.config.experts import Indices
from ssmprof.models.config.keys import (
    Count,
    Epsilon,
    Factor,
    KeyProblem,
    Positive,
    Text,
    decode,
    heads_of,
    must_be,
)
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size, Tokens

MULTIPLE = 256  # the width of a feed-forward is rounded up to it


class Fla(Struct, frozen=True, kw_only=True):
    """Keys of every such model; `attn` makes some of its layers attention."""

    hidden_size: Size
    num_hidden_layers: Count
    vocab_size: Size = 32000
    hidden_ratio: Factor | None = 4
    intermediate_size: Size | None = None
    hidden_act: Text = "swish"
    norm_eps: Epsilon = 1e-6
    elementwise_affine: bool = True
    feature_map: Text | None = None
    share_conv_kernel: bool = False
    attn: dict[str, Any] | None = None
    tie_word_embeddings: bool = False


class Attn(Struct, frozen=True, kw_only=True):
    """Keys of the layers that are attention."""

    layers: Indices
    num_heads: Size
    num_kv_heads: Size | None = None
    qkv_bias: bool = False
    qk_norm: bool = False
    window_size: Tokens | None = None
    rope_theta: Positive | None = 10_000.0


def width(size: int, factor: float, heads: int, key: str) -> int:
    """Width of one of so many heads of a factor of the model's width."""
    found = size * factor
    if found != int(found) or not found or int(found) % heads:
        raise KeyProblem(key, f"{factor:g} of {size} features do not make {heads} heads")
    return int(found) // heads


def conv(keys: Fla, used: bool, taps: int) -> int:
    """Taps of the convolution, 0 where there is none."""
    if used:
        must_be(keys.share_conv_kernel, False, "share_conv_kernel", "one convolution for all")
    return taps if used else 0


def fla_recipe(keys: Fla, name: str, mixer: str, part: Part) -> Recipe:
    """The recipe of layers of one mixer, some of them attention, and a feed-forward each."""
    must_be(keys.elementwise_affine, True, "elementwise_affine", "norms without weights")
    must_be(keys.feature_map, None, "feature_map", "a feature map of queries and keys")
    d_ff = keys.intermediate_size
    if d_ff is None:
        least = int(keys.hidden_size * (keys.hidden_ratio or 4) * 2 / 3)
        d_ff = -(-max(least, 1) // MULTIPLE) * MULTIPLE
    parts: dict[str, Part] = {mixer: part, "mlp": Mlp(d_ff=d_ff, act=gated(keys.hidden_act))}
    mixers = [mixer] * keys.num_hidden_layers
    if keys.attn is not None:
        attn = decode(keys.attn, Attn, inside="attn.")
        parts["attention"] = _attention(keys, attn)
        for layer in attn.layers:
            if layer >= len(mixers):
                raise KeyProblem("attn.layers", f"layer {layer} of {len(mixers)}")
            mixers[layer] = "attention"
    return recipe(
        name,
        keys.hidden_size,
        each_with(mixers, "mlp"),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.norm_eps,
    )


def _attention(keys: Fla, attn: Attn) -> Attention:
    return Attention(
        heads=attn.num_heads,
        kv_heads=attn.num_kv_heads or attn.num_heads,
        head_dim=heads_of(keys.hidden_size, attn.num_heads, "attn.num_heads"),
        qkv_bias=attn.qkv_bias,
        qk_norm="head" if attn.qk_norm else "none",
        window=attn.window_size,
        rope_theta=attn.rope_theta,
    )
