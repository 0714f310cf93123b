"""Tiny models of the recurrences over a matrix state, one option each."""

from __future__ import annotations

import make

from ssmprof.mixers.delta.shape import Delta, GatedDelta, Kda
from ssmprof.mixers.linear_attention.shape import Gla, Lightning, RetNet
from ssmprof.mixers.part import Part, kind
from ssmprof.mixers.rwkv7.shape import Rwkv7
from ssmprof.models.recipe import Recipe

VOCAB = 60
RANKS = {"heads": 4, "head_dim": 16, "decay_rank": 8, "step_rank": 6, "gate_rank": 10}


def recurring(name: str, part: Part, vocab: int | None = VOCAB) -> Recipe:
    """Two layers of this part."""
    return make.block(name, layers="part", depth=2, vocab=vocab, part=part)


def each(part: type[Part], *options: dict[str, object], **sizes: object) -> list[Recipe]:
    """A model for each set of options."""
    return [recurring(f"{kind(part)}-{'-'.join(one)}", part(**(sizes | one))) for one in options]


MATRIX_STATES = [
    *each(
        Delta, {"gate": True}, {"d_conv": 0}, {"negative_eigenvalues": True, "key_heads": 2},
        heads=4, key_dim=12, value_dim=20,
    ),
    *each(
        GatedDelta, {"gate": False}, {"d_conv": 0, "key_heads": 1}, {"conv_bias": True},
        {"negative_eigenvalues": True, "norm_eps": 1e-2, "d_conv": 2},
        heads=4, key_dim=12, value_dim=20,
    ),
    *each(
        Kda, {"gate": False}, {"d_conv": 0, "rank": 5}, {"gate_bias": True, "key_heads": 2},
        {"negative_eigenvalues": True, "norm_eps": 1e-2}, {"rank": 40},
        heads=4, key_dim=12, value_dim=20,
    ),
    *each(
        Gla, {"gate": False}, {"d_conv": 3, "conv_bias": True}, {"kv_heads": 2, "gate_rank": 5},
        {"d_conv": 4, "gate": False},
        heads=4, key_dim=12, value_dim=20,
    ),
    *each(
        RetNet, {"gate": False}, {"d_conv": 3}, {"kv_heads": 2, "rope_theta": 50.0},
        {"d_conv": 4, "gate": False},
        heads=4, key_dim=12, value_dim=20,
    ),
    *each(
        Lightning, {"gate": False}, {"d_conv": 3}, {"kv_heads": 2, "norm_eps": 1e-2},
        {"d_conv": 4, "gate": False},
        heads=4, key_dim=12, value_dim=20,
    ),
    make.block("rwkv7-values", layers="rwkv7 rwkv7_ffn later rwkv7_ffn later rwkv7_ffn",
        vocab=VOCAB, later=Rwkv7(**RANKS, value_rank=5)),
    recurring("rwkv7-unbiased", Rwkv7(**RANKS, norm_bias=False), vocab=VOCAB),
]  # fmt: skip
