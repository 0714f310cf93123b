"""The same question on several devices: which answers belong together, and what changes for sure.

Each device's answer stands by itself; nothing is pooled over them. Two answers differ where both
are certain and say opposite things, or where their zones of one crossing have no length in common.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from ssmprof.analysis.compare.answer import Answer, Crossing, Pair
from ssmprof.analysis.findings import Finding, Metric
from ssmprof.records import Conditions


class Opposite(Finding, frozen=True, kw_only=True):
    """`block` certainly beats `other` on one device at this length, and loses on the other one."""

    block: str
    other: str
    context: int
    ratio: float
    ratio_there: float


class Moved(Finding, frozen=True, kw_only=True):
    """A crossing of two contenders whose zones on two devices have no length in common."""

    here: Crossing
    there: Crossing


class Difference(Finding, frozen=True, kw_only=True):
    """What is certainly not the same on two devices, under one set of conditions.

    `compared` counts pairs of contenders at lengths that both measured.
    """

    device: str
    device_there: str
    conditions: Conditions
    metric: Metric
    opposite: tuple[Opposite, ...]
    moved: tuple[Moved, ...]
    compared: int

    @property
    def is_certain(self) -> bool:
        """Whether anything certainly changes."""
        return bool(self.opposite or self.moved)


def beside(answers: Iterable[Answer]) -> list[list[Answer]]:
    """Answers that differ in nothing but their device, together; in the order of the first."""
    found: dict[object, list[Answer]] = {}
    for one in answers:
        found.setdefault((replace(one.conditions, device=""), one.metric), []).append(one)
    return list(found.values())


def differences(answers: Sequence[Answer]) -> list[Difference]:
    """Of answers to one question, what each says otherwise than the first one."""
    return [difference(answers[0], other) for other in answers[1:]]


def difference(here: Answer, there: Answer) -> Difference:
    """What is certainly not the same in two answers to one question."""
    opposite: list[Opposite] = []
    moved: list[Moved] = []
    compared = 0
    for pair in here.pairs:
        same = there.pair(pair.block, pair.other)
        if same is None:
            continue
        turned = same.block != pair.block
        for point in pair.points:
            beside_it = same.at(point.context)
            if beside_it is None:
                continue
            compared += 1
            sign = -beside_it.sign if turned else beside_it.sign
            if point.sign * sign == -1:
                opposite.append(
                    Opposite(
                        block=pair.block,
                        other=pair.other,
                        context=point.context,
                        ratio=point.ratio,
                        ratio_there=1 / beside_it.ratio if turned else beside_it.ratio,
                    )
                )
        moved += _moved(pair, same)
    return Difference(
        device=here.conditions.device,
        device_there=there.conditions.device,
        conditions=here.conditions,
        metric=here.metric,
        opposite=tuple(opposite),
        moved=tuple(moved),
        compared=compared,
    )


def _moved(pair: Pair, same: Pair) -> list[Moved]:
    """Crossings in one direction that each device has once, at lengths that exclude each other."""
    found: list[Moved] = []
    for mine in pair.crossings:
        way = (mine.before, mine.after)
        ours = [one for one in pair.crossings if (one.before, one.after) == way]
        theirs = [one for one in same.crossings if (one.before, one.after) == way]
        if len(ours) == len(theirs) == 1 and _apart(mine, theirs[0]):
            found.append(Moved(here=mine, there=theirs[0]))
    return found


def _apart(one: Crossing, other: Crossing) -> bool:
    ends = (one.low_tokens, one.high_tokens, other.low_tokens, other.high_tokens)
    if None in ends or {one.kind, other.kind} - {"zone", "capacity"}:
        return False
    low, high, other_low, other_high = (end for end in ends if end is not None)
    return high < other_low or other_high < low
