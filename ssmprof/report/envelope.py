"""The lower envelope over all contenders: who is best at each context, and where that changes.

Never decides from one pair: if Mamba-2 passes the transformer at 15K but a hybrid beats both from
9K to 60K, "Mamba-2 above 15K" is true of the pair and wrong advice. Arithmetic on a Comparison;
`report.verdict` words what is found here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from ssmprof.analysis.stats import TIE
from ssmprof.report.facets import Comparison, Curve
from ssmprof.report.intervals import Interval, ratio


@dataclass(frozen=True)
class Segment:
    """Neighbouring contexts with the same best contender (or tied contenders, best first)."""

    blocks: tuple[str, ...]
    first: int
    last: int

    @property
    def tied(self) -> bool:
        """Whether no single winner can be named."""
        return len(self.blocks) > 1


@dataclass(frozen=True)
class Boundary:
    """Where `before` hands over to `after`.

    `bracket` holds the nearest measured contexts at which the winner is certain; `context` is the
    root of the log ratio over log context, None where the curves do not cross between them, which
    is so where `before` stops fitting (`capacity`).
    """

    before: str
    after: str
    bracket: tuple[int, int]
    context: float | None
    capacity: bool = False

    @property
    def wide(self) -> bool:
        """Whether the bracket exceeds 2x, so that one number would promise too much."""
        return self.bracket[1] > 2 * self.bracket[0]


@dataclass(frozen=True)
class Envelope:
    """Tie sets per context (best first), segments, their boundaries, and who alone fits where."""

    ties: dict[int, tuple[str, ...]]
    segments: tuple[Segment, ...]
    boundaries: tuple[Boundary, ...]
    zones: tuple[Segment, ...]
    only: tuple[str, int] | None

    @property
    def changes(self) -> int:
        """How often the winner must change over the measured range, ties taken as no change.

        A contender is kept for as long as it is among the best, which needs the fewest changes.
        """
        changes, kept = 0, set[str]()
        for context in sorted(self.ties):
            best = set(self.ties[context])
            changes += bool(kept) and not kept & best
            kept = kept & best or best
        return changes


def compared(facet: Comparison, context: int) -> Interval | None:
    """How many times slower the runner-up is than the best; None with fewer than two contenders."""
    ranked = sorted((c for c in facet.curves if context in c.values), key=lambda c: c.at(context))
    return ratio(ranked[1].values[context], ranked[0].values[context]) if len(ranked) > 1 else None


def _at_or_between(curve: Curve, context: int) -> float | None:
    """The curve's value, interpolated in log-log where only its neighbours were measured."""
    if context in curve.values:
        return curve.at(context)
    below = [at for at in curve.contexts if at < context]
    above = [at for at in curve.contexts if at > context]
    if not below or not above:
        return None
    low, high = below[-1], above[0]
    weight = math.log(context / low) / math.log(high / low)
    return math.exp((1 - weight) * math.log(curve.at(low)) + weight * math.log(curve.at(high)))


def tie_set(facet: Comparison, context: int, tie: float = TIE) -> tuple[str, ...]:
    """Best first: the lowest median and all whose ratio to it includes 1 or is within `tie` of 1.

    Empty where nothing was measured, and where a contender that might be among the best was left
    out of this context (a refinement measures pairs): then the context decides nothing.
    """
    here = [curve for curve in facet.curves if context in curve.values]
    if not here:
        return ()
    best = min(here, key=lambda curve: curve.at(context))
    for curve in facet.curves:
        if context not in curve.values and context not in curve.failures:
            guess = _at_or_between(curve, context)
            if guess is not None and guess <= best.at(context) * (1 + tie):
                return ()
    tied = [curve for curve in here if curve is best or _ties(curve, best, context, tie)]
    return tuple(c.name.block for c in sorted(tied, key=lambda curve: curve.at(context)))


def _ties(curve: Curve, best: Curve, context: int, tie: float) -> bool:
    found = ratio(curve.values[context], best.values[context])
    return found.value <= 1 + tie or found.low <= 1.0


def envelope(facet: Comparison, tie: float = TIE) -> Envelope:
    """The winners of a facet, its segments and the boundaries between them."""
    comparable = [
        context
        for context in facet.contexts
        if sum(context in curve.values for curve in facet.curves) > 1
        or all(
            context in curve.values or facet.absent(curve.name.block, context)
            for curve in facet.curves
        )
    ]
    ties = {context: found for context in comparable if (found := tie_set(facet, context, tie))}
    whole = _merge([Segment(blocks, context, context) for context, blocks in ties.items()])
    segments, zones = _absorb(whole)
    boundaries = tuple(_boundary(facet, left, right) for left, right in pairwise(segments))
    return Envelope(ties, tuple(segments), boundaries, tuple(zones), _only(facet))


def _merge(segments: list[Segment]) -> list[Segment]:
    merged: list[Segment] = []
    for segment in segments:
        if merged and set(merged[-1].blocks) == set(segment.blocks):
            merged[-1] = Segment(merged[-1].blocks, merged[-1].first, segment.last)
        else:
            merged.append(segment)
    return merged


def _absorb(segments: list[Segment]) -> tuple[list[Segment], list[Segment]]:
    """A tie between two winners that includes both is the zone of their boundary, not a segment."""
    zones = [
        middle
        for left, middle, right in zip(segments, segments[1:], segments[2:], strict=False)
        if middle.tied and {*left.blocks, *right.blocks} <= set(middle.blocks)
    ]
    return _merge([segment for segment in segments if segment not in zones]), zones


def _boundary(facet: Comparison, left: Segment, right: Segment) -> Boundary:
    before = next((name for name in left.blocks if name not in right.blocks), left.blocks[0])
    after = next((name for name in right.blocks if name != before), right.blocks[0])
    bracket = (left.last, right.first)
    gone = facet.absent(before, right.first)
    return Boundary(
        before, after, bracket, None if gone else _root(facet, before, after, bracket), gone
    )


def _root(facet: Comparison, before: str, after: str, bracket: tuple[int, int]) -> float | None:
    """Geometric mean of the roots of log(before / after) over log context within the bracket."""
    one, other = facet.curve(before), facet.curve(after)
    shared = [
        at for at in one.contexts if at in other.values and bracket[0] <= at <= bracket[1]
    ]  # fmt: skip
    heights = [(math.log(at), math.log(one.at(at) / other.at(at))) for at in shared]
    roots = [
        x0 - y0 * (x1 - x0) / (y1 - y0)
        for (x0, y0), (x1, y1) in pairwise(heights)
        if (y0 < 0 <= y1) or (y1 < 0 <= y0)
    ]
    return math.exp(sum(roots) / len(roots)) if roots else None


def _only(facet: Comparison) -> tuple[str, int] | None:
    """Who alone fits at the longest lengths, and the last length at which another one does."""
    if len(facet.curves) < 2:
        return None
    alone: tuple[str, int] | None = None
    for context in reversed(facet.contexts):
        here = [curve.name.block for curve in facet.curves if context in curve.values]
        others = [curve.name.block for curve in facet.curves if context not in curve.values]
        if len(here) != 1 or not all(facet.absent(block, context) for block in others):
            break
        if alone and alone[0] != here[0]:
            break
        shorter = [at for at in facet.contexts if at < context]
        if not shorter:
            break
        alone = (here[0], shorter[-1])
    return alone
