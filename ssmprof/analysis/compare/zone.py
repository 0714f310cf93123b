"""Standings along the context -> segments with one set of winners, and the zones between them.

A zone runs from the longest length that is certain for the one to the shortest that is certain for
the other. Where a certain length contradicts that order the crossing is jagged, and its zone holds
every contradiction. A length that is not certain may still point the other way: near a zone the
zone holds it, too, and far from one it makes its neighbours an open lobe. Nothing is interpolated
or smoothed away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

from ssmprof import limits

Names = frozenset[str]


@dataclass(frozen=True)
class Standing:
    """Who may be best at one length: everybody whom nobody certainly beats there.

    `equal` says that no two of them differ beyond the tie; `present` are those that fit. `leaning`
    are those of the winners to whom the means point; empty where that is not known.
    """

    context: int
    winners: Names
    equal: bool
    present: Names
    leaning: Names = frozenset()


@dataclass
class Stretch:
    """Neighbouring lengths that one set of contenders may win: `names` at every one of them."""

    names: Names
    lengths: list[Standing] = field(default_factory=list[Standing])

    def certain(self, lengths: Iterable[Standing]) -> list[int]:
        """Contexts at which nobody else may win."""
        return [one.context for one in lengths if one.winners <= self.names]

    @property
    def first(self) -> int:
        return self.lengths[0].context

    @property
    def last(self) -> int:
        return self.lengths[-1].context


@dataclass(frozen=True)
class Change:
    """Where `before` hands over to `after`: the zone, its ends None where one is not certain.

    `jags` are the certain lengths that contradict the order; `gone` says that `before` does not
    fit from `high` on.
    """

    before: Names
    after: Names
    low: int | None
    high: int
    jags: tuple[int, ...] = ()
    gone: bool = False


def stretches(standings: Iterable[Standing]) -> list[Stretch]:
    """The fewest stretches that explain all standings: a set is kept for as long as one may win."""
    found: list[Stretch] = []
    for one in standings:
        if found and found[-1].names & one.winners:
            found[-1].names &= one.winners
            found[-1].lengths.append(one)
        else:
            found.append(Stretch(one.winners, [one]))
    return found


def changes(standings: Sequence[Standing]) -> tuple[list[Stretch], list[Change]]:
    """Stretches and the zones between them, jags taken together."""
    found = stretches(standings)
    index = 0
    while index + 3 < len(found):
        if _is_jag(found[index : index + 4]):
            _take_together(found, index)
            index = max(index - 2, 0)
        else:
            index += 1
    zones = [_zone(left, right) for left, right in pairwise(found)]
    return found, zones


def _extent(stretch: Stretch) -> float:
    """Longest over shortest length that is certain for a stretch."""
    sure = stretch.certain(stretch.lengths)
    return sure[-1] / sure[0] if sure else 1.0


def _is_jag(four: Sequence[Stretch]) -> bool:
    """A, B, A, B with both inner stretches shorter than a jag may be."""
    one, other, back, after = four
    return (
        bool(one.names & back.names)
        and bool(other.names & after.names)
        and _extent(other) < limits.JAG
        and _extent(back) < limits.JAG
    )


def _take_together(found: list[Stretch], index: int) -> None:
    """Replace A, B, A, B by one A and one B; the zone between them is found by `_zone`."""
    one, other, back, after = found[index : index + 4]
    left = Stretch(one.names & back.names, [*one.lengths, *other.lengths])
    right = Stretch(other.names & after.names, [*back.lengths, *after.lengths])
    found[index : index + 4] = [left, right]


def _against(one: Standing, mine: Names) -> bool:
    """Whether a length that is not certain points away from `mine`."""
    return bool(one.leaning) and len(one.winners) > 1 and not one.leaning & mine


def open_lobes(stretch: Stretch, lengths: Sequence[Standing]) -> list[list[Standing]]:
    """Runs of lengths at which the stretch's winner is not certain and somewhere points elsewhere.

    They are those of `lengths`, in order; a run of equal contenders is none.
    """
    found: list[list[Standing]] = []
    for sure, run in groupby(lengths, key=lambda one: one.winners <= stretch.names):
        lobe = list(run)
        differs = not all(one.equal for one in lobe)
        if not sure and differs and any(_against(one, stretch.names) for one in lobe):
            found.append(lobe)
    return found


def _zone(left: Stretch, right: Stretch) -> Change:
    every = [*left.lengths, *right.lengths]
    ours, theirs = left.certain(every), right.certain(every)
    high_standing = right.lengths[0]
    gone = not left.names & high_standing.present and not any(
        one.context < high_standing.context for one in every if one.context in theirs
    )
    if gone:
        last = max(one.context for one in left.lengths if one.present & left.names)
        return Change(left.names, right.names, last, high_standing.context, gone=True)
    if not theirs:
        return Change(left.names, right.names, None, high_standing.context)
    # Ends that nothing contradicts; in order where the crossing is clean.
    low = max((at for at in ours if at < theirs[0]), default=None)
    above = [at for at in theirs if not ours or at > ours[-1]]
    high = above[0] if above else theirs[-1]
    for one in reversed(every):
        if low and low / limits.JAG < one.context < low and _against(one, left.names):
            low = max((at for at in ours if at < one.context), default=None)
    for one in every:
        if high < one.context < high * limits.JAG and _against(one, right.names):
            high = min((at for at in theirs if at > one.context), default=high)
    jags = tuple(at for at in (*ours, *theirs) if (low or 0) < at < high)
    return Change(left.names, right.names, low, high, jags=tuple(sorted(jags)))
