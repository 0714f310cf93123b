"""Answers held against the curves that were planted: what a zone holds, misses and invents.

A change of the winner counts where its lobes on both sides exceed `LOBE` and one step of the
lengths measured. It is held by a zone around it, or left open by an answer that says "not resolved"
there; else it is missed. A zone that holds no change, however small, is a false crossing. A claim
is a length at which the answer names a single winner, or equal ones, and the truth is another.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from planted import Truth

from ssmprof import limits
from ssmprof.analysis.compare.answer import Answer, Crossing
from ssmprof.records import Measurement

TIE = 0.02
LOBE = 0.005
_FINE = 4000  # lengths at which a truth is looked at
Mode = Mapping[str, bool]


class Shot(NamedTuple):
    """One simulated sweep: what was planted, the modes that ran, what was measured."""

    truth: Truth
    modes: Sequence[Mode]
    outcomes: list[Measurement]


class Change(NamedTuple):
    """Somewhere between `low` and `high` tokens the winner changes."""

    low: float
    high: float


@dataclass
class Score:
    """What came of many sweeps; `wrong` are the numbers of those with any error."""

    sweeps: int = 0
    held: int = 0
    open: int = 0
    missed: int = 0
    false: int = 0
    claims: int = 0
    equal: int = 0
    unresolved: int = 0
    widths: list[float] = field(default_factory=list[float])
    wrong: list[int] = field(default_factory=list[int])

    @property
    def changes(self) -> int:
        """Planted changes, and zones without one."""
        return self.held + self.open + self.missed + self.false

    @property
    def errors(self) -> int:
        """Changes that were missed and zones that hold none."""
        return self.missed + self.false

    @property
    def coverage(self) -> float:
        """Share of planted changes, and of zones told, that are right."""
        return 1 - self.errors / self.changes if self.changes else 1.0

    @property
    def width(self) -> float:
        """Median of the longer over the shorter end of a zone."""
        return statistics.median(self.widths) if self.widths else math.nan

    @property
    def narrow(self) -> float:
        """Share of the zones that are told as one number."""
        few = sum(one <= limits.ONE_NUMBER for one in self.widths)
        return few / len(self.widths) if self.widths else math.nan

    def add(self, shot: Shot, answer: Answer, number: int = 0) -> None:
        """Hold one more answer against its truth."""
        contexts = [one.context for one in answer.standings if one.winners]
        modes = [dict(one) for one in {tuple(sorted(one.items())) for one in shot.modes}] or [{}]
        errors = self.errors + self.claims
        for mode in modes:
            for change in changes(shot.truth, mode, contexts):
                self._count(answer, change, contexts)
        every = [at for mode in modes for at in _switches(shot.truth, mode, contexts)]
        for zone in answer.crossings:
            if zone.kind == "zone":
                low, high = _span(zone, contexts)
                self.widths.append(high / low)
                self.false += not any(low <= one.high and high >= one.low for one in every)
        self.claims += any(_claims_wrongly(shot.truth, mode, answer, contexts) for mode in modes)
        self.sweeps += 1
        self.unresolved += not _is_resolved(answer)
        self.equal += all(one.equal for one in answer.segments)
        if self.errors + self.claims > errors:
            self.wrong.append(number)

    def _count(self, answer: Answer, change: Change, contexts: Sequence[int]) -> None:
        kinds = {
            one.kind
            for one, (low, high) in ((one, _span(one, contexts)) for one in answer.crossings)
            if low <= change.high and high >= change.low
        }
        if "zone" in kinds:
            self.held += 1
        elif kinds or _is_open(answer, change):
            self.open += 1
        else:
            self.missed += 1


def changes(truth: Truth, mode: Mode, contexts: Sequence[int]) -> list[Change]:
    """Changes between lobes that exceed `LOBE` and one step of the lengths measured."""
    fine, best, lead = _winners(truth, mode, contexts)
    steps = list(pairwise(contexts))
    found: list[tuple[int, float, float]] = []
    edges = [0, *(np.flatnonzero(np.diff(best)) + 1).tolist(), len(fine)]
    for start, end in pairwise(edges):
        low, high = float(fine[start]), float(fine[end - 1])
        step = max((b / a for a, b in steps if a < high and b > low), default=math.inf)
        if high / low <= step or lead[start:end].max() <= LOBE:
            continue
        if found and found[-1][0] == best[start]:
            low = found.pop()[1]
        found.append((int(best[start]), low, high))
    return [Change(one[2], other[1]) for one, other in pairwise(found)]


def _winners(truth: Truth, mode: Mode, contexts: Sequence[int]) -> tuple[Any, Any, Any]:
    """Lengths, who is best there (by number), and by how much."""
    between = np.geomspace(contexts[0], contexts[-1], _FINE)
    fine = np.unique(np.concatenate((between, np.array(contexts, float))))
    table = np.array(list(truth.logs(fine, mode).values()))
    ordered = np.sort(table, axis=0)
    return fine, table.argmin(axis=0), ordered[1] - ordered[0]


def _switches(truth: Truth, mode: Mode, contexts: Sequence[int]) -> list[Change]:
    """Where the winner changes at all, however small the lobes."""
    fine, best, _ = _winners(truth, mode, contexts)
    return [Change(fine[at], fine[at + 1]) for at in np.flatnonzero(np.diff(best))]


def _span(one: Crossing, contexts: Sequence[int]) -> tuple[int, int]:
    """The lengths between which a crossing is said to lie."""
    low = contexts[0] if one.low_tokens is None else one.low_tokens
    return low, contexts[-1] if one.high_tokens is None else one.high_tokens


def _is_open(answer: Answer, change: Change) -> bool:
    """Whether the answer leaves the winner open there."""
    return any(
        len(one.winners) > 1 and one.low_tokens <= change.high and one.high_tokens >= change.low
        for one in answer.segments
    )


def _is_resolved(answer: Answer) -> bool:
    """Whether the answer holds zones, single winners and equal ones only."""
    return all(one.kind != "unresolved" for one in answer.crossings) and all(
        len(one.winners) == 1 or one.equal for one in answer.segments
    )


def _claims_wrongly(truth: Truth, mode: Mode, answer: Answer, contexts: Sequence[int]) -> bool:
    """Whether a single winner is nowhere ahead of all others, or equal ones differ."""
    for one in answer.segments:
        mine = [
            at
            for at in contexts
            if one.low_tokens <= at <= one.high_tokens and at not in one.unsure
        ]
        if not mine:
            continue
        logs = truth.logs(np.array(mine, float), mode)
        winners = np.array([logs.pop(name) for name in one.winners])
        if len(winners) == 1 and any((winners[0] >= other).any() for other in logs.values()):
            return True
        if one.equal and (winners.max(axis=0) - winners.min(axis=0) > math.log1p(TIE)).any():
            return True
    return False
