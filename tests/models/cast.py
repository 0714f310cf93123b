"""Tiny models of the mixers and feed-forwards beside attention and Mamba, and of their options."""

from __future__ import annotations

from typing import Any

import make

from ssmprof.mixers.attention.shape import Attention, RopeScaling
from ssmprof.mixers.gmu.shape import Gmu
from ssmprof.mixers.lstm.shape import Gru, Lstm
from ssmprof.mixers.mamba3.shape import Mamba3
from ssmprof.mixers.mla.shape import Latent
from ssmprof.mixers.mlstm.shape import Mlstm
from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.part import Part
from ssmprof.mixers.plamo2.shape import Plamo2
from ssmprof.mixers.rglru.shape import RgLru
from ssmprof.mixers.short_conv.shape import ShortConv
from ssmprof.models.recipe import Layer, Recipe
from ssmprof.models.written import recipe

VOCAB = 60


def cast(name: str, layers: str, **parts: Part) -> Recipe:
    """Two times these layers."""
    return make.block(name, layers=layers, depth=2, vocab=VOCAB, **parts)


EXPERTS = [
    cast("experts", "attention moe mamba2 moe"),
    cast("experts-grouped", "attention moe", moe=Moe(
        experts=8, experts_per_token=2, d_ff=24, score="sigmoid", selection_bias=True, groups=4,
        top_groups=2, shared_d_ff=32, shared_gate=True)),
    cast("experts-biased", "attention moe", moe=Moe(
        experts=4, experts_per_token=2, d_ff=24, bias=True, router_bias=True, clamp=7.0)),
    cast("experts-latent", "attention moe", moe=Moe(
        experts=8, experts_per_token=3, d_ff=24, act="relu2", latent=16, shared_d_ff=32)),
]  # fmt: skip
LATENTS = [
    cast("latent-queries", "mla mlp", mla=Latent(
        heads=3, kv_lora_rank=20, q_lora_rank=28, qk_nope_head_dim=8, qk_rope_head_dim=6,
        v_head_dim=10, bias=True,
        rope_scaling=RopeScaling(kind="yarn", factor=4.0, original_tokens=16))),
    cast("latent-unturned", "mla", mla=Latent(
        heads=2, kv_lora_rank=16, qk_rope_head_dim=4, rope_theta=None)),
]  # fmt: skip
SCANS = [
    cast("ranks", "mamba3", mamba3=Mamba3(
        d_inner=96, d_state=12, headdim=24, ngroups=2, mimo_rank=3)),
    cast("ranks-normed", "mamba3", mamba3=Mamba3(
        d_inner=64, d_state=16, headdim=32, mimo_rank=2, rope_fraction=1.0, out_norm=True)),
    cast("one-rank-normed", "mamba3", mamba3=Mamba3(
        d_inner=64, d_state=10, headdim=16, out_norm=True)),
]  # fmt: skip
RECURRENCES = [
    cast("taps", "short_conv", short_conv=ShortConv(width=64, d_conv=4, bias=True)),
    cast("one-tap", "short_conv mlp", short_conv=ShortConv(width=64, d_conv=1)),
    cast("one-block", "rglru mlp", rglru=RgLru(width=64, heads=1, d_conv=2)),
    cast("low-rank-steps", "plamo2 mlp", plamo2=Plamo2(
        d_inner=96, d_state=12, headdim=24, dt_rank=5, d_conv=3)),
    cast("uncapped", "mlstm", mlstm=Mlstm(
        heads=2, key_dim=8, value_dim=32, gate_cap=None)),
    cast("lstm-projected", "lstm mlp", lstm=Lstm(hidden=40, bias=False)),
    cast("gru-projected", "gru mlp", gru=Gru(hidden=40)),
]  # fmt: skip


DIFFERENCES = [
    cast("difference", "attention mlp", attention=Attention(
        heads=8, kv_heads=4, head_dim=8, differential=True, qkv_bias=True)),
    cast("difference-window", "attention", attention=Attention(
        heads=4, kv_heads=4, head_dim=8, differential=True, window=5, rope_theta=None)),
    cast("difference-shared", "attention reader mlp", attention=Attention(
        heads=8, kv_heads=4, head_dim=8, differential=True, rope_theta=None), reader=Attention(
        heads=8, kv_heads=4, head_dim=8, differential=True, rope_theta=None, kv_from="shared")),
]  # fmt: skip

MEMORIES = [
    cast("memory", "mamba1 mlp attention mlp gmu mlp gmu", gmu=Gmu(memory_width=128)),
    cast("memory-biased", "mamba1 gmu", gmu=Gmu(memory_width=128, bias=True)),
]


def placed(name: str, norm: Any, merge: Any = "sum", *, sandwich: bool = False) -> Recipe:
    """Layers whose norm stands elsewhere than before the parts."""
    layers = (
        Layer(parts=parts, norm=norm, merge=merge, sandwich=sandwich)
        for parts in (("mamba2",), ("mlp",), ("attention", "mamba2"), ("moe",))
    )
    return recipe(name, 64, tuple(layers), make.PARTS, vocab=VOCAB)


NORMS = [
    placed("norm-after", "after"),
    placed("norm-after-mean", "after", "mean"),
    placed("norm-of-stream", "stream", "mean"),
    placed("sandwich-mean", "before", "mean", sandwich=True),
]
CAST = [*EXPERTS, *LATENTS, *SCANS, *RECURRENCES, *DIFFERENCES, *MEMORIES, *NORMS]
