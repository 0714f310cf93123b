"""Seconds of one contender over batch and context, as rows of one batch each.

What lies between two lengths, and between two batches, follows what a call does there. A decode
step reads its weights once and its caches once per sequence and token, so its time is taken to be
linear in context and in batch; a chunk of a prompt looks at one key more for each token before it,
so it is linear, too. A prompt that is read whole grows by a power of its length, and is taken to be
linear on log axes. Leave-one-out on measured runs says the same (docs/how-it-works/surface.md).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ssmprof.scalars import Phase

Times = Mapping[int, Mapping[int, float]]  # batch -> context -> seconds


class Outside(NamedTuple):
    """That a place is beyond what was measured: on which axis, of which batch, and its ends."""

    axis: str
    batch: int
    measured: tuple[int, ...]


class Found(NamedTuple):
    """Seconds, and what had to be held at an end to find them."""

    time_s: float
    held: tuple[Outside, ...] = ()


@dataclass(frozen=True)
class Rows:
    """The points of one contender; at least one. `chunk` is that of its prompts."""

    phase: Phase
    times: Times
    chunk: int | None = None
    _contexts: dict[int, list[int]] = field(init=False)
    _batches: list[int] = field(init=False)

    def __post_init__(self) -> None:
        kept = {batch: sorted(row) for batch, row in sorted(self.times.items()) if row}
        object.__setattr__(self, "_contexts", kept)
        object.__setattr__(self, "_batches", list(kept))
        if not kept:
            raise ValueError("a surface needs a point")

    @property
    def batches(self) -> list[int]:
        """Batches that were measured, ascending."""
        return list(self._batches)

    def contexts(self, batch: int) -> list[int]:
        """Lengths that were measured at a batch, ascending."""
        return list(self._contexts[batch])

    def at(self, batch: float, context: float) -> Found:
        """Seconds at a place; beyond what was measured those of the nearest end."""
        batches, held = self._batches, list[Outside]()
        inside = min(max(batch, batches[0]), batches[-1])
        if inside != batch:
            held.append(Outside("batch", batches[0], (batches[0], batches[-1])))
        right = bisect.bisect_left(batches, inside)
        above = self._row(batches[right], context)
        if batches[right] == inside:
            return Found(above.time_s, (*held, *above.held))
        below = self._row(batches[right - 1], context)
        time_s = _between(
            (batches[right - 1], below.time_s), (batches[right], above.time_s), inside, log=False
        )
        return Found(time_s, (*held, *below.held, *above.held))

    def without(self, places: Sequence[tuple[int, int]]) -> Rows | None:
        """The same without some points; None where nothing is left."""
        gone = set(places)
        left = {
            batch: {at: t for at, t in row.items() if (batch, at) not in gone}
            for batch, row in self.times.items()
        }
        left = {batch: row for batch, row in left.items() if row}
        return Rows(self.phase, left, self.chunk) if left else None

    def _row(self, batch: int, context: float) -> Found:
        lengths, row = self._contexts[batch], self.times[batch]
        inside = min(max(context, lengths[0]), lengths[-1])
        held = () if inside == context else (
            Outside("context", batch, (lengths[0], lengths[-1])),
        )  # fmt: skip
        right = bisect.bisect_left(lengths, inside)
        if lengths[right] == inside:
            return Found(row[lengths[right]], held)
        low, high = lengths[right - 1], lengths[right]
        return Found(
            _between((low, row[low]), (high, row[high]), inside, log=self._is_log(high)), held
        )

    def _is_log(self, high: int) -> bool:
        """Whether prompts up to this length are read whole."""
        return self.phase == "prefill" and (self.chunk is None or high <= self.chunk)


def _between(low: tuple[int, float], high: tuple[int, float], at: float, *, log: bool) -> float:
    """The value at a place between two, linear in both or in the logs of both."""
    if log and min(low[1], high[1]) > 0:
        share = math.log(at / low[0]) / math.log(high[0] / low[0])
        return low[1] ** (1 - share) * high[1] ** share
    share = (at - low[0]) / (high[0] - low[0])
    return low[1] + share * (high[1] - low[1])
