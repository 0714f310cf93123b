"""Bamba: Mamba-2, some layers of attention whose heads are half turned, feed-forwards."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ssmprof import limits
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import Scanning, attention, each_with, gated, scan
from ssmprof.models.config.keys import (
    Count,
    Epsilon,
    KeyProblem,
    Text,
    Whole,
    agree,
    held_against,
    kinds,
    must_be,
    shown,
)
from ssmprof.models.config.names.hybrids import bamba_names
from ssmprof.models.config.reader import Family
from ssmprof.models.config.rotary import turn
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size

KINDS = {
    "mamba": "mamba2", "linear_attention": "mamba2", "attention": "attention",
    "full_attention": "attention",
}  # fmt: skip


class Bamba(Scanning, frozen=True, kw_only=True):
    """Keys of a Bamba; `attn_rotary_emb` is how many features of a head turn."""

    num_hidden_layers: Count
    intermediate_size: Size
    num_key_value_heads: Size | None = 8
    hidden_act: Text = "silu"
    rms_norm_eps: Epsilon = 1e-5
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    attn_layer_indices: Annotated[tuple[Whole, ...], Meta(max_length=limits.LAYERS)] | None = None
    layers_block_type: tuple[Text, ...] | None = None
    attn_rotary_emb: Size | None = None


def _mixers(keys: Bamba) -> list[str]:
    """Which layers attend, by their numbers or by a list of every layer's kind."""
    depth = keys.num_hidden_layers
    attends = keys.attn_layer_indices or ()
    for layer in attends:
        if layer >= depth:
            raise KeyProblem("attn_layer_indices", f"{layer} is none of {depth} layers")
    mixers = ["attention" if layer in set(attends) else "mamba2" for layer in range(depth)]
    if keys.layers_block_type is not None:
        found = kinds(keys.layers_block_type, KINDS, "layers_block_type")
        held_against(found, depth, "layers_block_type")
        if keys.attn_layer_indices is not None and found != mixers:
            raise KeyProblem("layers_block_type", f"not as attn_layer_indices, {shown(attends)}")
        return found
    return mixers


def _bamba(keys: Bamba, name: str) -> Recipe:
    must_be(keys.hidden_act, "silu", "hidden_act", "a Bamba with another activation")
    turned = turn(keys, keys.width, share=0.5)
    dim = turned.dim or keys.width
    if keys.attn_rotary_emb is not None:
        agree(keys.attn_rotary_emb, dim, "attn_rotary_emb", "the turned part of a head")
    parts: dict[str, Part] = {
        "attention": attention(keys, turned, bias=keys.attention_bias),
        "mamba2": scan(keys),
        "mlp": Mlp(d_ff=keys.intermediate_size, act=gated(keys.hidden_act), bias=keys.mlp_bias),
    }
    return recipe(
        name,
        keys.hidden_size,
        each_with(_mixers(keys), "mlp"),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
    )


FAMILIES = {"bamba": Family(Bamba, _bamba, bamba_names)}
