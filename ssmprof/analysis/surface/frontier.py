"""Two contenders over the plane of batch and context: who is faster where, and the line between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from ssmprof.analysis.surface.places import Place
from ssmprof.analysis.surface.rows import Rows


class Gap(NamedTuple):
    """Two measured lengths of a batch between which the faster one changes."""

    batch: int
    low_tokens: int
    high_tokens: int


class Edge(Struct, frozen=True, kw_only=True):
    """Where `before` stops to be faster at one batch.

    `low_tokens` and `high_tokens` are measured lengths with different winners, `at_tokens` is
    where the curves between them cut. Without a crossing all three are None, and `before` is
    faster at every length that was measured.
    """

    batch: int
    before: str
    after: str
    low_tokens: int | None = None
    high_tokens: int | None = None
    at_tokens: float | None = None


def gaps(one: Rows, other: Rows) -> list[Gap]:
    """Every pair of neighbouring lengths with different winners, of batches that both have."""
    found: list[Gap] = []
    for batch in sorted(set(one.batches) & set(other.batches)):
        lengths = sorted(set(one.contexts(batch)) & set(other.contexts(batch)))
        ahead = [one.times[batch][at] < other.times[batch][at] for at in lengths]
        found += [
            Gap(batch, low, high)
            for low, high, a, b in zip(lengths, lengths[1:], ahead, ahead[1:], strict=False)
            if a != b
        ]
    return found


def frontier(names: tuple[str, str], one: Rows, other: Rows) -> list[Edge]:
    """The line on which two contenders are equal, batch by batch: its first cut of each."""
    by_batch: dict[int, Gap] = {}
    for gap in gaps(one, other):
        by_batch.setdefault(gap.batch, gap)
    found: list[Edge] = []
    for batch in sorted(set(one.batches) & set(other.batches)):
        lengths = sorted(set(one.contexts(batch)) & set(other.contexts(batch)))
        if not lengths:
            continue
        first = one.times[batch][lengths[0]] < other.times[batch][lengths[0]]
        before, after = names if first else names[::-1]
        gap = by_batch.get(batch)
        if gap is None:
            found.append(Edge(batch=batch, before=before, after=after))
            continue
        low, high = gap.low_tokens, gap.high_tokens
        found.append(
            Edge(
                batch=batch, before=before, after=after, low_tokens=low, high_tokens=high,
                at_tokens=_cut(one, other, gap),
            )
        )  # fmt: skip
    return found


def _cut(one: Rows, other: Rows, gap: Gap) -> float:
    """Where the lines between the ends of a gap cut: of the ratio's difference from one."""
    differences = [
        one.times[gap.batch][at] / other.times[gap.batch][at] - 1
        for at in (gap.low_tokens, gap.high_tokens)
    ]
    share = differences[0] / (differences[0] - differences[1])
    return gap.low_tokens + share * (gap.high_tokens - gap.low_tokens)


class Missed(Struct, frozen=True, kw_only=True):
    """A held-out point: measured, and predicted from all others; None where it lies outside."""

    block: str
    batch: int
    context: int
    measured_s: float
    predicted_s: float | None

    @property
    def error(self) -> float | None:
        """Predicted over measured, less one."""
        return None if self.predicted_s is None else self.predicted_s / self.measured_s - 1


def missed(name: str, rows: Rows, held: Sequence[Place]) -> list[Missed]:
    """How far what lies between the other points misses those that were held out."""
    left = rows.without(held)
    found: list[Missed] = []
    for batch, context in held:
        measured = rows.times.get(batch, {}).get(context)
        if measured is None:
            continue
        told = None if left is None else left.at(batch, context)
        predicted = None if told is None or told.held else told.time_s
        found.append(
            Missed(
                block=name, batch=batch, context=context, measured_s=measured, predicted_s=predicted
            )
        )
    return found
