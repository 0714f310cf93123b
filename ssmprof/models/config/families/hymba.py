"""Hymba (arXiv:2411.13676): attention and Mamba side by side, shared keys, meta tokens."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, structs

from ssmprof import limits
from ssmprof.mixers.hymba.shape import Hymba
from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import Attending, attention, each_with, gated, ungated, windowed
from ssmprof.models.config.experts import Indices
from ssmprof.models.config.keys import (
    Count,
    Epsilon,
    KeyProblem,
    Layers,
    Text,
    Whole,
    agree,
    chosen,
    held_against,
    kinds,
    must_be,
    shown,
)
from ssmprof.models.config.reader import Family
from ssmprof.models.config.rotary import turn
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size, Tokens

Groups = Annotated[tuple[Indices, ...], Meta(max_length=limits.LAYERS)]


class HymbaKeys(Attending, frozen=True, kw_only=True):
    """Keys of a Hymba; -1 leaves a width to the rule, `conv_dim` and `rope_type` say no more."""

    num_hidden_layers: Count
    intermediate_size: Size
    layer_type: Layers | None = None
    sliding_window: Tokens | None = None
    global_attn_idx: Indices | None = None
    kv_reuse_group: Groups = ()
    kv_reuse_every_i_layer: int = -1
    kv_weight_reuse: bool = False
    num_memory_tokens: Whole = 0
    memory_tokens_interspersed_every: Whole = 0
    attn_hidden_size: int = -1
    kq_head_dim: int = -1
    kq_norm: Text = "none"
    v_head_dim: Size | None = None
    rope: bool = False
    rope_type: Text | None = None
    orig_max_position_embeddings: Tokens | None = None
    attn_implementation_new: Text | None = None
    num_mamba: Size = 1
    conv_dim: dict[str, Size] | None = None
    mamba_d_state: Size = 16
    mamba_d_conv: Size = 4
    mamba_expand: Size = 2
    mamba_dt_rank: int | Text | None = "auto"
    mamba_conv_bias: bool = True
    mamba_proj_bias: bool = False
    mamba_inner_layernorms: bool = True
    num_experts: Size = 1
    num_experts_per_tok: Size = 1
    hidden_act: Text = "silu"
    mlp_hidden_act: Text = "silu"
    rms_norm_eps: Epsilon = 1e-6
    tie_word_embeddings: bool = False


def _reuses(keys: HymbaKeys) -> set[int]:
    """Layers that read the keys of the layer before them, or of the one that has its own."""
    found: set[int] = set()
    for group in keys.kv_reuse_group:
        if not group or list(group) != list(range(group[0], group[0] + len(group))):
            raise KeyProblem("kv_reuse_group", f"{shown(list(group))}: not layers in a row")
        if group[-1] >= keys.num_hidden_layers:
            raise KeyProblem("kv_reuse_group", f"layer {group[-1]} of {keys.num_hidden_layers}")
        found.update(group[1:])
    return found


def _mixers(keys: HymbaKeys) -> list[str]:
    """The block of each layer: with a window or without, with keys of its own or without."""
    count, reuses = keys.num_hidden_layers, _reuses(keys)
    full = set(range(count))
    if keys.sliding_window is not None and keys.global_attn_idx is not None:
        full = set(keys.global_attn_idx)
    if max(full, default=0) >= count:
        raise KeyProblem("global_attn_idx", f"layer {max(full)} of {count}")
    return [
        ("global" if layer in full else "hymba") + ("_reuse" if layer in reuses else "")
        for layer in range(count)
    ]


def _refuse(keys: HymbaKeys) -> None:
    """What no published Hymba has."""
    must_be(keys.num_experts, 1, "num_experts", "a mixture of experts in a Hymba")
    must_be(keys.num_mamba, 1, "num_mamba", "several Mambas in a layer")
    must_be(keys.kq_norm, "none", "kq_norm", "norms of queries and keys in a Hymba")
    must_be(keys.kv_weight_reuse, False, "kv_weight_reuse", "shared weights of keys")
    every = keys.kv_reuse_every_i_layer
    must_be(every, -1, "kv_reuse_every_i_layer", "keys shared by another rule")
    between = keys.memory_tokens_interspersed_every
    must_be(between, 0, "memory_tokens_interspersed_every", "meta tokens inside a prompt")
    must_be(keys.attn_hidden_size, -1, "attn_hidden_size", "attention of another width")
    must_be(keys.kq_head_dim, -1, "kq_head_dim", "keys of another width")
    must_be(keys.hidden_act, "silu", "hidden_act", "a Mamba-1 with another activation")
    if keys.layer_type is not None:
        held_against(kinds(keys.layer_type, {"h": "hymba"}, "layer_type"), keys.num_hidden_layers,
                     "layer_type")  # fmt: skip


def _hymba(keys: HymbaKeys, name: str) -> Recipe:
    _refuse(keys)
    inner, heads = keys.mamba_expand * keys.hidden_size, keys.num_attention_heads
    if inner % heads:
        raise KeyProblem("num_attention_heads", f"{heads} does not divide the inner width {inner}")
    agree(keys.v_head_dim, inner // heads, "v_head_dim", "the inner width by the heads")
    mamba = Mamba1(
        d_inner=inner,
        d_state=keys.mamba_d_state,
        d_conv=keys.mamba_d_conv,
        dt_rank=chosen(keys.mamba_dt_rank, -(-keys.hidden_size // 16), "mamba_dt_rank"),
        conv_bias=keys.mamba_conv_bias,
        proj_bias=keys.mamba_proj_bias,
        inner_norms="weighted" if keys.mamba_inner_layernorms else "none",
    )
    mixers = _mixers(keys)
    values: dict[str, Any] = {"v_head_dim": inner // heads, "prefix": keys.num_memory_tokens}
    full = attention(keys, turn(keys, keys.width) if keys.rope else None, **values)
    bounded = any(mixer.startswith("hymba") for mixer in mixers)
    window = windowed(keys.sliding_window) if bounded else None
    plain = keys.mlp_hidden_act != "silu"
    act = keys.mlp_hidden_act
    parts: dict[str, Part] = {
        "mlp": Mlp(
            d_ff=keys.intermediate_size,
            act=ungated(act, "mlp_hidden_act") if plain else gated(act, "mlp_hidden_act"),
        )
    }
    for kind, size in (("global", None), ("hymba", window)):
        own = structs.replace(full, window=size)
        parts[kind] = Hymba(attention=own, mamba=mamba)
        shared = structs.replace(own, kv_from="shared")
        parts[f"{kind}_reuse"] = Hymba(attention=shared, mamba=mamba)
    return recipe(
        name,
        keys.hidden_size,
        each_with(mixers, "mlp"),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
        meta_tokens=keys.num_memory_tokens,
    )


FAMILIES = {"hymba": Family(HymbaKeys, _hymba)}
