"""The layers of a recipe: norm, parts, residual, one after the other or side by side.

Several parts of one layer read the same normed input; their outputs are summed or averaged
(arXiv:2411.13676 puts attention and Mamba heads side by side). Scopes are opened here:
`layers.3.mamba2.in_proj`, `layers.3.norm` (which also takes the sum of the residual before),
`layers.3.mean`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from ssmprof.errors import ConfigError
from ssmprof.mixers import registry
from ssmprof.mixers.building import Building, Memory
from ssmprof.mixers.cache import Cache, LayerCache, Mixer, Position
from ssmprof.mixers.norm.block import LayerNorm, RMSNorm
from ssmprof.mixers.part import kind
from ssmprof.models.build.shared import SharedBlock, SharedWeights
from ssmprof.models.recipe import Layer, Recipe
from ssmprof.scopes import scope


class Norm(Protocol):
    """A norm that can take the sum of the residual before it on the way."""

    def __call__(self, x: Tensor) -> Tensor: ...

    def after(
        self, x: Tensor, update: Tensor, scale: float, *, in_place: bool
    ) -> tuple[Tensor, Tensor]: ...


def norm_of(recipe: Recipe, building: Building) -> nn.Module:
    """The kind of norm that the recipe has, over its width."""
    if recipe.norm == "layer":
        return LayerNorm(recipe.d_model, building, bias=recipe.norm_bias)
    return RMSNorm(recipe.d_model, building)


def sublayer(recipe: Recipe, name: str, building: Building) -> nn.Module:
    """Build one part by its name; ConfigError where it can only be counted."""
    part = recipe.parts[name]
    try:
        return registry.block(kind(part))(part, building)
    except ConfigError as error:
        raise ConfigError(f"{recipe.name}: {error.what}", fix=error.fix) from None


class LayerBlock(nn.Module):
    """One residual step: norm, one or more parts on it, and the residual."""

    def __init__(
        self, index: int, layer: Layer, recipe: Recipe, building: Building, shared: SharedWeights
    ) -> None:
        super().__init__()
        self.name = f"layers.{index}"
        self.names = layer.parts
        self.place = layer.norm
        mean = 1.0 / len(layer.parts) if layer.merge == "mean" else 1.0
        # A norm behind the parts is one of their mean; without it, the next sum takes the mean.
        behind = layer.sandwich or layer.norm == "after"
        self.inner, self.scale = (mean, 1.0) if behind else (1.0, mean)
        self.norm = norm_of(recipe, building)
        self.after = norm_of(recipe, building) if layer.sandwich else None
        self.parts = nn.ModuleList(sublayer(recipe, name, building) for name in layer.parts)
        self.mixes = [recipe.parts[name].memory != "none" for name in layer.parts]
        self.shared: SharedBlock | None = None
        if layer.shared is not None:
            self.shared = SharedBlock(layer.shared, recipe, building, shared)

    def mixers(self) -> list[Any]:
        """The sub-layers that keep a cache, in order."""
        own = [part for part, mixes in zip(self.parts, self.mixes, strict=True) if mixes]
        return (self.shared.mixers() if self.shared else []) + own

    def read(self, stream: Stream) -> tuple[Stream, Tensor]:
        """The stream with its sum taken, and what the parts read of it."""
        if self.place == "after":
            own = stream.own or stream.update is not None
            stream = Stream(stream.summed(), None, 1.0, own)
            return stream, stream.x
        stream, normed = stream.normed(self.norm)
        if self.place == "stream":
            stream = Stream(normed, None, 1.0, own=True)
        return stream, normed

    def mix(self, normed: Tensor, caches: list[LayerCache] | None, *, step: bool) -> Tensor:
        """The sum of what the parts make of their common input, normed where norms stand behind."""
        total: Tensor | None = None
        waiting = iter(caches or ())
        for name, part, mixes in zip(self.names, self.parts, self.mixes, strict=True):
            with scope(name):
                if not mixes:
                    out = part(normed)
                elif step:
                    out = cast("Mixer", part).step(normed, next(waiting))
                else:
                    out = part(normed, next(waiting, None))
            if total is None:
                total = out
            else:
                with scope("mean"):
                    total += out
        assert total is not None
        if self.inner != 1.0:
            with scope("mean"):
                total.mul_(self.inner)
        behind = self.norm if self.place == "after" else self.after
        return total if behind is None else behind(total)


class Stream(NamedTuple):
    """The residual stream between two layers: `x` and what is still to be added to it.

    The sum is left to the next norm, which reads and writes the stream anyway. `own` says that x
    was made by the stack and may be overwritten.
    """

    x: Tensor
    update: Tensor | None
    scale: float
    own: bool

    def normed(self, norm: nn.Module) -> tuple[Stream, Tensor]:
        """The stream with its sum taken, and the norm of it."""
        if self.update is None:
            return self, norm(self.x)
        x, normed = cast("Norm", norm).after(self.x, self.update, self.scale, in_place=self.own)
        return Stream(x, None, 1.0, own=True), normed

    def summed(self) -> Tensor:
        """The stream with its sum taken."""
        if self.update is None:
            return self.x
        with scope("add"):
            if self.own:
                return self.x.add_(self.update, alpha=self.scale)
            return torch.add(self.x, self.update, alpha=self.scale)

    def last_token(self) -> Stream:
        """The stream (B, L, d) of the last token only, (B, 1, d)."""
        if self.update is None:
            return self._replace(x=self.x[:, -1:])
        x = torch.add(self.x[:, -1:], self.update[:, -1:], alpha=self.scale)
        return Stream(x, None, 1.0, own=True)


def remembered(recipe: Recipe, layers: list[LayerBlock]) -> list[Memory]:
    """Memories that layers read of the nearest earlier layer that has one; both hold it from here.

    Raises ConfigError where there is none, or of another width.
    """
    latest: Any = None
    found: list[Memory] = []
    for layer in layers:
        for part in cast("Any", layer.parts):
            if hasattr(part, "memory"):
                latest = part
            if not hasattr(part, "recalled"):
                continue
            if latest is None or latest.part.d_inner != part.part.memory_width:
                raise ConfigError(
                    f"{recipe.name}: a memory of {part.part.memory_width} features is read, but no "
                    "earlier layer has one"
                )
            if latest.memory is None:
                latest.memory = Memory()
                found.append(latest.memory)
            part.recalled = latest.memory
    return found


class Stack(nn.Module):
    """The layers of a recipe on hidden states (B, L, d) or (B, d)."""

    def __init__(self, recipe: Recipe, building: Building) -> None:
        super().__init__()
        self.recipe = recipe
        self.shared = SharedWeights(recipe, building)
        layers = recipe.slice.whole if recipe.slice else recipe.layer_count
        self._layers = [
            LayerBlock(
                index,
                layer,
                recipe,
                replace(building, layer=index // recipe.per_layer, layers=layers),
                self.shared,
            )
            for index, layer in enumerate(recipe.layers)
        ]
        self.layers = nn.ModuleList(self._layers)
        self._per_layer = [layer.mixers() for layer in self._layers]
        self._memories = remembered(recipe, self._layers)
        # A layer that reads an earlier one's keys or values needs them kept, asked for or not.
        self.needs_cache = any(
            getattr(mixer, "shared", False) for mixers in self._per_layer for mixer in mixers
        )

    def forward(self, x: Tensor, cache: Cache | None, *, step: bool, own: bool) -> Stream:
        """Run all layers on x; `own` says that it may be overwritten."""
        first = 0
        if cache is None and self.needs_cache:
            cache = self.new_cache(x.shape[0], x.shape[1], x.device, x.dtype)
        embedded = x.clone() if self.shared.copies else None
        stream = Stream(x, None, 1.0, own)
        del x
        for layer, mixers in zip(self._layers, self._per_layer, strict=True):
            caches = None if cache is None else cache.layers[first : first + len(mixers)]
            first += len(mixers)
            with scope(layer.name):
                if layer.shared is None:
                    stream, normed = layer.read(stream)
                else:
                    assert embedded is not None
                    own = stream.own or stream.update is not None
                    stream = Stream(stream.summed(), None, 1.0, own)
                    of_shared, caches = layer.shared.split(caches)
                    made = layer.shared(stream.x, embedded, of_shared, step=step)
                    normed = layer.norm(made.add_(stream.x))
                    del made  # a name held is memory held
                update = layer.mix(normed, caches, step=step)
            stream = stream._replace(update=update, scale=layer.scale)
            del normed, update
        if cache is not None:
            cache.position.passed.clear()
        return stream

    def new_cache(
        self, batch: int, max_context: int, device: torch.device, dtype: torch.dtype
    ) -> Cache:
        """An empty cache for `batch` sequences of at most `max_context` tokens."""
        position = Position(batch, device)
        cache = Cache(position, max_context)
        latest: LayerCache | None = None  # that has keys and values of its own
        for mixers in self._per_layer:
            for mixer in mixers:
                found = mixer.new_cache(batch, max_context, dtype, position)
                if found is None:
                    if latest is None:
                        raise ConfigError(
                            f"{self.recipe.name}: keys and values are read before a layer has any"
                        )
                    found = mixer.borrowed(latest, max_context)
                elif found.kv_bytes:
                    latest = found
                cache.layers.append(found)
        return cache
