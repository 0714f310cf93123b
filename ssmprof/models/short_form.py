"""The short form of a model: fewer of its equal layers, to decide on who runs its ops.

A model repeats its layers, and a trial of an op says the same whether eight or eighty of them are
called. What is left out are stretches from behind one layer up to another of its kind, so that each
layer that stays has the neighbours it has in the model:

- Up to `WHOLE` residual steps stay as they are.
- Of every kind of layer one in so many stays, at least one. The number is common to all, so that
  kinds keep their shares of the time; the rarest kind that recurs sets it, or `FEWEST`.
- The first two layers stay, every kind that follows another, and every kind whose values, keys or
  memory a later one reads: each op of the model, with its shapes, is one of the short form.
- Embedding, final norm and head stay. The vocabulary shrinks as the stack does: a head of full
  width would take a multiple of its share.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

from msgspec import structs

from ssmprof.mixers.part import Part
from ssmprof.models.recipe import Index, Layer, Recipe
from ssmprof.scalars import Value

WHOLE = 20  # residual steps: ten layers of a mixer and a feed-forward
FEWEST = 8
_WORDS = 64  # a vocabulary is a multiple of so many, as tiles of matrix products are
_LONGEST = 64  # steps of one stretch, so that no stack takes long


class Shortened(Value, frozen=True, kw_only=True):
    """How many of how many layers a short form has, as the model's authors count them."""

    layers: Index
    whole: Index


# A layer, and of which kind the layers before it are that later ones read of.
_Kind = tuple[Layer, tuple[Layer | None, ...]]


def short_form(recipe: Recipe) -> tuple[Recipe, Shortened | None]:
    """The recipe with fewer of its layers, and how many; itself and None where none may go."""
    if len(recipe.layers) <= WHOLE:
        return recipe, None
    kept = tuple(layer for layer, _ in _kept(recipe))
    if len(kept) == len(recipe.layers):
        return recipe, None
    vocab = recipe.vocab
    if vocab is not None:
        words = round(vocab * len(kept) / len(recipe.layers))
        vocab = min(vocab, -(-words // _WORDS) * _WORDS)
    short = structs.replace(recipe, layers=kept, vocab=vocab)
    found = Shortened(layers=len(kept) // recipe.per_layer, whole=recipe.layer_count)
    return short, found


def worded(found: Shortened) -> str:
    """`4 of 32 layers`."""
    return f"{found.layers} of {found.whole} layers"


def _kept(recipe: Recipe) -> list[_Kind]:
    """The layers in their order, without each stretch that may go when its end is reached."""
    kinds = list(_kinds(recipe))
    spare = _spare(recipe)
    pairs = Counter(pairwise(kinds[1:]))  # the first of all has no other like it
    kept: list[_Kind] = []
    places: dict[_Kind, list[int]] = defaultdict(list)
    for kind in kinds:
        before = places[kind][-1] if places[kind] else 0
        places[kind].append(len(kept))
        kept.append(kind)
        if not before or len(kept) - before > _LONGEST:
            continue
        layers = Counter(layer for layer, _ in kept[before + 1 :])
        gone = Counter(pairwise(kept[before:]))
        if layers <= spare and all(pairs[pair] > count for pair, count in gone.items()):
            spare -= layers
            pairs -= gone
            for dropped in kept[before + 1 :]:
                places[dropped].pop()
            del kept[before + 1 :]
    return kept


def _kinds(recipe: Recipe) -> Iterator[_Kind]:
    """What each layer is, and what those behind it find of the layers up to it."""
    readers = [part for part in recipe.parts.values() if part.lacks(()) is not None]
    read: list[Layer | None] = [None] * len(readers)
    for layer in recipe.layers:
        names = (*(layer.shared.parts if layer.shared else ()), *layer.parts)
        here: list[Part] = [recipe.parts[name] for name in names]
        for place, reader in enumerate(readers):
            if reader.lacks(here) is None:
                read[place] = layer
        yield layer, tuple(read)


def _spare(recipe: Recipe) -> Counter[Layer]:
    """How many layers of each kind may go."""
    counts = Counter(recipe.layers)
    recurring = [count for count in counts.values() if count > 1]
    factor = min([len(recipe.layers) / FEWEST, *recurring])
    return Counter({
        layer: count - max(1, int(count / factor + 0.5)) for layer, count in counts.items()
    })  # fmt: skip
