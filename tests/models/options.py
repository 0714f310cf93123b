"""Tiny models of one option each: what a recipe can say and a plain model does not have."""

from __future__ import annotations

from typing import Any

import make
from models.matrix_states import MATRIX_STATES

from ssmprof.mixers.attention.shape import Attention, RopeScaling
from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.part import Part
from ssmprof.models.recipe import Layer, Recipe, Shared
from ssmprof.models.written import recipe

VOCAB = 60
NEAR = Attention(heads=4, kv_heads=2, head_dim=8, window=5, rope_theta=500.0)
WIDE = Attention(heads=4, kv_heads=2, head_dim=8, rope_theta=1e6, rope_scaling=RopeScaling(
    kind="linear", factor=8.0))  # fmt: skip
READER = Attention(heads=4, kv_heads=2, head_dim=8, kv_from="shared")
DOUBLE: dict[str, Part] = {
    "attention": Attention(heads=4, kv_heads=4, head_dim=32, d_in=128, adapter_rank=3),
    "mlp": Mlp(d_ff=80, act="geglu", adapter_rank=5),
    "mamba2": Mamba2(d_inner=128, d_state=12, headdim=32),
}


def attending(name: str, **options: Any) -> Recipe:
    """Two layers of attention with these options."""
    values = {"heads": 4, "kv_heads": 2, "head_dim": 8} | options
    return make.block(
        name, layers="attention mlp", depth=2, vocab=VOCAB, attention=Attention(**values)
    )


def scanning(name: str, part: Mamba1 | Mamba2) -> Recipe:
    """Two layers of this state space."""
    kind = "mamba1" if isinstance(part, Mamba1) else "mamba2"
    return make.block(name, layers=kind, depth=2, vocab=VOCAB, **{kind: part})


def whole(name: str, layers: str = "mamba2 mlp attention mlp", **values: Any) -> Recipe:
    """A model with options of its own, not of a part."""
    return make.block(name, layers=layers, vocab=VOCAB, **values)


def _sandwiched() -> Recipe:
    layers = (Layer(parts=(name,), sandwich=True) for name in ("attention", "mlp", "mamba2"))
    return recipe("sandwich", 64, tuple(layers), make.PARTS, vocab=VOCAB)


def shared_block(name: str, *, copies: int = 1, **parts: Part) -> Recipe:
    """Three users of a block of these parts, and a layer without one before them."""
    plain = Layer(parts=("mamba2",))
    users = (
        Layer(parts=("mamba2",), shared=Shared(parts=("attention", "mlp"), copy=user % copies))
        for user in range(3)
    )
    return recipe(name, 64, (plain, *users), DOUBLE | parts, vocab=VOCAB)


def _first_shared() -> Recipe:
    layers = (Layer(parts=("mamba2",), shared=Shared(parts=("mlp",))), Layer(parts=("mamba2",)))
    return recipe("shared-first", 64, layers, DOUBLE | {"mlp": Mlp(d_ff=80, d_in=128)})


OPTIONS = [
    attending("qk-norm-head", qk_norm="head"),
    attending("qk-norm-width", qk_norm="width", rope_theta=None),
    attending("qk-norm-heads", qk_norm="heads"),
    attending("gate", gate=True, qk_norm="head"),
    attending("sinks", sinks=True),
    attending("sinks-window", sinks=True, window=5, qkv_bias=True),
    attending("partial", rope_dim=4),
    attending("biases", qkv_bias=True, out_bias=True),
    make.block(
        "two-kinds", layers="near mlp wide mlp near mlp", vocab=VOCAB, near=NEAR, wide=WIDE
    ),
    make.block(
        "shared-keys", layers="attention mlp reader mlp reader mlp", vocab=VOCAB,
        attention=WIDE, reader=READER,
    ),
    make.block(
        "shared-keys-biased", layers="(attention mlp reader mlp)*2", vocab=VOCAB,
        attention=WIDE, reader=Attention(
            heads=4, kv_heads=2, head_dim=8, kv_from="shared", qk_norm="head", gate=True,
            qkv_bias=True, out_bias=True, rope_theta=None),
    ),
    scanning("conv-unbiased", Mamba2(
        d_inner=96, d_state=12, headdim=24, ngroups=2, conv_bias=False, d_conv=3)),
    scanning("conv-unbiased-1", Mamba1(d_inner=96, d_state=12, conv_bias=False, d_conv=3)),
    scanning("proj-bias", Mamba2(d_inner=96, d_state=12, headdim=24, proj_bias=True)),
    scanning("proj-bias-1", Mamba1(d_inner=96, d_state=12, proj_bias=True)),
    scanning("norm-before-gate", Mamba2(
        d_inner=96, d_state=12, headdim=24, norm_before_gate=True, norm_groups=4, norm_eps=1e-3)),
    scanning("inner-norms", Mamba1(d_inner=96, d_state=12, inner_norms="weighted")),
    scanning("inner-norms-plain", Mamba1(
        d_inner=96, d_state=12, inner_norms="plain", inner_norm_eps=1e-2)),
    whole("layer-norm", norm="layer", norm_bias=True),
    whole("layer-norm-unbiased", norm="layer"),
    whole("head-bias", head_bias=True),
    whole("head-bias-untied", head_bias=True, tie_embeddings=False),
    whole("ends", embedding_norm=True, logits_cap=3.0, embedding_scale=8.0, logits_scale=0.5),
    whole("mlp-bias", mlp=Mlp(d_ff=72, act="gelu_tanh", bias=True)),
    _sandwiched(),
    shared_block("shared-block"),
    shared_block("shared-blocks", copies=2),
    *MATRIX_STATES,
]  # fmt: skip
LAYERS_ALONE = [_first_shared()]
