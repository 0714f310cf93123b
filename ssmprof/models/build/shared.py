"""Blocks of shared weights in front of layers (Zamba2, arXiv:2411.15242).

Each use reads the residual stream beside the embedding, (T, 2d), runs the block's parts one after
the other, each behind its norm and without a residual, and projects the result (d, d) with weights
of its own. Adapters are low-rank factors of one use.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ssmprof.mixers import registry
from ssmprof.mixers.building import Building
from ssmprof.mixers.cache import LayerCache
from ssmprof.mixers.norm.block import RMSNorm
from ssmprof.mixers.part import Part, kind
from ssmprof.models.recipe import Recipe, Shared
from ssmprof.scopes import scope


class Adapter(nn.Module):
    """Two factors, (rank, d_in) and (d_out, rank), whose product is added to a projection."""

    def __init__(self, reads: int, rank: int, writes: int, building: Building) -> None:
        super().__init__()
        self.down = building.weights.linear(reads, rank)
        self.up = building.weights.linear(rank, writes)

    def add(self, x: Tensor, projected: Tensor) -> None:
        """Add to `projected` (..., d_out) what is made of x (..., d_in)."""
        with scope("adapter"):
            low = self.down(x).flatten(0, -2)
            rows = projected.flatten(0, -2)
            torch.addmm(rows, low, self.up.weight.t(), out=rows)  # nothing as wide beside it


class Adapters(nn.ModuleList):
    """Several adapters of one input, whose outputs stand side by side in the projection."""

    def add(self, x: Tensor, projected: Tensor) -> None:
        """Each adds to its columns; those after the last are left alone."""
        start = 0
        for one in self:
            width = cast("Adapter", one).up.out_features
            cast("Adapter", one).add(x, projected[..., start : start + width])
            start += width


def _adapter(part: Part, building: Building) -> Adapter | Adapters:
    """What one user of a part adds to its projection."""
    d_model = building.d_model
    found = [
        Adapter(part.reads(d_model), part.adapter_rank, width, building)
        for width in part.adapted(d_model)
    ]
    return found[0] if len(found) == 1 else Adapters(found)


class SharedWeights(nn.Module):
    """Every copy of shared weights, made once: `copy.part` and the norm before it."""

    def __init__(self, recipe: Recipe, building: Building) -> None:
        super().__init__()
        self.copies = nn.ModuleDict()
        for layer in recipe.layers:
            for name in layer.shared.parts if layer.shared else ():
                key = f"{layer.shared.copy if layer.shared else 0}_{name}"
                if key not in self.copies:
                    part = recipe.parts[name]
                    self.copies[key] = nn.ModuleDict({
                        "norm": RMSNorm(part.reads(recipe.d_model), building),
                        "part": registry.block(kind(part))(part, building),
                    })  # fmt: skip


class SharedBlock(nn.Module):
    """One use of a copy: its adapters and its projection; the weights belong to the stack."""

    def __init__(
        self, shared: Shared, recipe: Recipe, building: Building, weights: SharedWeights
    ) -> None:
        super().__init__()
        d_model = recipe.d_model
        self.names = shared.parts
        parts = [recipe.parts[name] for name in shared.parts]
        self.mixes = [part.memory != "none" for part in parts]
        self.proj = building.weights.linear(d_model, d_model)
        self.adapters = nn.ModuleDict({
            name: _adapter(part, building)
            for name, part in zip(shared.parts, parts, strict=True)
            if part.adapter_rank
        })  # fmt: skip
        # In a list, so that torch does not take them for modules of this use.
        self._used = [cast("Any", weights.copies[f"{shared.copy}_{name}"]) for name in self.names]
        adapters = [
            self.adapters[name] if part.adapter_rank else None
            for name, part in zip(self.names, parts, strict=True)
        ]
        self._order = list(zip(self.names, self._used, self.mixes, adapters, strict=True))

    def mixers(self) -> list[Any]:
        """The sub-layers that keep a cache; each use keeps its own."""
        return [one["part"] for one, mixes in zip(self._used, self.mixes, strict=True) if mixes]

    def split(
        self, caches: list[LayerCache] | None
    ) -> tuple[list[LayerCache] | None, list[LayerCache] | None]:
        """The caches of this block, and those of the layer behind it."""
        if caches is None:
            return None, None
        count = sum(self.mixes)
        return caches[:count], caches[count:]

    def forward(
        self, x: Tensor, embedded: Tensor, caches: list[LayerCache] | None, *, step: bool
    ) -> Tensor:
        """Residual stream and embedding, (..., d) each -> what joins the layer's input (..., d)."""
        waiting = iter(caches or ())
        with scope("shared"):
            hidden = torch.cat([x, embedded], dim=-1)
            for name, one, mixes, adapter in self._order:
                normed = one["norm"](hidden)
                del hidden  # a name held is memory held: each tensor dies at its last use
                extra = {} if adapter is None else {"adapter": adapter}
                with scope(name):
                    if not mixes:
                        hidden = one["part"](normed, **extra)
                    elif step:
                        hidden = one["part"].step(normed, next(waiting), **extra)
                    else:
                        hidden = one["part"](normed, next(waiting, None), **extra)
                del normed
            with scope("proj"):
                return self.proj(hidden)
