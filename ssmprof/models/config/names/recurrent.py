"""Names of models of short convolutions, of Griffin and of xLSTM."""

from __future__ import annotations

from typing import Any

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.mlstm.shape import Mlstm
from ssmprof.mixers.rglru.shape import RgLru
from ssmprof.mixers.short_conv.shape import ShortConv
from ssmprof.models.config.names import Piece, Source, one
from ssmprof.models.config.names.parts import Names, attention, ends, mlp
from ssmprof.models.recipe import Recipe


def lfm2_names(keys: Any, recipe: Recipe) -> Names:
    """Names of LFM2."""
    found = ends(recipe, "model.embed_tokens.weight", "model.embedding_norm.weight")
    for step, layer in enumerate(recipe.layers):
        ours, base = f"stack.layers.{step}", f"model.layers.{step // 2}"
        norm = "ffn_norm" if step % 2 else "operator_norm"
        found[f"{ours}.norm.weight"] = one(f"{base}.{norm}.weight")
        part = recipe.parts[layer.parts[0]]
        ours = f"{ours}.parts.0"
        if isinstance(part, Attention):
            read = f"{base}.self_attn"
            found |= attention(part, ours, read)
            found[f"{ours}.out_proj.weight"] = one(f"{read}.out_proj.weight")
            for name in ("q_norm", "k_norm"):
                found[f"{ours}.{name}"] = one(f"{read}.{name[0]}_layernorm.weight")
        elif isinstance(part, Mlp):
            found |= mlp(part, ours, f"{base}.feed_forward", up=("w1", "w3"), down="w2")
        else:
            assert isinstance(part, ShortConv)
            found |= _short_conv(part, ours, f"{base}.conv")
    return found


def _short_conv(part: ShortConv, ours: str, base: str) -> Names:
    found: Names = {}
    for kind in ("weight", "bias") if part.bias else ("weight",):
        for name in ("in_proj", "out_proj"):
            found[f"{ours}.{name}.{kind}"] = one(f"{base}.{name}.{kind}")
    found[f"{ours}.conv.weight"] = one(f"{base}.conv.weight", transform="squeeze")
    if part.bias:
        found[f"{ours}.conv.bias"] = one(f"{base}.conv.bias")
    return found


def recurrent_gemma_names(keys: Any, recipe: Recipe) -> Names:
    """Names of RecurrentGemma, whose norms multiply with 1 + w."""
    found = ends(recipe, "model.embed_tokens.weight", "model.final_norm.weight", add=1.0)
    for step, layer in enumerate(recipe.layers):
        ours, base = f"stack.layers.{step}", f"model.layers.{step // 2}"
        norm = "channel_pre_norm" if step % 2 else "temporal_pre_norm"
        found[f"{ours}.norm.weight"] = one(f"{base}.{norm}.weight", add=1.0)
        part = recipe.parts[layer.parts[0]]
        ours, mixed = f"{ours}.parts.0", f"{base}.temporal_block"
        if isinstance(part, Attention):
            found |= attention(part, ours, mixed)
        elif isinstance(part, Mlp):
            found |= mlp(part, ours, f"{base}.mlp_block")
        else:
            assert isinstance(part, RgLru)
            found |= _rglru(part, ours, mixed)
    return found


def _rglru(part: RgLru, ours: str, base: str) -> Names:
    names = (("x_proj", "linear_x"), ("y_proj", "linear_y"), ("out_proj", "linear_out"))
    found = {
        f"{ours}.{mine}.{kind}": one(f"{base}.{theirs}.{kind}")
        for mine, theirs in names
        for kind in ("weight", "bias")
    }
    for mine, theirs in (("input_gate", "input_gate"), ("decay_gate", "recurrent_gate")):
        for kind in ("weight", "bias"):
            found[f"{ours}.{mine}.{kind}"] = one(f"{base}.rg_lru.{theirs}_{kind}")
    rate = Piece(f"{base}.rg_lru.recurrent_param")
    return found | {
        f"{ours}.conv.weight": one(f"{base}.conv_1d.weight", transform="squeeze"),
        f"{ours}.conv.bias": one(f"{base}.conv_1d.bias"),
        f"{ours}.rate": Source((rate,), matrices=part.heads),
    }


def xlstm_names(keys: Any, recipe: Recipe) -> Names:
    """Names of xLSTM, its projections apart or fused."""
    found = ends(recipe, "backbone.embeddings.weight", "backbone.out_norm.weight")
    fused = keys.weight_mode == "fused"
    for step, layer in enumerate(recipe.layers):
        ours, base = f"stack.layers.{step}", f"backbone.blocks.{step // 2}"
        norm = "norm_ffn" if step % 2 else "norm_mlstm"
        found[f"{ours}.norm.weight"] = one(f"{base}.{norm}.weight")
        part = recipe.parts[layer.parts[0]]
        ours = f"{ours}.parts.0"
        if isinstance(part, Mlp):
            up = ("proj_up_gate_z",) if fused else ("proj_up_gate", "proj_up")
            found |= mlp(part, ours, f"{base}.ffn", up=up, down="proj_down")
        else:
            assert isinstance(part, Mlstm)
            found |= _mlstm(ours, f"{base}.mlstm_layer", fused=fused)
    return found


def _mlstm(ours: str, base: str, *, fused: bool) -> Names:
    read = ("qkv_opreact",) if fused else ("q", "k", "v", "ogate_preact")
    gates = ("ifgate_preact",) if fused else ("igate_preact", "fgate_preact")

    def below(names: tuple[str, ...], kind: str) -> Source:
        return Source(tuple(Piece(f"{base}.{name}.{kind}") for name in names))

    return {
        f"{ours}.in_proj.weight": below(read, "weight"),
        f"{ours}.gates.weight": below(gates, "weight"),
        f"{ours}.gates.bias": below(gates, "bias"),
        f"{ours}.norm": one(f"{base}.multihead_norm.weight"),
        f"{ours}.out_proj.weight": one(f"{base}.out_proj.weight"),
    }
