"""Llama and the transformers built like it: one kind of attention, a gated MLP."""

from __future__ import annotations

from msgspec import Struct

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.models.config.keys import Count, Text, heads_of
from ssmprof.models.config.reader import Family
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size


class Llama(Struct, frozen=True, kw_only=True):
    """Keys of a Llama; others are listed in `keys`."""

    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Count
    num_attention_heads: Size
    num_key_value_heads: Size | None = None
    head_dim: Size | None = None
    hidden_act: Text = "silu"
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    vocab_size: Size


def _llama(keys: Llama, name: str) -> Recipe:
    attention = Attention(
        heads=keys.num_attention_heads,
        kv_heads=keys.num_key_value_heads or keys.num_attention_heads,
        head_dim=keys.head_dim or heads_of(keys.hidden_size, keys.num_attention_heads),
        qkv_bias=keys.attention_bias,
        out_bias=keys.attention_bias,
    )
    mlp = Mlp(d_ff=keys.intermediate_size, bias=keys.mlp_bias)
    return recipe(
        name,
        keys.hidden_size,
        f"(attention mlp)*{keys.num_hidden_layers}",
        {"attention": attention, "mlp": mlp},
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
    )


FAMILIES = {"llama": Family(Llama, _llama)}
