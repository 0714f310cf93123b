"""RecurrentGemma (arXiv:2404.07839): two RG-LRU blocks to one of attention with a window."""

from __future__ import annotations

import math

from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.part import Part
from ssmprof.mixers.rglru.shape import RgLru
from ssmprof.models.config.common import Attending, attention, each_with, gated
from ssmprof.models.config.keys import (
    Count,
    Epsilon,
    Factor,
    KeyProblem,
    Layers,
    Text,
    agree,
    kinds,
    must_be,
)
from ssmprof.models.config.names.recurrent import recurrent_gemma_names
from ssmprof.models.config.reader import Family
from ssmprof.models.config.rotary import turn
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size, Tokens

KINDS = {
    "recurrent": "rglru", "linear_attention": "rglru", "attention": "attention",
    "sliding_attention": "attention",
}  # fmt: skip


class RecurrentGemma(Attending, frozen=True, kw_only=True):
    """Keys of a RecurrentGemma; `intermediate_size` is that of gate and value together, and
    `block_types` a period, cut where the layers end.
    """

    num_hidden_layers: Count
    intermediate_size: Size
    lru_width: Size | None = None
    attention_window_size: Tokens | None = None
    sliding_window: Tokens | None = None
    conv1d_width: Size = 4
    block_types: Layers = ("recurrent", "recurrent", "attention")
    layers_block_type: Layers | None = None
    layer_types: Layers | None = None
    attention_bias: bool = False
    hidden_activation: Text = "gelu_pytorch_tanh"
    logits_soft_cap: Factor | None = 30.0
    embeddings_scale_by_sqrt_dim: bool = True
    rms_norm_eps: Epsilon = 1e-6
    tie_word_embeddings: bool = True


def _mixers(keys: RecurrentGemma) -> list[str]:
    """The mixer of each layer: the period, again and again."""
    period, count = kinds(keys.block_types, KINDS, "block_types"), keys.num_hidden_layers
    found = [period[layer % len(period)] for layer in range(count)]
    for key in ("layers_block_type", "layer_types"):
        listed: tuple[str, ...] | None = getattr(keys, key)
        if listed is not None:
            agree(kinds(listed, KINDS, key), found, key, "what block_types makes")
    return found


def _recurrent_gemma(keys: RecurrentGemma, name: str) -> Recipe:
    act = keys.hidden_activation
    must_be(act, "gelu_pytorch_tanh", "hidden_activation", "an RG-LRU with another activation")
    if keys.intermediate_size < 2:
        raise KeyProblem("intermediate_size", "1, but gate and value are half of it each")
    agree(keys.sliding_window, keys.attention_window_size, "sliding_window", "the other window")
    window = keys.attention_window_size or keys.sliding_window or 2048
    turned = turn(keys, keys.width, share=0.5, kind="sliding_attention")
    parts: dict[str, Part] = {
        "rglru": RgLru(
            width=keys.lru_width or keys.hidden_size,
            heads=keys.num_attention_heads,
            d_conv=keys.conv1d_width,
        ),
        "attention": attention(
            keys, turned, window=window, qkv_bias=keys.attention_bias, out_bias=True
        ),
        "mlp": Mlp(d_ff=keys.intermediate_size // 2, act=gated(act), bias=True),
    }
    return recipe(
        name,
        keys.hidden_size,
        each_with(_mixers(keys), "mlp"),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
        embedding_scale=_rounded(keys.hidden_size) if keys.embeddings_scale_by_sqrt_dim else 1.0,
        logits_cap=keys.logits_soft_cap,
    )


def _rounded(size: int) -> float:
    """The root of the width in bfloat16, as published code multiplies with it in any dtype."""
    mantissa, exponent = math.frexp(math.sqrt(size))
    return math.ldexp(round(mantissa * 256) / 256, exponent)


FAMILIES = {"recurrent_gemma": Family(RecurrentGemma, _recurrent_gemma, recurrent_gemma_names)}
