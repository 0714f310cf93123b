"""RWKV-7 (arXiv:2503.14456), as flash-linear-attention writes it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ssmprof.mixers.part import Part
from ssmprof.mixers.rwkv7.shape import Rwkv7, Rwkv7Ffn
from ssmprof.models.config.common import each_with
from ssmprof.models.config.keys import (
    Count,
    Epsilon,
    Factor,
    KeyProblem,
    Text,
    agree,
    held_against,
    must_be,
    shown,
)
from ssmprof.models.config.reader import Family
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size

MULTIPLE = 32  # ranks and the width of the channel mix are multiples of it


class Rwkv7Keys(Struct, frozen=True, kw_only=True):
    """Keys of an RWKV-7; ranks that a file does not give follow the width."""

    hidden_size: Size
    num_hidden_layers: Count
    vocab_size: Size
    head_dim: Size | None = 64
    num_heads: Size | None = None
    value_dim: Size | tuple[Size, ...] | None = None
    hidden_ratio: Factor | None = 4
    intermediate_size: Size | None = None
    decay_low_rank_dim: Size | None = None
    a_low_rank_dim: Size | None = None
    v_low_rank_dim: Size | None = None
    gate_low_rank_dim: Size | None = None
    hidden_act: Text = "sqrelu"
    norm_first: bool = True
    norm_bias: bool = True
    norm_eps: Epsilon = 1e-5
    attn: dict[str, Any] | None = None
    tie_word_embeddings: bool = False


def _rank(given: int | None, size: int, factor: float) -> int:
    """A rank that grows with the root of the width where a file gives none."""
    return given or max(MULTIPLE, round(factor * size**0.5 / MULTIPLE) * MULTIPLE)


def _heads(keys: Rwkv7Keys) -> tuple[int, int]:
    """Heads, and the width of one."""
    size, wide = keys.hidden_size, keys.head_dim
    if wide is None:
        if keys.num_heads is None:
            raise KeyProblem("head_dim", "missing, and so is num_heads")
        wide = size // keys.num_heads or 1
    if size % wide:
        raise KeyProblem("head_dim", f"{wide} does not divide hidden_size = {size}")
    agree(keys.num_heads, size // wide, "num_heads", "hidden_size / head_dim")
    return size // wide, wide


def _values(keys: Rwkv7Keys) -> None:
    """Values are as wide as the model, in every layer."""
    given = keys.value_dim
    if isinstance(given, tuple):
        held_against(given, keys.num_hidden_layers, "value_dim")
    wide = set(given) if isinstance(given, tuple) else {given}
    if wide - {None, keys.hidden_size}:
        raise KeyProblem(
            "value_dim", f"{shown(given)}: values of another width, which is not built"
        )


def _rwkv7(keys: Rwkv7Keys, name: str) -> Recipe:
    must_be(keys.hidden_act, "sqrelu", "hidden_act", "a channel mix with another activation")
    must_be(keys.attn, None, "attn", "an RWKV-7 with attention")
    _values(keys)
    size, (heads, wide) = keys.hidden_size, _heads(keys)
    d_ff = keys.intermediate_size
    if d_ff is None:
        d_ff = -(-max(int(size * (keys.hidden_ratio or 4)), 1) // MULTIPLE) * MULTIPLE
    scale = wide / 64
    sizes: dict[str, Any] = {
        "heads": heads,
        "head_dim": wide,
        "decay_rank": _rank(keys.decay_low_rank_dim, size, 2.5 * scale),
        "step_rank": _rank(keys.a_low_rank_dim, size, 2.5 * scale),
        "gate_rank": _rank(keys.gate_low_rank_dim, size, 5.0),
    }
    parts: dict[str, Part] = {
        "first": Rwkv7(**sizes),
        "rwkv7": Rwkv7(**sizes, value_rank=_rank(keys.v_low_rank_dim, size, 1.7 * scale)),
        "ffn": Rwkv7Ffn(width=size, d_ff=d_ff),
    }
    return recipe(
        name,
        size,
        each_with(["first", *["rwkv7"] * (keys.num_hidden_layers - 1)], "ffn"),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm="layer",
        norm_bias=keys.norm_bias,
        norm_eps=keys.norm_eps,
        embedding_norm=keys.norm_first,
    )


FAMILIES = {"rwkv7": Family(Rwkv7Keys, _rwkv7)}
