"""Phi-4-mini-flash (arXiv:2507.06607): SambaY, a decoder that reads half of itself.

The first half is Mamba-1 and attention with a window; one Mamba-1 and one full attention follow,
whose memory and keys the second half reads: gated memory units and attention without keys of its
own. All attention is differential, and there are no positions.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from ssmprof import limits
from ssmprof.mixers.gmu.shape import Gmu
from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import Attending, attention, each_with, gated
from ssmprof.models.config.keys import (
    Count,
    Epsilon,
    KeyProblem,
    Layers,
    Text,
    agree,
    chosen,
    held_against,
    must_be,
    shown,
)
from ssmprof.models.config.reader import Family
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size, Tokens

Windows = Annotated[tuple[Tokens | None, ...], Meta(max_length=limits.LAYERS)]


class Phi4Flash(Attending, frozen=True, kw_only=True):
    """Keys of a Phi-4-mini-flash; its code gives all projections of attention a bias."""

    num_hidden_layers: Count
    intermediate_size: Size = 9216
    num_key_value_heads: Size | None = 4
    sliding_window: Tokens | Windows = 2047
    layer_types: Layers | None = None
    mb_per_layer: Size = 2
    mamba_d_state: Size = 16
    mamba_d_conv: Size = 4
    mamba_expand: Size = 2
    mamba_dt_rank: int | Text | None = "auto"
    mamba_conv_bias: bool = True
    mamba_proj_bias: bool = False
    attention_bias: bool = True
    mlp_bias: bool = False
    lm_head_bias: bool = False
    hidden_act: Text = "silu"
    layer_norm_eps: Epsilon = 1e-5
    tie_word_embeddings: bool = True


def _mixers(keys: Phi4Flash) -> list[str]:
    """The mixer of each layer; `half` and the one behind it are what the second half reads."""
    count, every = keys.num_hidden_layers, keys.mb_per_layer
    half = count // 2
    if count < half + 2 or half % every or not (half + 1) % every:
        told = f"{every}: layers {half} and {half + 1} must be a Mamba and an attention"
        raise KeyProblem("mb_per_layer", told)
    found: list[str] = []
    for layer in range(count):
        before, scans = layer < half + 2, not layer % every
        if scans:
            found.append("mamba1" if before else "gmu")
        elif layer < half:
            found.append("sliding")
        else:
            found.append("attention" if before else "cross")
    return found


def _window(keys: Phi4Flash, mixers: list[str]) -> int:
    """The window of the layers that slide, which a file may list layer by layer."""
    given = keys.sliding_window
    if keys.layer_types is not None:
        slides = [kind == "sliding_attention" for kind in keys.layer_types]
        agree(slides, [mixer == "sliding" for mixer in mixers], "layer_types", "mb_per_layer's")
    if isinstance(given, int):
        return given
    held_against(given, len(mixers), "sliding_window")
    found = {window for window, mixer in zip(given, mixers, strict=True) if mixer == "sliding"}
    other = {window for window, mixer in zip(given, mixers, strict=True) if mixer == "attention"}
    window = found.pop() if len(found) == 1 else None
    if window is None or other - {None}:
        raise KeyProblem("sliding_window", f"{shown(given)}: not one window of the first half")
    return window


def _phi4flash(keys: Phi4Flash, name: str) -> Recipe:
    must_be(keys.hidden_act, "silu", "hidden_act", "a Mamba-1 with another activation")
    must_be(keys.attention_bias, True, "attention_bias", "attention without biases")
    for key in ("num_attention_heads", "num_key_value_heads"):
        if (getattr(keys, key) or 2) % 2:
            raise KeyProblem(key, "odd; differential attention subtracts one of two heads")
    mixers = _mixers(keys)
    inner = keys.mamba_expand * keys.hidden_size
    both: dict[str, Any] = {"bias": True, "differential": True}
    parts: dict[str, Part] = {
        "mamba1": Mamba1(
            d_inner=inner,
            d_state=keys.mamba_d_state,
            d_conv=keys.mamba_d_conv,
            dt_rank=chosen(keys.mamba_dt_rank, -(-keys.hidden_size // 16), "mamba_dt_rank"),
            conv_bias=keys.mamba_conv_bias,
            proj_bias=keys.mamba_proj_bias,
        ),
        "gmu": Gmu(memory_width=inner, bias=keys.mamba_proj_bias),
        "sliding": attention(keys, None, window=_window(keys, mixers), **both),
        "attention": attention(keys, None, **both),
        "cross": attention(keys, None, kv_from="shared", **both),
        "mlp": Mlp(d_ff=keys.intermediate_size, act=gated(keys.hidden_act), bias=keys.mlp_bias),
    }
    return recipe(
        name,
        keys.hidden_size,
        each_with(mixers, "mlp"),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        head_bias=keys.lm_head_bias,
        norm="layer",
        norm_bias=True,
        norm_eps=keys.layer_norm_eps,
    )


FAMILIES = {"phi4flash": Family(Phi4Flash, _phi4flash)}
