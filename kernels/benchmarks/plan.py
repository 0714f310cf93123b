"""Which cells a run measures, and in which order.

Promises: pure, no torch. A cell is one operation on one shape; `spread` orders cells so that a run
that is stopped early has measured every operation, and of each one shapes from its whole grid.
"""

from __future__ import annotations

import collections
import fnmatch
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

#: Operation, shape, length, batch: what tells the cells of a table apart.
Key = tuple[str, str, int, int]

_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Cell:
    """One operation on one shape; `model` is the entry of shapes.toml."""

    op: str
    model: dict[str, Any]
    batch: int
    length: int

    @property
    def key(self) -> Key:
        return self.op, self.model["name"], self.length, self.batch

    @property
    def name(self) -> str:
        """For example "ssd_scan/2.7b/8192/1": operation, shape, length, batch."""
        return "/".join(map(str, self.key))


def cells(table: dict[str, Any], ops: Iterable[str], only: Collection[str] = ()) -> list[Cell]:
    """Every cell of `ops`, in the order of the table.

    Args:
        table: shapes.toml.
        ops: names of operations.
        only: patterns with * and ? on the names of cells; none lets everything through.
    """
    found = [
        Cell(op, model, batch, length)
        for op in ops
        for grid in table[op]
        for model in grid["models"]
        for batch in grid["batches"]
        for length in grid["lengths"]
        if batch * length <= grid.get("limit_tokens", 1 << 62)
    ]
    return [c for c in found if not only or any(fnmatch.fnmatchcase(c.name, p) for p in only)]


def spread(found: Iterable[Cell]) -> list[Cell]:
    """The same cells; any beginning of them holds about the same part of every operation."""
    by_op: dict[str, list[Cell]] = collections.defaultdict(list)
    for cell in found:
        by_op[cell.op].append(cell)
    placed = []
    for group in by_op.values():
        # Multiples of the golden ratio leave gaps of nearly one size, wherever one stops.
        order = sorted(range(len(group)), key=lambda i: i * _GOLDEN % 1)
        # Of many operations: the middle of each cell's share, or small ones would come too early.
        placed += [((rank + 0.5) / len(group), group[i]) for rank, i in enumerate(order)]
    return [cell for _, cell in sorted(placed, key=lambda entry: entry[0])]
