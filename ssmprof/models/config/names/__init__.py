"""Which published tensors a parameter of ours is made of: names, rows and pure scales, no torch.

A parameter is its pieces one below the other, then a transform. What a family only scales
(Gemma's 1 + w, multipliers of Falcon-H1 and Granite) is in the pieces, so that no call pays for it.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Literal, NamedTuple

Transform = Literal[
    "none", "neg_exp", "squeeze", "flatten", "transpose", "halves", "halves_transpose"
]


class Piece(NamedTuple):
    """Rows of a published tensor, as (tensor[rows] + add) * scale.

    `order` puts every block of as many rows into this order: heads of which a part is turned stand
    otherwise here than there.
    """

    name: str
    rows: tuple[int, int] | None = None
    order: tuple[int, ...] = ()
    scale: float = 1.0
    add: float = 0.0


class Source(NamedTuple):
    """A parameter: its pieces one below the other, as `matrices` of equal height where above 0.

    Then `neg_exp` is -exp of them, in float32, `squeeze` drops the middle dimension of a (channels,
    1, width), `flatten` all dimensions but one, `halves` puts the even features of the last
    dimension before the odd ones, and `transpose` swaps the last two dimensions, after that.
    """

    pieces: tuple[Piece, ...]
    transform: Transform = "none"
    matrices: int = 0


# What stands before a name in some files: text models below models that see, saved anew.
PREFIXES = (
    ("backbone.", "model."),
    ("model.", "language_model.model."),
    ("model.", "model.language_model."),
    ("lm_head.", "language_model.lm_head."),
)


# What stands inside a name in some files: Olmo Hybrid as published, a Kimi Linear saved anew.
INSIDE = (
    (".input_layernorm.", ".attention_layer_norm."),
    (".post_attention_layernorm.", ".feedforward_layer_norm."),
    (".mlp.", ".block_sparse_moe."),
)


def spellings(name: str) -> tuple[str, ...]:
    """The names under which a published tensor is found, the usual one first."""
    others = (f"{new}{name[len(old) :]}" for old, new in PREFIXES if name.startswith(old))
    return (name, *others, *(name.replace(old, new) for old, new in INSIDE if old in name))


def spelled(name: str, published: Container[str]) -> str:
    """The spelling of a name that these tensors use, the usual one where none is there."""
    return next((other for other in spellings(name) if other in published), name)


def one(name: str, scale: float = 1.0, add: float = 0.0, transform: Transform = "none") -> Source:
    """A parameter made of one whole tensor."""
    return Source((Piece(name, scale=scale, add=add),), transform)
