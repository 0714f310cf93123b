"""A stack of sub-layers from a pattern: pre-norm, residual, interleaved or side by side.

An entry of the pattern is one residual layer. Several mixers in one entry read the same normed
input and their outputs are averaged (arXiv:2411.13676 puts attention and Mamba heads side by side).
Scopes are opened here: `layers.3.mamba2.in_proj`, `layers.3.norm` (which also takes the sum of the
residual before), `layers.3.mean`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ssmprof.blocks import rope
from ssmprof.blocks.attention import Attention
from ssmprof.blocks.base import Cache, LayerCache, Mixer, Position
from ssmprof.blocks.mamba1 import Mamba1
from ssmprof.blocks.mamba2 import Mamba2
from ssmprof.blocks.mlp import Mlp
from ssmprof.blocks.norm import RMSNorm
from ssmprof.blocks.providers import Ops
from ssmprof.blocks.weights import Weights
from ssmprof.errors import ConfigError, nearest
from ssmprof.scopes import scope
from ssmprof.spec import SUBLAYERS, BlockSpec

# Sub-layer name -> (class, the field of BlockSpec that sizes it).
MIXERS: dict[str, tuple[type[nn.Module], str]] = {
    "attention": (Attention, "attention"),
    "mamba1": (Mamba1, "state"),
    "mamba2": (Mamba2, "state"),
}


def sublayer(name: str, spec: BlockSpec, weights: Weights, ops: Ops) -> nn.Module:
    """Build one sub-layer by name; ConfigError where the spec does not size it."""
    if name == "mlp":
        if spec.mlp is None:
            raise ConfigError(f'{spec.name}: the pattern has "mlp" and nothing sizes it',
                              fix=f"add [blocks.{spec.name}.mlp] with d_ff")  # fmt: skip
        return Mlp(spec.mlp, spec.d_model, weights, ops)
    if name not in MIXERS:
        raise ConfigError(f'{spec.name}: unknown sub-layer "{name}"{nearest(name, SUBLAYERS)}')
    kind, sized_by = MIXERS[name]
    size: Any = getattr(spec, sized_by)
    if size is None:
        raise ConfigError(f'{spec.name}: the pattern has "{name}" and nothing sizes it',
                          fix=f"add [blocks.{spec.name}.{sized_by}]")  # fmt: skip
    try:
        return kind(size, spec.d_model, weights, ops)
    except ValueError as error:
        raise ConfigError(f"{spec.name}: {sized_by}: {error}") from error


class Layer(nn.Module):
    """One entry of the pattern: norm, one or more sub-layers on it, and the residual."""

    def __init__(
        self, index: int, names: tuple[str, ...], spec: BlockSpec, weights: Weights, ops: Ops
    ) -> None:
        super().__init__()
        self.name = f"layers.{index}"
        self.names = names
        self.norm = RMSNorm(spec.d_model, weights, ops)
        self.parts = nn.ModuleList(sublayer(name, spec, weights, ops) for name in names)

    def mixers(self) -> list[Any]:
        """The sub-layers that keep a cache, in order."""
        return [p for p, name in zip(self.parts, self.names, strict=True) if name in MIXERS]

    def mix(self, normed: Tensor, caches: list[LayerCache] | None, *, step: bool) -> Tensor:
        """The sum of what the sub-layers make of their common input."""
        total: Tensor | None = None
        waiting = iter(caches or ())
        for name, part in zip(self.names, self.parts, strict=True):
            with scope(name):
                if name not in MIXERS:
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
        return total


class Stream(NamedTuple):
    """The residual stream between two layers: `x` and what is still to be added to it.

    The sum is left to the next norm, which reads and writes the stream anyway. `own` says that x
    was made by the stack and may be overwritten.
    """

    x: Tensor
    update: Tensor | None
    scale: float
    own: bool

    def normed(self, norm: RMSNorm) -> tuple[Stream, Tensor]:
        """The stream with its sum taken, and the norm of it."""
        if self.update is None:
            return self, norm(self.x)
        x, normed = norm.after(self.x, self.update, self.scale, in_place=self.own)
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


class Stack(nn.Module):
    """`depth` repetitions of a pattern of layers on hidden states (B, L, d) or (B, d)."""

    def __init__(self, spec: BlockSpec, weights: Weights, ops: Ops) -> None:
        super().__init__()
        self.spec = spec
        entries = [(e,) if isinstance(e, str) else tuple(e) for e in spec.pattern] * spec.depth
        self._layers = [
            Layer(index, names, spec, weights, ops) for index, names in enumerate(entries)
        ]
        self.layers = nn.ModuleList(self._layers)
        self._per_layer = [layer.mixers() for layer in self._layers]

    def forward(self, x: Tensor, cache: Cache | None, *, step: bool, own: bool) -> Stream:
        """Run all layers on x; `own` says that it may be overwritten."""
        first = 0
        stream = Stream(x, None, 1.0, own)
        del x
        for layer, mixers in zip(self._layers, self._per_layer, strict=True):
            caches = None if cache is None else cache.layers[first : first + len(mixers)]
            first += len(mixers)
            with scope(layer.name):
                stream, normed = stream.normed(layer.norm)
                update = layer.mix(normed, caches, step=step)
            stream = stream._replace(update=update, scale=1.0 / len(layer.names))
            del normed, update
        return stream

    def new_cache(
        self, batch: int, max_context: int, device: torch.device, dtype: torch.dtype
    ) -> Cache:
        """An empty cache for `batch` sequences of at most `max_context` tokens."""
        tables = None
        attention = self.spec.attention
        if attention is not None and attention.rope_theta and self.spec.count("attention"):
            tables = rope.tables(
                max_context, attention.head_dim, attention.rope_theta, device, dtype
            )
        position = Position(batch, device, tables)
        cache = Cache(position, max_context)
        for mixers in self._per_layer:
            cache.layers += [m.new_cache(batch, max_context, dtype, position) for m in mixers]
        return cache
