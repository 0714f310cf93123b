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

_STEP = 256  # rows of keys are copied in multiples of it: their views are made once


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
        self._made: dict[tuple[bool, int, int], list[list[Tensor]]] = {}
        self._alone: Cache | None = None

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
    def prepare(self, prompt: Cache) -> None:
        """Make the views that `put` from this cache and `move` copy."""
        for rows in {self._rows(tokens) for tokens in range(1, self.rows + 1)}:
            self._parts(prompt, 0, rows)
            for slot in range(self.count):
                self._parts(self.whole, slot, rows)

    @torch.inference_mode()
    def put(self, slot: int, prompt: Cache, tokens: int) -> None:
        """Copy the caches of a prompt of so many tokens, read by itself, into a slot."""
        self._copy(slot, prompt, 0, tokens)

    @torch.inference_mode()
    def move(self, source: int, slot: int, tokens: int) -> None:
        """Copy a slot that holds so many tokens into another."""
        self._copy(slot, self.whole, source, tokens)

    @torch.inference_mode()
    def stand(self, tokens: int) -> None:
        """Declare that every slot holds so many tokens."""
        self.each.fill_(tokens)
        self.visible.fill_(tokens + 1)

    def _rows(self, tokens: int) -> int:
        return min(self.rows, -(-tokens // _STEP) * _STEP)

    def _copy(self, slot: int, of: Cache, source: int, tokens: int) -> None:
        """All layers in one call per dtype: a copy each would keep the device waiting."""
        rows = self._rows(tokens)
        pairs = zip(self._parts(self.whole, slot, rows), self._parts(of, source, rows), strict=True)
        for mine, found in pairs:
            torch.ops.aten._foreach_copy_(mine, found)
        self.each[slot] = tokens
        self.visible[slot] = tokens + 1

    def _parts(self, of: Cache, slot: int, rows: int) -> list[list[Tensor]]:
        """What a slot holds of so many tokens, by dtype; kept for all slots and for one prompt."""
        own = of is self.whole
        if not own and of is not self._alone:
            self._made = {key: parts for key, parts in self._made.items() if key[0]}
            self._alone = of
        key = (own, slot, rows)
        if key not in self._made:
            by_dtype: dict[torch.dtype, list[Tensor]] = {}
            for layer in of.owned():
                if isinstance(layer, KVCache):
                    held = (layer.k[slot, :rows], layer.v[slot, :rows])
                else:
                    held = (layer.conv[slot], layer.ssm[slot])
                for one in held:
                    by_dtype.setdefault(one.dtype, []).append(one)
            self._made[key] = list(by_dtype.values())
        return self._made[key]


def _view(layer: LayerCache, batch: int, rows: int, position: Position) -> LayerCache:
    if isinstance(layer, KVCache):
        return KVCache(layer.k[:batch, :rows], layer.v[:batch, :rows], position)
    return StateCache(layer.conv[:batch], layer.ssm[:batch], position)
