"""Estimated seconds of one call: work at the ceilings, and launches that wait for each other.

Work is the arithmetic of `models.cost` over peak rates at EFFICIENCY. Short kernels are bound by
their number instead: each takes a machine's `node_s` beside its work in a graph, and its `host_s`
where Python launches it, `loop_s` from a plain loop. What a recurrence moves again and again comes
from the L2 cache, about twice as fast as memory, so that it counts at the full rate.
"""

from __future__ import annotations

from typing import NamedTuple

from ssmprof.models.cost import breakdown
from ssmprof.models.launches import PER_SUBLAYER, launches
from ssmprof.models.recipe import Recipe
from ssmprof.planning.machine import Machine
from ssmprof.records import Point

EFFICIENCY = 0.5  # of the ceiling that binds an op, typical of the shapes of the scenarios


class Call(NamedTuple):
    """Seconds of a call replayed as a graph, of an eager one and of the host in it; its ops from
    Python, its kernels.

    `looped` says that most of its kernels are those of a loop.
    """

    graph_s: float
    eager_s: float
    host_s: float
    ops: int
    kernels: int
    looped: bool = False


def call_of(recipe: Recipe, point: Point, machine: Machine) -> Call:
    """What one call of a recipe is estimated to be."""
    floors = 0.0
    for cost in breakdown(recipe, point).values():
        floors += max(
            (cost.read_bytes + cost.written_bytes) / machine.bytes_per_s,
            cost.flops / machine.flops,
            cost.exps / machine.exps_per_s,
        )
    found = launches(recipe, point)
    usual = PER_SUBLAYER * sum(1 for _ in recipe.used())
    walked = found.launches - usual + found.native
    work_s = max(floors / EFFICIENCY, floors + usual * machine.node_s)
    work_s += walked * machine.node_s + found.moved_bytes / machine.bytes_per_s
    kernels = found.launches + found.native
    host_s = usual * machine.host_s + (found.launches - usual) * machine.loop_s
    eager_s = work_s + host_s
    if machine.kind != "cpu":  # it works while the host submits what comes next, but the last one
        eager_s = max(work_s, host_s + work_s / kernels)
    return Call(work_s, eager_s, host_s, found.launches, kernels, looped=walked > usual)


def call_s(recipe: Recipe, point: Point, machine: Machine) -> float:
    """Estimated seconds of one call in the point's own execution."""
    call = call_of(recipe, point, machine)
    return call.graph_s if point.execution == "graph" else call.eager_s
