"""Which of thousands of lengths a figure draws: what pixels can show, and no extreme less.

Tables and data keep all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_COLUMNS = 240  # a figure is some 700 pixels wide, a mark seven


def drawn(contexts: Sequence[int], *curves: Sequence[float]) -> list[int]:
    """Places of the lengths to draw, which ascend: per column the ends of every curve's range.

    All of them where they are no more than the columns.
    """
    if len(contexts) <= _COLUMNS:
        return list(range(len(contexts)))
    kept: set[int] = {0, len(contexts) - 1}
    for column in _columns(contexts):
        for curve in curves or (contexts,):
            kept.add(min(column, key=lambda place: curve[place]))
            kept.add(max(column, key=lambda place: curve[place]))
    return sorted(kept)


def spaced(contexts: Sequence[int], most: int = _COLUMNS) -> list[int]:
    """The lengths themselves, which ascend, one per column and the last; all where they are few."""
    if len(contexts) <= most:
        return list(contexts)
    kept = [contexts[column[0]] for column in _columns(contexts, most - 1)]
    return [*kept, contexts[-1]] if kept[-1] != contexts[-1] else kept


def _columns(contexts: Sequence[int], count: int = _COLUMNS) -> list[list[int]]:
    """Places by column of a logarithmic axis; columns without any are left out."""
    low = math.log2(contexts[0])
    wide = max(math.log2(contexts[-1]) - low, 1e-9) / count
    found: dict[int, list[int]] = {}
    for place, context in enumerate(contexts):
        column = min(int((math.log2(context) - low) / wide), count - 1)
        found.setdefault(column, []).append(place)
    return list(found.values())
