"""The graph and the eager measurement of the same call, side by side and round by round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from ssmprof.records import Conditions, Measurement, Outcome


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


def cells(outcomes: Iterable[Outcome], conditions_of: Mapping[str, Conditions]) -> list[Cell]:
    """Measurements paired by everything but execution, in order of block and context."""
    found: dict[tuple[Conditions, str, int], Cell] = {}
    for outcome in outcomes:
        if not isinstance(outcome, Measurement):
            continue
        conditions, point = conditions_of[outcome.point.key], outcome.point
        common = msgspec.structs.replace(conditions, execution="graph")
        cell = found.setdefault(
            (common, point.block, point.context), Cell(block=point.block, context=point.context)
        )
        if point.execution == "graph":
            cell.graph_conditions, cell.graph[outcome.round] = conditions, outcome
        else:
            cell.eager_conditions, cell.eager[outcome.round] = conditions, outcome
    return sorted(found.values(), key=lambda cell: (cell.block, cell.context))
