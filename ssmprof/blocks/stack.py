"""A stack of sub-layers from a pattern: pre-norm, residual, interleaved or side by side.

An entry of the pattern is one residual layer. Several mixers in one entry read the same normed
input and their outputs are averaged (arXiv:2411.13676 puts attention and Mamba heads side by side).
Scopes are opened here: `layers.3.mamba2.in_proj`, `layers.3.norm`, `layers.3.add`.
"""

from __future__ import annotations

from typing import Any, cast

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

    def run(self, x: Tensor, caches: list[LayerCache] | None, *, step: bool, fresh: bool) -> Tensor:
        """x plus what the sub-layers add; overwrites x where it is `fresh` (made by the stack)."""
        with scope(self.name):
            normed = self.norm(x)
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
            with scope("add"):
                weight = 1.0 / len(self.parts)
                if fresh:
                    return x.add_(total, alpha=weight)
                return torch.add(x, total, alpha=weight)


class Stack(nn.Module):
    """`depth` repetitions of a pattern of layers on hidden states (B, L, d) or (B, d)."""

    def __init__(self, spec: BlockSpec, weights: Weights, ops: Ops) -> None:
        super().__init__()
        self.spec = spec
        entries = [(e,) if isinstance(e, str) else tuple(e) for e in spec.pattern] * spec.depth
        self.layers = nn.ModuleList(
            Layer(index, names, spec, weights, ops) for index, names in enumerate(entries)
        )
        self._per_layer = [layer.mixers() for layer in self.layers]  # type: ignore[operator]

    def forward(self, x: Tensor, cache: Cache | None, *, step: bool, fresh: bool) -> Tensor:
        """Run all layers; `fresh` says that x may be overwritten."""
        first = 0
        for layer, mixers in zip(self.layers, self._per_layer, strict=True):
            caches = None if cache is None else cache.layers[first : first + len(mixers)]
            first += len(mixers)
            x = layer.run(x, caches, step=step, fresh=fresh)  # type: ignore[operator]
            fresh = True
        return x

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
