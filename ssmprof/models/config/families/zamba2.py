"""Zamba2 (arXiv:2411.15242): Mamba-2, and blocks of shared weights in front of some layers.

A shared block reads the residual stream beside the embedding, twice the width; each of its users
adds low-rank adapters of its own. Scores are divided by the root of half a head's width.
"""

from __future__ import annotations

from msgspec import structs

from ssmprof.mixers.mamba2.shape import Mamba2, StepSize
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import Attending, attention, gated, step_limit
from ssmprof.models.config.keys import (
    Count,
    Epsilon,
    KeyProblem,
    Layers,
    Positive,
    Text,
    Whole,
    agree,
    heads_of,
    held_against,
    kinds,
    must_be,
    shown,
)
from ssmprof.models.config.names.zamba2 import zamba2_names
from ssmprof.models.config.reader import Family
from ssmprof.models.config.rotary import turn
from ssmprof.models.recipe import Layer, Recipe, Shared
from ssmprof.models.written import recipe
from ssmprof.scalars import Size

KINDS = {"mamba": "mamba2", "linear_attention": "mamba2", "hybrid": "hybrid"}
# The gated norm of its code, whatever `rms_norm_eps` says.
GATED_EPS = 1e-5


class Zamba2(Attending, frozen=True, kw_only=True):
    """Keys of a Zamba2; `kv_channels` and `num_query_groups` are read by nothing."""

    num_hidden_layers: Count
    layers_block_type: Layers | None = None
    hybrid_layer_ids: tuple[Whole, ...] | None = None
    num_mem_blocks: Count = 1
    intermediate_size: Size | None = None
    hidden_act: Text = "gelu"
    attention_hidden_size: Size | None = None
    attention_head_dim: Size | None = None
    kv_channels: Size | None = None
    num_query_groups: Size | None = None
    adapter_rank: Size = 128
    use_shared_attention_adapter: bool = False
    use_shared_mlp_adapter: bool = True
    use_mem_rope: bool = False
    use_long_context: bool = False
    mamba_d_state: Size = 64
    mamba_d_conv: Size = 4
    mamba_expand: Positive = 2
    mamba_ngroups: Size = 1
    n_mamba_heads: Size = 8
    mamba_headdim: Size | None = None
    use_conv_bias: bool = True
    add_bias_linear: bool = False
    time_step_min: StepSize = 0.001
    rms_norm_eps: Epsilon = 1e-5
    tie_word_embeddings: bool = True


def _hybrid(keys: Zamba2) -> list[bool]:
    """Of each layer, whether a shared block stands in front."""
    if keys.layers_block_type is None:
        raise KeyProblem("layers_block_type", "missing")
    found = kinds(keys.layers_block_type, KINDS, "layers_block_type")
    held_against(found, keys.num_hidden_layers, "layers_block_type")
    hybrid = [kind == "hybrid" for kind in found]
    places = tuple(layer for layer, yes in enumerate(hybrid) if yes)
    if keys.hybrid_layer_ids not in (None, places):
        told = shown(list(keys.hybrid_layer_ids or ()))
        raise KeyProblem("hybrid_layer_ids", f"{told}, but layers_block_type has others")
    return hybrid


def _scan(keys: Zamba2) -> Mamba2:
    inner = int(keys.mamba_expand * keys.hidden_size)
    headdim = heads_of(inner, keys.n_mamba_heads, "n_mamba_heads")
    agree(keys.mamba_headdim, headdim, "mamba_headdim", "the inner width over n_mamba_heads")
    agree(headdim * keys.n_mamba_heads, inner, "n_mamba_heads * mamba_headdim", "the inner width")
    return Mamba2(
        d_inner=inner,
        d_state=keys.mamba_d_state,
        headdim=headdim,
        ngroups=keys.mamba_ngroups,
        d_conv=keys.mamba_d_conv,
        proj_bias=keys.add_bias_linear,
        dt_limit=step_limit((keys.time_step_min, None)),
        norm_eps=None if keys.rms_norm_eps == GATED_EPS else GATED_EPS,
    )


def _zamba2(keys: Zamba2, name: str) -> Recipe:
    must_be(keys.use_long_context, False, "use_long_context", "another rotary embedding")
    must_be(keys.use_shared_mlp_adapter, True, "use_shared_mlp_adapter", "a block without adapters")
    must_be(keys.use_conv_bias, True, "use_conv_bias", "a Zamba2 without biases of convolutions")
    must_be(keys.add_bias_linear, False, "add_bias_linear", "shared blocks with biases")
    wide = 2 * keys.hidden_size
    head = heads_of(wide, keys.num_attention_heads)
    agree(keys.attention_hidden_size, wide, "attention_hidden_size", "2 * hidden_size")
    agree(keys.attention_head_dim, head, "attention_head_dim", "2 * hidden_size over the heads")
    agree(keys.head_dim, head, "head_dim", "2 * hidden_size over the heads")
    turned = turn(keys, head) if keys.use_mem_rope else None
    rank = keys.adapter_rank if keys.use_shared_attention_adapter else 0
    shared = attention(keys, turned, width=head, d_in=wide, adapter_rank=rank)
    if rank:
        agree(shared.kv_heads, shared.heads, "num_key_value_heads", "num_attention_heads")
    d_ff = keys.intermediate_size or 4 * keys.hidden_size
    parts: dict[str, Part] = {
        "attention": shared,
        "mlp": Mlp(d_ff=d_ff, act=gated(keys.hidden_act), adapter_rank=keys.adapter_rank),
        "mamba2": _scan(keys),
    }
    plain = Layer(parts=("mamba2",))
    layers: list[Layer] = []
    users = 0
    for hybrid in _hybrid(keys):
        block = Shared(parts=("attention", "mlp"), copy=users % keys.num_mem_blocks)
        layers.append(structs.replace(plain, shared=block) if hybrid else plain)
        users += hybrid
    return recipe(
        name,
        keys.hidden_size,
        tuple(layers),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
    )


FAMILIES = {"zamba2": Family(Zamba2, _zamba2, zamba2_names)}
