"""The graph and the eager measurement of the same call, side by side and round by round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from ssmprof.records import Conditions, Measurement, Outcome, Point


@dataclass
class Cell:
    """One block at one context under one set of conditions; execution -> round -> measurement."""

    block: str
    context: int
    graph_conditions: Conditions | None = None
    eager_conditions: Conditions | None = None
    graph: dict[int, Measurement] = field(default_factory=dict[int, Measurement])
    eager: dict[int, Measurement] = field(default_factory=dict[int, Measurement])

    @property
    def rounds(self) -> list[int]:
        """Rounds in which either was measured."""
        return sorted(self.graph.keys() | self.eager.keys())


def cells(outcomes: Iterable[Outcome], conditions_of: Mapping[Point, Conditions]) -> list[Cell]:
    """Measurements paired by everything but execution, in order of block and context."""
    found: dict[tuple[Conditions, str, int], Cell] = {}
    graphs: dict[Conditions, Conditions] = {}
    for outcome in outcomes:
        if not isinstance(outcome, Measurement):
            continue
        point = outcome.point
        conditions = conditions_of[point]
        common = graphs.get(conditions)
        if common is None:
            common = graphs[conditions] = replace(conditions, execution="graph")
        key = (common, point.block, point.context)
        cell = found.get(key) or found.setdefault(key, Cell(block=key[1], context=key[2]))
        if point.execution == "graph":
            cell.graph_conditions, cell.graph[outcome.round] = conditions, outcome
        else:
            cell.eager_conditions, cell.eager[outcome.round] = conditions, outcome
    return sorted(found.values(), key=lambda cell: (cell.block, cell.context))
