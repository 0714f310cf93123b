"""The caches of the sequences that run, side by side on the device: one slot each.

Running sequences stand in the first slots, so that a step of b of them is a call on the first b
rows of every cache. Who leaves makes room: the last one moves into the empty slot.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssmprof.errors import ConfigError
from ssmprof.mixers.cache import Cache, KVCache, LayerCache, Position, StateCache
from ssmprof.models.build.model import Model


class Slots:
    """Keys, values and states of at most `count` sequences of `rows` tokens, and their lengths.

    `each` holds the tokens of each sequence, int32 (count); `visible` those plus one.
    """

    def __init__(self, model: Model, count: int, rows: int) -> None:
        self.count, self.rows = count, rows
        self.whole = model.new_cache(count, rows)
        for layer in self.whole.layers:
            if isinstance(layer, KVCache) and layer.rows < rows:
                raise ConfigError(f"{model.recipe.name}: windows cannot be served by this loop yet")
        self.each = torch.zeros(count, dtype=torch.int32, device=model.device)
        self.visible = torch.ones_like(self.each)

    def first(self, batch: int, rows: int) -> Cache:
        """Views of the first `batch` slots and of so many rows of keys; they share all memory."""
        position = Position(batch, self.each.device)
        position.tables = self.whole.position.tables
        position.stand_apart(self.each[:batch], self.visible[:batch])
        made: dict[int, LayerCache] = {}
        for layer in self.whole.layers:
            if id(layer) not in made:
                made[id(layer)] = _view(layer, batch, rows, position)
        return Cache(position, rows, [made[id(layer)] for layer in self.whole.layers])

    @torch.inference_mode()
    def put(self, slot: int, prompt: Cache, tokens: int) -> None:
        """Copy the caches of a prompt of so many tokens, read by itself, into a slot."""
        for mine, other in zip(self.whole.owned(), prompt.owned(), strict=True):
            _copy(mine, slot, other, 0, tokens)
        self._stand(slot, tokens)

    @torch.inference_mode()
    def move(self, source: int, slot: int, tokens: int) -> None:
        """Copy a slot that holds so many tokens into another."""
        for layer in self.whole.owned():
            _copy(layer, slot, layer, source, tokens)
        self._stand(slot, tokens)

    @torch.inference_mode()
    def stand(self, tokens: int) -> None:
        """Declare that every slot holds so many tokens."""
        self.each.fill_(tokens)
        self.visible.fill_(tokens + 1)

    def _stand(self, slot: int, tokens: int) -> None:
        self.each[slot] = tokens
        self.visible[slot] = tokens + 1


def _view(layer: LayerCache, batch: int, rows: int, position: Position) -> LayerCache:
    if isinstance(layer, KVCache):
        return KVCache(layer.k[:batch, :rows], layer.v[:batch, :rows], position)
    return StateCache(layer.conv[:batch], layer.ssm[:batch], position)


def _copy(mine: LayerCache, slot: int, other: LayerCache, source: int, tokens: int) -> None:
    if isinstance(mine, KVCache) and isinstance(other, KVCache):
        pairs: list[tuple[Tensor, Tensor]] = [
            (mine.k[slot, :tokens], other.k[source, :tokens]),
            (mine.v[slot, :tokens], other.v[source, :tokens]),
        ]
    else:
        assert isinstance(mine, StateCache)
        assert isinstance(other, StateCache)
        pairs = [(mine.conv[slot], other.conv[source]), (mine.ssm[slot], other.ssm[source])]
    for to, found in pairs:
        to.copy_(found)
