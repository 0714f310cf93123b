"""What a run's question asks for: one comparison, what would change it, and what to do next.

The comparison is that of kinds: the best transformer against the best SSM, else against the best
hybrid, each best at the longest length that both kinds reach. Two of one kind are compared only
where there is but one kind.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from itertools import pairwise

from msgspec import Struct

from ssmprof.analysis.compare.answer import Answer, Crossing, Limit, LimitKind, Pair
from ssmprof.analysis.findings import Interval
from ssmprof.records import Conditions
from ssmprof.scalars import Architecture
from ssmprof.spec import Subject

# Kinds that are asked about, in the order in which the first pair with both is taken.
_ASKED: tuple[tuple[Architecture, Architecture], ...] = (
    ("transformer", "ssm"), ("transformer", "hybrid"), ("hybrid", "ssm"),
)  # fmt: skip
# Facts under which another measurement may name another winner; the others widen or cast doubt.
_MAY_TURN: tuple[LimitKind, ...] = (
    "depends-on-clocks", "unequal-slices", "two-modes", "providers-disagree", "clocks-unknown",
)  # fmt: skip


class Gain(Struct, frozen=True, kw_only=True):
    """How many times as fast as `base` the other one is at a length, with its interval."""

    context: int
    ratio: float
    interval: Interval


class Comparison(Struct, frozen=True, kw_only=True):
    """`block` against `base`, at the shortest and the longest common length, and their crossings.

    `gains` holds one length where there is but one.
    """

    base: str
    block: str
    gains: tuple[Gain, ...]
    crossings: tuple[Crossing, ...]


class Turn(Struct, frozen=True, kw_only=True):
    """Other conditions of the same phase, and the lengths at which they certainly name another."""

    conditions: Conditions
    contexts: tuple[int, ...]
    winner: str


def comparison(answer: Answer, subjects: Sequence[Subject]) -> Comparison | None:
    """The one comparison the question asks for; None where fewer than two were measured."""
    kinds: dict[str, Architecture] = {one.name: one.architecture for one in subjects}
    pair = next(iter(_pairs(answer, kinds)), None)
    if pair is None:
        return None
    base, block = pair.block, pair.other
    order: list[Architecture] = ["transformer", "hybrid", "ssm"]
    if order.index(kinds[block]) < order.index(kinds[base]):
        base, block = block, base
    ends = dict.fromkeys((pair.points[0], pair.points[-1]))
    return Comparison(
        base=base,
        block=block,
        gains=tuple(gain(pair, base, one.context) for one in ends),
        crossings=pair.crossings,
    )


def gain(pair: Pair, base: str, context: int) -> Gain:
    """How many times as fast as `base` the other one of a pair is at a measured length."""
    point = pair.at(context)
    assert point is not None, "the pair was measured there"
    low, high = point.interval
    if pair.block == base:
        return Gain(context=context, ratio=point.ratio, interval=(low, high))
    return Gain(context=context, ratio=1 / point.ratio, interval=(1 / high, 1 / low))


def _pairs(answer: Answer, kinds: dict[str, Architecture]) -> Iterable[Pair]:
    """Pairs that answer the question, the best first."""
    for wanted in _ASKED:
        known = [
            pair
            for pair in answer.pairs
            if pair.points and {kinds[pair.block], kinds[pair.other]} == set(wanted)
        ]
        if known:
            longest = max(pair.points[-1].context for pair in known)
            known = [pair for pair in known if pair.points[-1].context == longest]
            yield min(known, key=lambda pair: _both(answer, pair, longest))
    yield from (pair for pair in answer.pairs if pair.points)


def _both(answer: Answer, pair: Pair, context: int) -> float:
    """Product of both values: least for the best of either kind."""
    found = [answer.point(name, context) for name in (pair.block, pair.other)]
    values = [one.estimate.value for one in found if one is not None]
    return values[0] * values[1] if len(values) == 2 else float("inf")


def turns(answer: Answer, answers: Iterable[Answer]) -> tuple[Turn, ...]:
    """Conditions of the same device and phase under which another contender certainly wins."""
    found: list[Turn] = []
    for other in answers:
        here, there = answer.conditions, other.conditions
        if there == here or (there.device, there.phase) != (here.device, here.phase):
            continue
        changed: dict[str, list[int]] = {}
        for one in other.standings:
            mine = answer.standing(one.context)
            if mine and len(mine.winners) == len(one.winners) == 1 and mine.winners != one.winners:
                changed.setdefault(one.winners[0], []).append(one.context)
        if changed:
            winner = max(changed, key=lambda name: len(changed[name]))
            found.append(Turn(conditions=there, contexts=tuple(changed[winner]), winner=winner))
    return tuple(found)


def may_turn(answer: Answer) -> tuple[Limit, ...]:
    """Facts of an answer under which another measurement may name another winner."""
    return tuple(one for one in answer.limits if one.kind in _MAY_TURN)


def limiting(answer: Answer) -> tuple[Limit, ...]:
    """The other facts: they cast doubt or widen zones, and name nobody else."""
    return tuple(one for one in answer.limits if one.kind not in _MAY_TURN)


def next_command(answer: Answer) -> str:
    """The one command that helps most: examine, decide what is open, or use the answer."""
    kinds = {one.kind for one in answer.limits}
    if "never-examined" in kinds:
        return "ssmprof doctor"
    if any(one.kind == "unresolved" or one.cost_to_resolve_s for one in answer.crossings):
        return "ssmprof sweep --resume RUN --until-decided"
    if "noisy" in kinds:
        return "ssmprof sweep --resume RUN --rerun-noisy"
    if answer.conditions.chunk is not None:
        models = " ".join(f"--model {shlex.quote(name)}" for name in answer.contenders[:2])
        return f"ssmprof serving replay RUN --requests sessions=500,turns=1 {models}"
    lengths = answer.contexts
    steps = [high for _, high in pairwise(lengths)] or lengths or [4096]
    return f"ssmprof decide RUN --mix {steps[len(steps) // 2]}:100%"
