"""A model as data: named parts, and layers that refer to them by name.

`ssmprof.mixers` says what each part is; this file says how they are put together. Every residual
step of the model is one `Layer`: norm, one part or several side by side, and the sum. What only
scales (multipliers of embeddings inside a layer, of keys, of branches) is folded into weights and
costs nothing; the scales that cannot be folded stand in the recipe.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from ssmprof import limits
from ssmprof.errors import nearest
from ssmprof.mixers.part import Part, kind
from ssmprof.mixers.registry import AnyPart
from ssmprof.scalars import Architecture, Name, Size, Value

Index = Annotated[int, Meta(ge=0, le=limits.LAYERS)]
Scale = Annotated[float, Meta(gt=0, le=limits.SCALE)]


class Shared(Value, frozen=True, kw_only=True):
    """A transformer block of shared weights in front of a layer (Zamba2, arXiv:2411.15242).

    Its `parts` run one after the other on the residual stream beside the embedding, (T, 2d); a
    projection (d, d) of this layer's own brings the result to the layer's input. `copy` says whose
    weights: layers of equal copy share them, their adapters are their own.
    """

    parts: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=limits.BLOCKS)]
    copy: Index = 0


class Layer(Value, frozen=True, kw_only=True):
    """One residual step: a norm, parts side by side on its output, and their sum or mean.

    `sandwich` norms the result once more before it is added (Gemma-3). `norm` says what is normed:
    what the parts read (`before`), their result instead (`after`, OLMo-2), or the residual stream
    itself, which goes on normed (`stream`, MiniMax).
    """

    parts: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=limits.BLOCKS)]
    merge: Literal["sum", "mean"] = "sum"
    sandwich: bool = False
    norm: Literal["before", "after", "stream"] = "before"
    shared: Shared | None = None


class Slice(Value, frozen=True, kw_only=True):
    """Which piece of which model a recipe is: the first `layers` of `whole`, as models count."""

    of: Name
    layers: Index
    whole: Index


class Recipe(Value, frozen=True, kw_only=True, tag="recipe"):
    """A stack of layers, with embedding and head unless `vocab` is None (layers only).

    `providers` forces the implementation of an op (`{"ssd_scan": "reference"}`); otherwise the one
    decided on the block runs. `preset` names the entry of the zoo it was taken from, and `slice`
    the piece of a model that it is. `norm` is `rms` or `layer` (with mean and bias);
    `embedding_norm` norms the embedding; `meta_tokens` learned tokens stand before every prompt.
    `embedding_scale` and `logits_scale` multiply what their names say, `logits_cap` bounds logits
    by tanh.
    """

    name: Name
    d_model: Size
    parts: dict[Name, AnyPart]
    layers: Annotated[tuple[Layer, ...], Meta(min_length=1, max_length=limits.LAYERS)]
    vocab: Size | None = None
    tie_embeddings: bool = True
    head_bias: bool = False
    norm: Literal["rms", "layer"] = "rms"
    norm_bias: bool = False
    norm_eps: Annotated[float, Meta(gt=0, le=1.0)] = 1e-5
    embedding_norm: bool = False
    meta_tokens: Annotated[int, Meta(ge=0, le=limits.CONTEXT_TOKENS)] = 0
    embedding_scale: Scale = 1.0
    logits_scale: Scale = 1.0
    logits_cap: Scale | None = None
    providers: dict[str, str] = {}  # noqa: RUF012
    preset: str | None = None
    slice: Slice | None = None

    def used(self) -> Iterator[tuple[str, Part]]:
        """(name, part) of every use of a part, layer after layer, shared blocks first."""
        for layer in self.layers:
            for name in (*(layer.shared.parts if layer.shared else ()), *layer.parts):
                yield name, self.parts[name]

    def count(self, name: str) -> int:
        """How many times the whole stack uses the part of this name."""
        return sum(used == name for used, _ in self.used())

    @property
    def architecture(self) -> Architecture:
        """Which kind of contender this is, by what its token mixers keep."""
        kept = {part.memory for _, part in self.used()} - {"none"}
        if kept == {"grows"}:
            return "transformer"
        return "ssm" if kept == {"fixed"} else "hybrid"

    @property
    def per_layer(self) -> int:
        """Residual steps of one layer as models count them: 2 where each mixer has its MLP."""
        mixes = [any(self.parts[name].mixes for name in layer.parts) for layer in self.layers]
        paired = all(mixes[::2]) and not any(mixes[1::2])
        return 2 if len(mixes) % 2 == 0 and paired else 1

    @property
    def layer_count(self) -> int:
        """Layers as the model's authors count them."""
        return len(self.layers) // self.per_layer


def check_recipe(recipe: Recipe) -> tuple[str, str] | None:
    """The first inconsistency of a recipe as (key, problem), or None."""
    piece = recipe.slice
    if piece is not None and not 0 < piece.layers < piece.whole:
        return "slice", f"{piece.layers} of {piece.whole} layers is no slice"
    for position, layer in enumerate(recipe.layers):
        shared = layer.shared.parts if layer.shared else ()
        for name in (*layer.parts, *shared):
            if name not in recipe.parts:
                where = f'layer {position} uses "{name[:40]}"'
                return "layers", f"{where}, which no part is called{nearest(name, recipe.parts)}"
    for name, part in recipe.parts.items():
        problem = part.check(recipe.d_model)
        if problem:
            return f"{name}.{problem[0]}", problem[1]
        if part.adapter_rank and type(part).adapted is Part.adapted:
            return f"{name}.adapter_rank", f"{part.label} takes no adapter"
    earlier: list[Part] = []
    for name, part in recipe.used():
        problem = part.lacks(earlier)
        if problem:
            return f"{name}.{problem[0]}", problem[1]
        earlier.append(part)
    return _widths(recipe)


def _widths(recipe: Recipe) -> tuple[str, str] | None:
    """A part reads what stands where it is used: d, or 2d at the start of a shared block."""
    d = recipe.d_model
    for layer in recipe.layers:
        shared = layer.shared.parts if layer.shared else ()
        given = [*((name, d) for name in layer.parts), *((name, d) for name in shared[1:])]
        for name, width in (*given, *((name, 2 * d) for name in shared[:1])):
            reads = recipe.parts[name].reads(d)
            if reads != width:
                return f"{name}.d_in", f"{reads} where {width} features are read"
    return None


def kinds(recipe: Recipe) -> dict[str, int]:
    """How many sub-layers of each kind a recipe has, in the order of their first use."""
    found: dict[str, int] = {}
    for _, part in recipe.used():
        found[kind(part)] = found.get(kind(part), 0) + 1
    return found
