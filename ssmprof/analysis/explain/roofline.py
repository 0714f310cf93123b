"""How near a call, and each of its ops, is to what the machine could do.

Floors from algorithmic minima (Williams et al., CACM 52, 2009): bytes over bandwidth, FLOPs over
the matmul rate, special-function results over their rate; the largest is the ceiling that binds.
Rates are those `doctor` measured on this machine; those of a data sheet stand in, and are named
(docs/how-it-works/attribution.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from ssmprof.analysis.findings import RooflinePoint
from ssmprof.chips import chips, find_chip
from ssmprof.models.recipe import Recipe
from ssmprof.records import Conditions, Environment, Measurement, Outcome, Point, median
from ssmprof.spec import Scenario
from ssmprof.work import Cost

Works = dict[Point, dict[str, Cost]]
# One layer, or equal layers taken together.
_LAYER = re.compile(r"^layers\.(\d+|\*)\.")


class Ceilings(NamedTuple):
    """Rates of a machine and where they come from."""

    bytes_per_s: float
    flops: float
    exps_per_s: float | None
    source: str

    def floor(self, cost: Cost) -> tuple[float, str]:
        """Least seconds for this work, and the ceiling that binds."""
        floors = {
            "bandwidth": (cost.read_bytes + cost.written_bytes) / self.bytes_per_s,
            "compute": cost.flops / self.flops,
        }
        if self.exps_per_s:
            floors["exponentials"] = cost.exps / self.exps_per_s
        bound = max(floors, key=lambda name: floors[name])
        return floors[bound], bound


def ceilings(machine: Environment, dtype: str) -> Ceilings | None:
    """Measured rates, else those of the data sheet, else None."""
    measured = machine.calibration
    key = machine.chip or find_chip(machine.device)
    chip = chips().get(key) if key else None
    if chip is not None:
        chip = chip.under_caps(machine.sm_cap_hz, machine.memory_cap_hz, machine.sm_count)
    bandwidth = measured.copy_bytes_per_s if measured else None
    flops = measured.matmul_flops if measured and dtype != "float32" else None
    exps = measured.exps_per_s if measured else None
    source = "measured"
    if chip is not None and (bandwidth is None or flops is None):
        source = f"data sheet of {chip.name}" if measured is None else "measured, data sheet"
        bandwidth = bandwidth or chip.mem_bandwidth_bytes_per_s.value
        tensor = chip.fp16_dense_flops or chip.bf16_dense_flops
        flops = flops or (tensor.value if tensor and dtype != "float32" else chip.fp32_flops.value)
        exps = exps or chip.exp_per_s
    if bandwidth is None or flops is None:
        return None
    return Ceilings(bandwidth, flops, exps, source)


def points(
    conditions: Conditions,
    outcomes: Sequence[Outcome],
    scenario: Scenario,
    environments: Mapping[str, Environment],
    works: Works | None = None,
) -> list[RooflinePoint]:
    """Every measured call against its ceilings, and its ops where they were timed apart.

    `works` keeps what other conditions of the same run have computed.
    """
    works = {} if works is None else works
    subjects = {block.name: block for block in scenario.blocks}
    groups: dict[tuple[str, int], list[Measurement]] = {}
    for outcome in outcomes:
        if isinstance(outcome, Measurement):
            key = (outcome.point.block, outcome.point.context)
            groups.setdefault(key, []).append(outcome)
    found: list[RooflinePoint] = []
    for (block, _), group in sorted(groups.items()):
        subject, machine = subjects.get(block), environments.get(group[0].environment)
        if not isinstance(subject, Recipe) or machine is None:
            continue
        limits = ceilings(machine, conditions.dtype)
        if limits is None:
            continue
        for scope, cost, time_s in _timed(subject, group, works):
            floor_s, bound = limits.floor(cost)
            found.append(
                RooflinePoint(
                    conditions=conditions,
                    block=block,
                    context=group[0].point.context,
                    scope=scope,
                    time_s=time_s,
                    flops=cost.flops,
                    moved_bytes=cost.read_bytes + cost.written_bytes,
                    floor_s=floor_s,
                    bound=bound,  # type: ignore[arg-type]
                    source=limits.source,
                )
            )
    return found


def _timed(
    subject: Recipe, group: Sequence[Measurement], known: Works
) -> list[tuple[str, Cost, float]]:
    """(scope without the layer, its work, its seconds) of one call; "whole" is the call itself."""
    point: Point = group[0].point
    from ssmprof.work import total

    work = _work(subject, point, known)
    found = [("whole", total(work.values()), median(one.time_s for one in group))]
    by_scope: dict[str, list[float]] = {}
    for one in group:
        if one.attribution is not None:
            for scope, time_s in _scope_times(one).items():
                by_scope.setdefault(scope, []).append(time_s)
    found.extend(
        (scope, work[scope], median(times))
        for scope, times in by_scope.items()
        if scope in work and median(times) > 0
    )
    return found


def _work(subject: Recipe, point: Point, known: Works) -> dict[str, Cost]:
    """Work of a call per part, the same for a graph and for eager launches."""
    from ssmprof.models.cost import breakdown

    point = replace(point, execution="graph")
    if point not in known:
        known[point] = breakdown(subject, point)
    return known[point]


def _scope_times(one: Measurement) -> dict[str, float]:
    assert one.attribution is not None
    found: dict[str, float] = {}
    for kernel in one.attribution.kernels:
        scope = _LAYER.sub("", kernel.scope)
        found[scope] = found.get(scope, 0.0) + median(kernel.times_s)
    return found
