"""Where to look next: smooth curves through what was measured, to plan with and never to answer.

A call takes a + b L + c L^2 seconds at L tokens, none of the three below zero: a fixed part, what
every token costs and what every pair of tokens costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from itertools import combinations, pairwise
from statistics import stdev
from typing import Any

from ssmprof.analysis.compare.answer import Answer, Crossing
from ssmprof.analysis.compare.curve import between, contenders, log_ratios
from ssmprof.records import Outcome, median

_HALVINGS = 60


class Forecast:
    """Times of every contender under one set of conditions, measured or not.

    Args:
        outcomes: of these conditions.
    """

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        found = contenders(outcomes)
        self._medians = {name: one.medians for name, one in found.items()}
        self._known = found

    def time_s(self, name: str, context: int) -> float | None:
        """Between measured lengths by interpolation, beyond them by the law; None without any."""
        measured = self._medians.get(name)
        if not measured or self._known[name].absent(context):
            return None
        found = between(measured, context)
        return self._laws[name](context) if found is None else found

    def near(self, context: int, ratio: float) -> set[str]:
        """The two fastest at a length, and who is at most so many times as slow as the first."""
        times = self._times(context)
        best = min(times.values(), default=0.0)
        fastest = sorted(times, key=lambda name: times[name])[:2]
        return {*fastest, *(name for name, found in times.items() if found <= best * ratio)}

    def lead(self, context: int) -> float:
        """The second fastest over the fastest at a length; infinite where there is none."""
        known = sorted(self._times(context).values())
        return known[1] / known[0] if len(known) > 1 else math.inf

    def scatter(self) -> float:
        """How far log ratios of one visit usually lie from the truth; 0 without visits.

        By the samples of a visit, or by visits to the same lengths where those differ more.
        """
        inside: list[float] = []
        between_visits: list[float] = []
        for a, b in combinations(self._known.values(), 2):
            for rounds in log_ratios(a, b).values():
                mine = [one for one in rounds.values() if one.turns]
                inside += [one.error for one in mine]
                if len(mine) > 1:
                    between_visits.append(stdev(one.log for one in mine))
        return max(median(found) if found else 0.0 for found in (inside, between_visits))

    def _times(self, context: int) -> dict[str, float]:
        found = {name: self.time_s(name, context) for name in self._medians}
        return {name: time_s for name, time_s in found.items() if time_s is not None}

    def crossing(self, before: str, after: str, low: int, high: int) -> float:
        """Where two contenders should cross between two lengths; their middle if nowhere."""
        first, second = self._laws.get(before), self._laws.get(after)
        middle = math.sqrt(low * high)
        if first is None or second is None:
            return middle

        def lead(context: float) -> float:
            return math.log(first(context) / second(context))

        return _root(lead, low, high) or middle

    @cached_property
    def _laws(self) -> dict[str, Callable[[float], float]]:
        return {name: law(measured) for name, measured in self._medians.items() if measured}


def law(measured: Mapping[int, float]) -> Callable[[float], float]:
    """a + b L + c L^2 through (tokens, seconds), relative errors least, no term below zero."""
    import numpy as np
    from scipy import optimize  # pyright: ignore[reportMissingTypeStubs]

    solver: Any = optimize
    lengths: Any = np.array(list(measured), dtype=float)
    seconds: Any = np.array(list(measured.values()), dtype=float)
    scale = float(lengths.max())
    terms = np.stack([np.ones_like(lengths), lengths / scale, (lengths / scale) ** 2], axis=1)
    found: Any = solver.nnls(terms / seconds[:, None], np.ones_like(seconds))[0]
    fixed, token, square = (float(value) for value in found)
    return lambda at: fixed + token * (at / scale) + square * (at / scale) ** 2


def switch(answer: Answer, before: str, after: str, low: int, high: int) -> float | None:
    """Where the ratio measured of two contenders passes 1 strictly inside a zone, the middle one.

    None where nothing was measured there.
    """
    pair = answer.pair(before, after)
    points = [one for one in pair.points if low <= one.context <= high] if pair else []
    if len(points) < 3:
        return None
    found: list[float] = []
    for left, right in pairwise(points):
        here, there = math.log(left.ratio), math.log(right.ratio)
        if (here > 0) != (there > 0):
            share = here / (here - there)
            found.append(left.context * (right.context / left.context) ** share)
    return found[len(found) // 2] if found else None


def _root(rising: Callable[[float], float], low: float, high: float) -> float | None:
    """Where a function changes its sign, by bisection on a log scale."""
    positive = rising(low) > 0
    if positive == (rising(high) > 0):
        return None
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if (rising(middle) > 0) == positive else (low, middle)
    return math.sqrt(low * high)


def unsure(answer: Answer, near: float) -> tuple[list[int], list[int]]:
    """Lengths at which neither one winner nor equality is certain: those nearly equal, and others.

    `near` is a log ratio; the others are ordered by their lead, the smallest first.
    """
    close: list[int] = []
    apart: list[tuple[float, int]] = []
    for one in answer.standings:
        if len(one.winners) < 2 or one.equal or one.lead is None:
            continue
        lead = abs(math.log(one.lead.ratio))
        if lead <= near:
            close.append(one.context)
        else:
            apart.append((lead, one.context))
    return close, [context for _, context in sorted(apart)]


def closest(answer: Answer, most: float) -> list[int]:
    """Lengths at which the lead is at most `most` (ratio), the smallest lead first."""
    leads = [
        (abs(math.log(one.lead.ratio)), one.context)
        for one in answer.standings
        if one.lead is not None
    ]
    return [context for lead, context in sorted(leads) if lead <= math.log(most)]


def is_settled(answer: Answer, wide: float) -> bool:
    """Whether every zone is as narrow as it can be, and one wins, or all are equal, elsewhere.

    More visits do not tell apart who runs side by side over more than `wide` (ratio).
    """
    return (
        all(_is_narrow(one, wide) for one in answer.crossings)
        and all(len(one.winners) == 1 or one.equal for one in answer.segments)
        and bool(answer.segments)
    )


def _is_narrow(crossing: Crossing, wide: float) -> bool:
    if crossing.kind == "capacity":
        return True
    low, high = crossing.low_tokens, crossing.high_tokens
    if crossing.kind == "unresolved" or low is None or high is None:
        return False
    return crossing.why not in ("noisy", "budget", "slow") or (
        crossing.why == "slow" and high > low * wide
    )
