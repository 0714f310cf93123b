"""Work and memory of a block by arithmetic, without torch.

`cost(spec, point)` is the work of one call, `breakdown` the same per part under the name of its
scope without the layer (`mamba2.scan`, `attention.qkv_proj`, `norm`, `head`), `footprint` the bytes
it needs by owner, `parameters` the size of the block. Tests hold all of them equal to the real
modules, to torch's FLOP counter and to real caches.
"""

from __future__ import annotations

from collections.abc import Callable

from ssmprof.costs.attention import attention
from ssmprof.costs.feedforward import mean, mlp
from ssmprof.costs.footprint import Footprint, footprint
from ssmprof.costs.pieces import Parts, merge, total
from ssmprof.costs.state_space import mamba1, mamba2
from ssmprof.costs.weights import parameters
from ssmprof.costs.whole import ends, norms
from ssmprof.records import Cost, Point
from ssmprof.spec import BlockSpec

__all__ = ["COSTS", "Footprint", "breakdown", "cost", "footprint", "parameters", "total"]

# Sub-layer -> its parts for one call of one layer.
COSTS: dict[str, Callable[[BlockSpec, Point], Parts]] = {
    "attention": attention,
    "mamba1": mamba1,
    "mamba2": mamba2,
    "mlp": mlp,
}


def breakdown(spec: BlockSpec, point: Point) -> dict[str, Cost]:
    """Cost of one call per part, summed over the layers."""
    found: dict[str, Cost] = {}
    for entry in spec.pattern:
        names = (entry,) if isinstance(entry, str) else entry
        for name in names:
            parts = {f"{name}.{part}": c for part, c in COSTS[name](spec, point).items()}
            merge(found, parts, spec.depth)
        merge(found, mean(spec, point), spec.depth * (len(names) - 1))
    merge(found, norms(spec, point))
    merge(found, ends(spec, point))
    return {name: c for name, c in found.items() if c.flops or c.read_bytes}


def cost(spec: BlockSpec, point: Point) -> Cost:
    """Cost of one call: FLOPs, minimal bytes read and written, special-function results."""
    return total(breakdown(spec, point).values())
