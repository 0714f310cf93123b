"""Rotary embedding of a `config.json`: `rope_theta` and `rope_scaling` of transformers 4, and
`rope_parameters` of transformers 5, of one kind of layer or of each.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, NamedTuple, cast

from msgspec import Meta, Struct

from ssmprof import limits
from ssmprof.mixers.attention.shape import RopeScaling
from ssmprof.models.config.keys import Factor, KeyProblem, Positive, Share, Text, decode, shown
from ssmprof.scalars import Tokens

Theta = Annotated[float, Meta(gt=1, le=limits.ROPE_BASE)]

THETA = 10_000.0
_KINDS = ("default", "linear", "llama3", "yarn", "longrope")


class Rotary(Struct, frozen=True, kw_only=True):
    """Keys that say how positions are turned; a family's struct inherits them."""

    rope_theta: Theta | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    partial_rotary_factor: Share | None = None
    max_position_embeddings: Tokens | None = None
    original_max_position_embeddings: Tokens | None = None


class _Inner(Struct, frozen=True, kw_only=True):
    """Keys of one object of rotary parameters."""

    rope_type: Text | None = None
    type: Text | None = None
    rope_theta: Theta | None = None
    partial_rotary_factor: Share | None = None
    factor: Positive | None = None
    original_max_position_embeddings: Tokens | None = None
    low_freq_factor: Positive | None = None
    high_freq_factor: Positive | None = None
    beta_fast: Positive | None = None
    beta_slow: Positive | None = None
    attention_factor: Factor | None = None
    mscale: Positive | None = None
    mscale_all_dim: Positive | None = None
    truncate: bool = True
    short_factor: tuple[Positive, ...] | None = None
    long_factor: tuple[Positive, ...] | None = None


class Turn(NamedTuple):
    """Base, turned features of a head (None: all) and stretching of one kind of attention."""

    theta: float
    dim: int | None
    scaling: RopeScaling | None


def turn(
    keys: Rotary,
    head_dim: int,
    *,
    theta: float = THETA,
    share: float = 1.0,
    kind: str = "full_attention",
    yarn_is_longrope: bool = False,
) -> Turn:
    """How attention of this kind of layer turns, with a family's defaults for what is not said."""
    where, values = _of_kind(keys, kind)
    inner = decode(values, _Inner, inside=where)
    share = inner.partial_rotary_factor or keys.partial_rotary_factor or share
    dim = int(head_dim * share)
    if dim < 2 or dim % 2:
        raise KeyProblem(
            "partial_rotary_factor", f"{share} of {head_dim} features are {dim}; pairs turn"
        )
    scaling = _scaling(inner, keys, dim, where, yarn_is_longrope)
    return Turn(
        inner.rope_theta or keys.rope_theta or theta, None if dim == head_dim else dim, scaling
    )


def per_kind(keys: Rotary) -> bool:
    """Whether `rope_parameters` has one object for each kind of layer."""
    return any(isinstance(value, dict) for value in (keys.rope_parameters or {}).values())


def _of_kind(keys: Rotary, kind: str) -> tuple[str, dict[str, Any]]:
    """Where the parameters of a kind of layer stand, and they."""
    if keys.rope_scaling:
        return "rope_scaling.", keys.rope_scaling
    values = keys.rope_parameters or {}
    if not per_kind(keys):
        return "rope_parameters.", values
    found = values.get(kind)
    if found is None:
        return f"rope_parameters.{kind}.", {}
    if not isinstance(found, dict):
        raise KeyProblem(f"rope_parameters.{kind}", f"expected an object, got {shown(found)}")
    return f"rope_parameters.{kind}.", cast("dict[str, Any]", found)


def _scaling(
    inner: _Inner, keys: Rotary, dim: int, where: str, yarn_is_longrope: bool
) -> RopeScaling | None:
    told = inner.rope_type or inner.type or "default"
    name = "longrope" if told == "su" or (yarn_is_longrope and told == "yarn") else told
    if name not in _KINDS:
        key = "rope_type" if inner.rope_type else "type"
        raise KeyProblem(
            f"{where}{key}", f"{shown(told)}: another rotary scaling, which is not built"
        )
    if name == "default":
        return None
    length = keys.max_position_embeddings
    original = keys.original_max_position_embeddings or inner.original_max_position_embeddings
    if name == "linear":
        return RopeScaling(kind=name, factor=_needed(inner.factor, f"{where}factor"))
    original = original or _needed(length, f"{where}original_max_position_embeddings")
    factor = inner.factor
    if factor is None and name != "llama3" and length is not None:
        factor = length / original
    factor = _needed(factor, f"{where}factor")
    if name == "llama3":
        return RopeScaling(
            kind=name, factor=factor, original_tokens=original,
            low=_needed(inner.low_freq_factor, f"{where}low_freq_factor"),
            high=_needed(inner.high_freq_factor, f"{where}high_freq_factor"),
        )  # fmt: skip
    if name == "yarn":
        return RopeScaling(
            kind=name, factor=factor, original_tokens=original, truncate=inner.truncate,
            beta_fast=inner.beta_fast or 32.0, beta_slow=inner.beta_slow or 1.0,
            attention_factor=_yarn_factor(inner, factor),
        )  # fmt: skip
    short, long = inner.short_factor, inner.long_factor
    for key, found in (("short_factor", short), ("long_factor", long)):
        if len(_needed(found, f"{where}{key}")) != dim // 2:
            raise KeyProblem(
                f"{where}{key}", f"{len(found or ())} factors, but {dim // 2} pairs turn"
            )
    return RopeScaling(
        kind=name, factor=factor, original_tokens=original, attention_factor=inner.attention_factor,
        factors=short or (), long_factors=long or (),
    )  # fmt: skip


def _yarn_factor(inner: _Inner, factor: float) -> float | None:
    """What cosine and sine are multiplied with where it is not the published rule."""
    if inner.attention_factor is not None or not (inner.mscale and inner.mscale_all_dim):
        return inner.attention_factor
    if factor <= 1:
        return 1.0
    above, below = (0.1 * by * math.log(factor) + 1 for by in (inner.mscale, inner.mscale_all_dim))
    return above / below


def _needed(value: Any, key: str) -> Any:
    if value is None:
        raise KeyProblem(key, "missing")
    return value
