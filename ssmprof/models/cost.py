"""Work, parameters and bytes between tokens of a recipe, by arithmetic, without torch.

`cost(recipe, point)` is the work of one call, `breakdown` the same per part under the name of its
scope without the layer (`mamba2.scan`, `attention.qkv_proj`, `norm`, `head`), `parameters` the
size. Tests hold all of them equal to the real modules, to torch's FLOP counter and to real caches.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ssmprof.mixers.part import Held, Weight
from ssmprof.scalars import DTYPE_BYTES, StoredDtype, stored_bytes
from ssmprof.work import (
    Cost,
    Parts,
    add_rms_norm,
    call_tokens,
    elementwise,
    matmul,
    merge,
    rms_norm,
    times,
    total,
    work,
)

if TYPE_CHECKING:
    from ssmprof.models.recipe import Recipe
    from ssmprof.records import Point

ID_BYTES = 8  # token ids are int64


def logit_rows(point: Point) -> int:
    """Positions whose logits one call returns."""
    if point.logits == "none":
        return 0
    return call_tokens(point) if point.logits == "all" else point.batch


def breakdown(recipe: Recipe, point: Point) -> dict[str, Cost]:
    """Cost of one call per part, summed over the layers."""
    d, b, tokens = recipe.d_model, DTYPE_BYTES[point.dtype], call_tokens(point)
    found: dict[str, Cost] = {}
    for name, count in Counter(name for name, _ in recipe.used()).items():
        part = recipe.parts[name]
        merge(found, {f"{name}.{scope}": c for scope, c in part.cost(d, point).items()}, count)
        if part.adapter_rank:
            merge(found, {f"{name}.adapter": _adapter(recipe, name, tokens, b)}, count)
    beside = sum(len(layer.parts) - 1 for layer in recipe.layers)
    merge(found, {"mean": elementwise(tokens * d, b, reads=2, flops=1)}, beside)
    merge(found, _shared(recipe, tokens, b))
    merge(found, _norms(recipe, tokens, b))
    merge(found, _ends(recipe, point))
    return {name: c for name, c in found.items() if c.flops or c.read_bytes}


def cost(recipe: Recipe, point: Point) -> Cost:
    """Cost of one call: FLOPs, minimal bytes read and written, special-function results."""
    return total(breakdown(recipe, point).values())


def _adapter(recipe: Recipe, name: str, tokens: int, b: int) -> Cost:
    part = recipe.parts[name]
    down = matmul(tokens, part.reads(recipe.d_model), part.adapter_rank, b)
    widths = part.adapted(recipe.d_model)
    ups = [matmul(tokens, part.adapter_rank, width, b) for width in widths]
    return total((times(down, len(ups)), *ups))


def _shared(recipe: Recipe, tokens: int, b: int) -> Parts:
    """Norms and projections around blocks of shared weights."""
    d, parts = recipe.d_model, Parts()
    for layer in recipe.layers:
        if layer.shared is not None:
            widths = [recipe.parts[name].reads(d) for name in layer.shared.parts]
            norms = total(rms_norm(tokens, width, b) for width in widths)
            merge(parts, {"shared.norm": norms, "shared.proj": matmul(tokens, d, d, b)})
    return parts


def _norms(recipe: Recipe, tokens: int, b: int) -> Parts:
    """The norm before each layer, which also adds what the layer before it made."""
    d, first = recipe.d_model, rms_norm(tokens, recipe.d_model, b)
    later = times(add_rms_norm(tokens, d, b), len(recipe.layers) - 1)
    again = times(first, sum(layer.sandwich for layer in recipe.layers))
    return {"norm": total((first, later, again))}


def _ends(recipe: Recipe, point: Point) -> Parts:
    """Embedding, final sum and norm, and head of a model; the final sum of layers alone."""
    d, b = recipe.d_model, DTYPE_BYTES[point.dtype]
    tokens, rows = call_tokens(point), logit_rows(point)
    parts: Parts = {}
    if recipe.vocab is not None:
        looked_up = tokens * d * b
        parts["embedding"] = work(read=looked_up + tokens * ID_BYTES, written=looked_up)
        if recipe.embedding_norm:
            parts["embedding.norm"] = rms_norm(tokens, d, b)
    if recipe.vocab is None or not rows:
        parts["final.add"] = elementwise(tokens * d, b, reads=2, flops=2)
    else:
        parts["final.norm"] = add_rms_norm(rows, d, b)
        parts["head"] = matmul(rows, d, recipe.vocab, b, bias=recipe.head_bias)
    return parts


def weights(recipe: Recipe) -> list[Weight]:
    """Every parameter tensor, embedding and an untied head included, shared ones once."""
    d = recipe.d_model
    norm = [Weight(d)] * (2 if recipe.norm_bias else 1)
    found: list[Weight] = []
    copies: set[tuple[str, int]] = set()
    for layer in recipe.layers:
        found += norm * (2 if layer.sandwich else 1)
        for name in layer.parts:
            found += recipe.parts[name].weights(d)
        if layer.shared is None:
            continue
        found.append(Weight(d * d))
        for name in layer.shared.parts:
            part = recipe.parts[name]
            if part.adapter_rank:
                for width in part.adapted(d):
                    found.append(Weight(part.reads(d) * part.adapter_rank))
                    found.append(Weight(part.adapter_rank * width))
            if (name, layer.shared.copy) not in copies:
                copies.add((name, layer.shared.copy))
                found += [Weight(part.reads(d)), *part.weights(d)]
    if recipe.vocab is not None:
        table = Weight(recipe.vocab * d)
        found += [table, *norm]
        found += norm if recipe.embedding_norm else []
        found += [] if recipe.tie_embeddings else [table]
        found += [Weight(recipe.vocab)] if recipe.head_bias else []
    if recipe.meta_tokens:
        found.append(Weight(recipe.meta_tokens * d))
    return found


def parameters(recipe: Recipe) -> int:
    """Number of parameters; a tied head counts once."""
    return sum(weight.elements for weight in weights(recipe))


def active_parameters(recipe: Recipe) -> int:
    """Parameters that one token makes use of: experts that are not asked do not count."""
    return round(sum(weight.elements * weight.active for weight in weights(recipe)))


def weight_bytes(weight: Weight, dtype: StoredDtype) -> int:
    """Bytes of one parameter tensor; scales of a quantised one are not counted."""
    return stored_bytes(weight.elements, "float32" if weight.float32 else dtype)


def held(recipe: Recipe, point: Point) -> list[Held]:
    """Every tensor that the whole stack keeps between tokens, in elements of one sequence."""
    return [tensor for _, part in recipe.used() for tensor in part.held(point)]
