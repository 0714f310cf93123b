"""Files of mamba_ssm (arXiv:2312.00752, 2405.21060, 2603.15569): no `model_type`, but `ssm_cfg`."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.mamba3.shape import Mamba3
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import step_limit, steps
from ssmprof.models.config.experts import Indices
from ssmprof.models.config.keys import (
    Count,
    KeyProblem,
    Positive,
    Text,
    Whole,
    agree,
    chosen,
    decode,
    heads_of,
    must_be,
    shown,
)
from ssmprof.models.config.reader import Family
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size

MULTIPLE = 128  # the width of a feed-forward is rounded up to it


class StateSpaces(Struct, frozen=True, kw_only=True):
    """Keys of a file; the vocabulary is padded to whole multiples."""

    d_model: Size
    n_layer: Count
    vocab_size: Size
    d_intermediate: Whole = 0
    ssm_cfg: dict[str, Any] = {}
    attn_layer_idx: Indices = ()
    attn_cfg: dict[str, Any] = {}
    rms_norm: bool = True
    pad_vocab_size_multiple: Size = 8
    tie_embeddings: bool = True


class First(Struct, frozen=True, kw_only=True):
    """`ssm_cfg` of a Mamba-1."""

    layer: Text = "Mamba1"
    d_state: Size = 16
    d_conv: Size = 4
    expand: Size = 2
    dt_rank: int | Text | None = "auto"
    conv_bias: bool = True
    bias: bool = False


class Second(Struct, frozen=True, kw_only=True):
    """`ssm_cfg` of a Mamba-2."""

    layer: Text
    d_state: Size = 128
    d_conv: Size = 4
    expand: Size = 2
    headdim: Size = 64
    d_ssm: Size | None = None
    ngroups: Size = 1
    D_has_hdim: bool = False
    rmsnorm: bool = True
    norm_before_gate: bool = False
    dt_limit: tuple[Any, ...] | None = None
    bias: bool = False
    conv_bias: bool = True


class Third(Struct, frozen=True, kw_only=True):
    """`ssm_cfg` of a Mamba-3; a rank without `is_mimo` is not used."""

    layer: Text
    d_state: Size = 128
    expand: Size = 2
    headdim: Size = 64
    ngroups: Size = 1
    rope_fraction: float = 0.5
    is_outproj_norm: bool = False
    is_mimo: bool = False
    mimo_rank: Size = 4


class Attn(Struct, frozen=True, kw_only=True):
    """`attn_cfg`."""

    num_heads: Size
    num_heads_kv: Size | None = None
    head_dim: Size | None = None
    mlp_dim: Whole = 0
    qkv_proj_bias: bool = True
    out_proj_bias: bool = True
    softmax_scale: Positive | None = None
    causal: bool = False
    d_conv: Whole = 0
    rotary_emb_dim: Whole = 0
    rotary_emb_base: Positive = 10_000.0
    rotary_emb_interleaved: bool = False


def _mamba1(keys: StateSpaces) -> Mamba1:
    cfg = decode(keys.ssm_cfg, First, inside="ssm_cfg.")
    rank = chosen(cfg.dt_rank, -(-keys.d_model // 16), "ssm_cfg.dt_rank")
    return Mamba1(
        d_inner=cfg.expand * keys.d_model,
        d_state=cfg.d_state,
        d_conv=cfg.d_conv,
        dt_rank=rank,
        conv_bias=cfg.conv_bias,
        proj_bias=cfg.bias,
    )


def _mamba2(keys: StateSpaces) -> Mamba2:
    cfg = decode(keys.ssm_cfg, Second, inside="ssm_cfg.")
    inner = cfg.expand * keys.d_model
    must_be(cfg.D_has_hdim, False, "ssm_cfg.D_has_hdim", "a skip weight per feature")
    agree(cfg.d_ssm, inner, "ssm_cfg.d_ssm", "expand * d_model")
    return Mamba2(
        d_inner=inner,
        d_state=cfg.d_state,
        headdim=cfg.headdim,
        ngroups=cfg.ngroups,
        d_conv=cfg.d_conv,
        conv_bias=cfg.conv_bias,
        proj_bias=cfg.bias,
        gated_norm=cfg.rmsnorm,
        norm_before_gate=cfg.norm_before_gate,
        dt_limit=step_limit(cfg.dt_limit),
    )


def _mamba3(keys: StateSpaces) -> Mamba3:
    cfg = decode(keys.ssm_cfg, Third, inside="ssm_cfg.")
    if cfg.rope_fraction not in (0.5, 1.0):
        raise KeyProblem("ssm_cfg.rope_fraction", f"{cfg.rope_fraction:g} is neither 0.5 nor 1")
    return Mamba3(
        d_inner=cfg.expand * keys.d_model,
        d_state=cfg.d_state,
        headdim=cfg.headdim,
        ngroups=cfg.ngroups,
        mimo_rank=cfg.mimo_rank if cfg.is_mimo else 1,
        rope_fraction=cfg.rope_fraction,
        out_norm=cfg.is_outproj_norm,
    )


SCANS = {
    "Mamba1": ("mamba1", _mamba1),
    "Mamba2": ("mamba2", _mamba2),
    "Mamba3": ("mamba3", _mamba3),
}


def _attention(keys: StateSpaces) -> Attention:
    cfg = decode(keys.attn_cfg, Attn, inside="attn_cfg.")
    must_be(cfg.causal, True, "attn_cfg.causal", "attention to later tokens")
    must_be(cfg.mlp_dim, 0, "attn_cfg.mlp_dim", "a feed-forward inside attention")
    width = cfg.head_dim or heads_of(keys.d_model, cfg.num_heads, "attn_cfg.num_heads")
    return Attention(
        heads=cfg.num_heads,
        kv_heads=cfg.num_heads_kv or cfg.num_heads,
        head_dim=width,
        qkv_bias=cfg.qkv_proj_bias,
        out_bias=cfg.out_proj_bias,
        d_conv=cfg.d_conv,
        rope_theta=cfg.rotary_emb_base if cfg.rotary_emb_dim else None,
        rope_dim=cfg.rotary_emb_dim if cfg.rotary_emb_dim not in (0, width) else None,
        rope_interleaved=cfg.rotary_emb_interleaved,
    )


def _state_spaces(keys: StateSpaces, name: str) -> Recipe:
    told = keys.ssm_cfg.get("layer", "Mamba1")
    if not isinstance(told, str) or told not in SCANS:
        raise KeyProblem("ssm_cfg.layer", f"{shown(told)} is none of {', '.join(SCANS)}")
    mixer, scan = SCANS[told]
    parts: dict[str, Part] = {mixer: scan(keys)}
    mixers = [mixer] * keys.n_layer
    for layer in keys.attn_layer_idx:
        if layer >= keys.n_layer:
            raise KeyProblem("attn_layer_idx", f"layer {layer} of {keys.n_layer}")
        mixers[layer] = "attention"
    if keys.attn_layer_idx:
        parts["attention"] = _attention(keys)
    names = mixers
    if keys.d_intermediate:
        parts["mlp"] = Mlp(d_ff=-(-keys.d_intermediate // MULTIPLE) * MULTIPLE)
        names = [step for layer in mixers for step in (layer, "mlp")]
    padded = keys.pad_vocab_size_multiple
    return recipe(
        name,
        keys.d_model,
        steps(names),
        parts,
        vocab=-(-keys.vocab_size // padded) * padded,
        tie_embeddings=keys.tie_embeddings,
        norm="rms" if keys.rms_norm else "layer",
        norm_bias=not keys.rms_norm,
    )


FAMILIES = {"state-spaces": Family(StateSpaces, _state_spaces)}
