"""`qwen3-next@8`: the first layers of a model, as a thing with a name of its own.

What a slice costs is no model's cost; its name says so wherever it stands.
"""

from __future__ import annotations

from msgspec import structs

from ssmprof.errors import ConfigError
from ssmprof.models.recipe import Recipe, Slice


def split_name(name: str) -> tuple[str, int | None]:
    """`qwen3-next@8` -> ("qwen3-next", 8); no number where no slice is asked for."""
    head, mark, tail = name.rpartition("@")
    if not mark or not head:
        return name, None
    if not tail.isascii() or not tail.isdigit() or not 1 <= int(tail) <= 10**9:
        raise ConfigError(f'{name}: "{tail[:20]}" is no number of layers', fix=f"{head}@8")
    return head, int(tail)


def sliced(recipe: Recipe, layers: int) -> Recipe:
    """The first `layers` layers, as the model's authors count them.

    Raises ConfigError where the model has no more than that. Parts that no layer uses any more are
    left out, so that the slice is counted as what it is.
    """
    whole = recipe.layer_count
    if layers >= whole:
        raise ConfigError(
            f"{recipe.name}@{layers}: the model has {whole} layers",
            fix=f"{recipe.name} names it whole",
        )
    kept = recipe.layers[: layers * recipe.per_layer]
    used = {
        name
        for layer in kept
        for name in (*layer.parts, *(layer.shared.parts if layer.shared else ()))
    }
    return structs.replace(
        recipe,
        name=f"{recipe.name}@{layers}",
        layers=kept,
        parts={name: part for name, part in recipe.parts.items() if name in used},
        slice=Slice(of=recipe.name, layers=layers, whole=whole),
    )


def piece(recipe: Recipe) -> str | None:
    """`slice of 8 of 48 layers`, None of a whole model."""
    return worded(recipe.slice) if recipe.slice is not None else None


def worded(found: Slice) -> str:
    """`slice of 8 of 48 layers`."""
    return f"slice of {found.layers} of {found.whole} layers"
