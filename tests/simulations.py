"""How often an answer is right: planted curves, measured with noise, through the whole analysis.

Promises: every kind of curve is measured in rounds and in visits, and each answer is held against
the curves that made it. A table says per kind how many planted changes of the winner a zone holds.

A change counts where the winner's lobes on both sides exceed 0.5 % and one step of the lengths
measured. It is held by a zone around it, or by an answer that says "not resolved" or "equal" where
that is true; else it is missed. A zone that holds no change is a false crossing.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import make
import numpy as np
import planted
from planted import A, B, Curve, Device, Scatter, Truth

from ssmprof import limits
from ssmprof.analysis.compare.answer import Answer, Crossing
from ssmprof.analysis.compare.build import answers
from ssmprof.analysis.compare.conditions import by_conditions
from ssmprof.records import Measurement

TIE = 0.02
LOBE = 0.005
Random = np.random.Generator


class Shot(NamedTuple):
    """One simulated measurement: what was planted, what was seen, what came out of it."""

    truth: Truth
    modes: tuple[dict[str, bool], ...]
    outcomes: list[Measurement]
    noise: float = 0.0


# Truths. Each kind draws one; `at` is where the crossing lies, roughly.
def _at(rng: Random) -> float:
    return float(np.exp(rng.uniform(np.log(2500), np.log(9000))))


def _smooth(rng: Random) -> tuple[Truth, float]:
    at, steep = _at(rng), float(np.exp(rng.uniform(np.log(0.08), np.log(0.5))))
    return planted.pair(planted.smooth(at, steep, rng.uniform(-0.03, 0.1))), at


def _jagged(rng: Random) -> tuple[Truth, float]:
    truth, at = _smooth(rng)
    teeth = planted.sawtooth(rng.uniform(0.01, 0.06), rng.uniform(400, 625), rng.random())
    line = planted.smooth(at, float(np.exp(rng.uniform(np.log(0.1), np.log(0.5)))))
    return planted.pair(planted.both(line, teeth)), at


def _measured(rng: Random) -> tuple[Truth, float]:
    return planted.pair(planted.h200), 4416.0


def _stepped(rng: Random) -> tuple[Truth, float]:
    at, steep = _at(rng), rng.uniform(0.05, 0.3)
    edge = at * float(np.exp(rng.uniform(-0.2, 0.2)))
    jump = rng.choice((-1, 1)) * rng.uniform(0.01, 0.04)
    line = planted.both(planted.smooth(at, steep), planted.step(edge, jump))
    return planted.pair(line, providers={A: ("rms_norm", edge)}), at


def _bistable(rng: Random) -> tuple[Truth, float]:
    truth, at = _smooth(rng)
    return Truth(truth.curves, jumps={A: float(rng.uniform(0.01, 0.12))}), at


def _wave(rng: Random) -> tuple[Truth, float]:
    at, ratio = _at(rng), float(np.exp(rng.uniform(np.log(1.5), np.log(2.5))))
    return planted.pair(planted.wave(at, ratio, rng.uniform(0.02, 0.06))), at


def _ripple(rng: Random) -> tuple[Truth, float]:
    at, ratio = _at(rng), float(np.exp(rng.uniform(np.log(1.05), np.log(1.35))))
    return planted.pair(planted.wave(at, ratio, rng.uniform(0.01, 0.05))), at


def _none(rng: Random) -> tuple[Truth, float]:
    least, at = float(np.exp(rng.uniform(np.log(0.01), np.log(0.2)))), _at(rng)
    sign, steep = rng.choice((-1, 1)), rng.uniform(0, 0.2)
    line: Curve = lambda contexts: sign * (least + steep * np.abs(np.log(contexts / at)))
    return planted.pair(line), at


def _same(rng: Random) -> tuple[Truth, float]:
    return planted.pair(lambda contexts: 0.0 * contexts), _at(rng)


def _close(rng: Random) -> tuple[Truth, float]:
    away = rng.uniform(-0.01, 0.01)
    return planted.pair(lambda contexts: away + 0.0 * contexts), _at(rng)


def _many(rng: Random) -> tuple[Truth, float]:
    """Five contenders; the envelope changes between two or three of them."""
    at = _at(rng)
    curves: dict[str, Curve] = {B: planted.base}
    for name in (A, *planted.NAMES[2:]):
        where, steep = at * np.exp(rng.uniform(-0.7, 0.7)), rng.uniform(0.05, 0.4)
        away = rng.uniform(0.0, 0.05) if name != A else 0.0
        line = planted.smooth(float(where), float(steep))
        curves[name] = lambda contexts, line=line, away=away: (
            planted.base(contexts) + line(contexts) + away
        )
    return Truth(curves), at


TRUTHS: dict[str, Callable[[Random], tuple[Truth, float]]] = {
    "smooth": _smooth,
    "jagged": _jagged,
    "h200": _measured,
    "stepped": _stepped,
    "drift": _smooth,
    "drift of one": _smooth,
    "short noisy": _smooth,
    "bistable": _bistable,
    "three crossings": _wave,
    "ripple": _ripple,
    "none": _none,
    "five contenders": _many,
    "within the tie": _close,
    "A/A": _same,
    "A/A short noisy": _same,
    "A/A bistable": lambda rng: (Truth(_same(rng)[0].curves, jumps={A: 0.03}), _at(rng)),
}


def scatter_of(kind: str, rng: Random) -> Scatter:
    """Noise of one sweep: visit effects and residuals of 0.1 to 1 %."""
    level, residual = np.exp(rng.uniform(np.log(0.001), np.log(0.01), 2))
    return Scatter(
        level=float(level),
        slope=float(level * rng.uniform(0, 1)),
        residual=float(residual),
        sample=float(residual),
        drift=0.03 if kind == "drift" else 0.003,
        drift_one=0.01 if kind == "drift of one" else 0.0,
        short=3.0 if "short" in kind else 1.0,
    )


# Measurements of a truth.
def _scatter(kind: str, rng: Random, truth: Truth) -> Scatter:
    """Modes are modes where they lie far apart beside the noise; else they are noise."""
    found = scatter_of(kind, rng)
    jump = max(truth.jumps.values(), default=1.0)
    return found.times(min(1.0, jump / (8 * max(found.level, found.residual))))


def by_rounds(kind: str, rng: Random, count: int) -> Shot:
    """A grid of powers of two, and some lengths where a search would have put them."""
    truth, at = TRUTHS[kind](rng)
    device = Device(truth, _scatter(kind, rng, truth), rng)
    extra = {round(at * math.exp(rng.uniform(-0.35, 0.35))) for _ in range(int(rng.integers(0, 6)))}
    contexts = sorted({*planted.powers(), *extra})
    return Shot(truth, tuple(device.seen), device.rounds(contexts, count))._replace(
        modes=tuple(device.seen)
    )


def by_visits(kind: str, rng: Random, count: int, facets: int = 3) -> Shot:
    """A zoom and guards in the first visit, the zoom again in the others; other facets beside."""
    truth, at = TRUTHS[kind](rng)
    scatter = _scatter(kind, rng, truth)
    device = Device(truth, scatter, rng)
    names = tuple(truth.curves)
    zoom = planted.near(at * math.exp(rng.uniform(-0.05, 0.05)))
    guards = [round(512 * 2 ** ((octave + rng.random()) / 4)) for octave in range(24)]
    guards = [one for one in guards if not zoom[0] <= one <= zoom[-1]]
    outcomes: list[Measurement] = []
    for index, mine in enumerate(combinations(names, 2)):
        # Pairs of more than two contenders take turns in processes of their own.
        first = 100 * index
        outcomes += device.visits(sorted({*zoom, *guards}), 1, first=first, names=mine)
        outcomes += device.visits(zoom, count - 1, first=first + 1, names=mine)
    for phase, execution in (("decode", "graph"), ("prefill", "eager"), ("decode", "eager"))[
        : facets - 1
    ]:
        beside, where = _smooth(rng)
        # Eager calls are another execution: they are never pooled with graphs.
        another = Device(beside, scatter, rng, phase, execution)
        outcomes += another.visits(planted.near(where), count)
    return Shot(truth, tuple(device.seen), outcomes)


def answer_of(shot: Shot) -> Answer:
    """The answer for the prefill of the first truth."""
    environments = {make.ENVIRONMENT.fingerprint: make.ENVIRONMENT}
    groups = by_conditions(shot.outcomes, environments)
    found = answers(groups, environments, TIE, metrics=("latency",))
    return next(
        one
        for one in found
        if (one.conditions.phase, one.conditions.execution) == ("prefill", "graph")
    )


# What was planted, as an answer may be held against it.
class Change(NamedTuple):
    """Somewhere between `low` and `high` tokens the winner changes."""

    low: float
    high: float
    before: str
    after: str


def changes(truth: Truth, modes: dict[str, bool], contexts: Sequence[int]) -> list[Change]:
    """Changes between lobes that exceed `LOBE` and one step of the lengths measured."""
    fine = np.unique(
        np.concatenate((np.geomspace(contexts[0], contexts[-1], 6000), np.array(contexts, float)))
    )
    logs = truth.logs(fine, modes)
    names = list(logs)
    table = np.array([logs[name] for name in names])
    best = table.argmin(axis=0)
    ordered = np.sort(table, axis=0)
    lead = ordered[1] - ordered[0]
    edges = [0, *(np.flatnonzero(np.diff(best)) + 1).tolist(), len(fine)]
    steps = np.diff(np.log(contexts))
    lobes: list[tuple[str, float, float]] = []
    for start, end in pairwise(edges):
        low, high = fine[start], fine[end - 1]
        over = [
            step
            for step, (left, right) in zip(steps, pairwise(contexts), strict=True)
            if left < high and right > low
        ]
        wide = math.log(high / low) > max(over, default=0.0)
        if wide and lead[start:end].max() > LOBE:
            name = names[int(best[start])]
            if lobes and lobes[-1][0] == name:
                lobes[-1] = (name, lobes[-1][1], high)
            else:
                lobes.append((name, low, high))
    return [Change(one[2], two[1], one[0], two[0]) for one, two in pairwise(lobes)]


@dataclass
class Score:
    """What came of many sweeps of one kind."""

    sweeps: int = 0
    held: int = 0
    open: int = 0
    missed: int = 0
    unsure: int = 0
    false: int = 0
    claims: int = 0
    zones: int = 0
    equal: int = 0
    unresolved: int = 0
    widths: list[float] = field(default_factory=list[float])
    bad: list[int] = field(default_factory=list[int])

    @property
    def coverage(self) -> float:
        """Share of planted changes, and of zones told, that are right."""
        wrong = self.missed + self.false
        every = self.held + self.open + wrong
        return 1 - wrong / every if every else 1.0

    @property
    def narrow(self) -> float:
        """Share of planted changes that a zone of one number holds."""
        every = self.held + self.open + self.missed
        return sum(one <= limits.ONE_NUMBER + 1e-9 for one in self.widths) / max(every, 1)


def reach(one: Crossing, contexts: Sequence[int]) -> tuple[float, float]:
    """The lengths between which a crossing is said to lie."""
    low = contexts[0] if one.low_tokens is None else one.low_tokens
    high = contexts[-1] if one.high_tokens is None else one.high_tokens
    return low, high


def score(shot: Shot, answer: Answer, into: Score, seed: int = 0) -> None:
    """Hold one answer against what was planted."""
    contexts = sorted({one.context for one in answer.standings if one.winners})
    modes = [dict(one) for one in {tuple(sorted(one.items())) for one in shot.modes}] or [{}]
    planted_changes = [change for mode in modes for change in changes(shot.truth, mode, contexts)]
    spans = [(one, reach(one, contexts)) for one in answer.crossings]
    zones = [(one, span) for one, span in spans if one.kind == "zone"]
    into.sweeps += 1
    into.zones += len(zones)
    into.equal += any(one.equal and len(one.winners) > 1 for one in answer.segments)
    bad = False
    for change in planted_changes:
        here = [one for one, (low, high) in spans if low <= change.high and high >= change.low]
        if any(one.kind == "zone" for one in here):
            into.held += 1
        elif here or _is_open(answer, change, contexts):
            into.open += 1
        else:
            into.missed += 1
            into.unsure += _is_unsure(answer, change)
            bad = True
    every = [
        (low, high) for mode in modes for low, high in _any_changes(shot.truth, mode, contexts)
    ]
    for _, (low, high) in zones:
        into.widths.append(high / low)
        if not any(low <= end and high >= start for start, end in every):
            into.false += 1
            bad = True
    wrong = _wrong_claims(shot.truth, modes, answer)
    into.claims += wrong > 0
    into.unresolved += not planted_changes_resolved(answer)
    if bad or wrong:
        into.bad.append(seed)


def planted_changes_resolved(answer: Answer) -> bool:
    """Whether the answer names zones, one winner throughout, or equal."""
    if any(one.kind == "unresolved" for one in answer.crossings):
        return False
    return all(len(one.winners) == 1 or one.equal for one in answer.segments)


def _any_changes(
    truth: Truth, modes: dict[str, bool], contexts: Sequence[int]
) -> list[tuple[float, float]]:
    """Where the winner changes at all, however small the lobes: between which fine lengths."""
    fine = np.unique(
        np.concatenate((np.geomspace(contexts[0], contexts[-1], 6000), np.array(contexts, float)))
    )
    best = np.array(list(truth.logs(fine, modes).values())).argmin(axis=0)
    return [(fine[at], fine[at + 1]) for at in np.flatnonzero(np.diff(best))]


def _is_open(answer: Answer, change: Change, contexts: Sequence[int]) -> bool:
    """Whether the answer leaves the winner open there."""
    for one in answer.segments:
        if len(one.winners) > 1 and one.low_tokens <= change.high and one.high_tokens >= change.low:
            return True
    return False


def _is_unsure(answer: Answer, change: Change) -> bool:
    """Whether a segment lists a length beside the change at which its winner is not certain."""
    listed = [at for one in answer.segments for at in one.unsure]
    return any(change.low / 1.03 <= at <= change.high * 1.03 for at in listed)


def _wrong_claims(truth: Truth, modes: Sequence[dict[str, bool]], answer: Answer) -> int:
    """Lengths at which another contender is best than the answer says, or equal is wrong."""
    wrong = 0
    tried = {one.context for one in answer.standings if one.winners}
    for one in answer.segments:
        mine = [
            at
            for at in sorted(tried)
            if one.low_tokens <= at <= one.high_tokens and at not in one.unsure
        ]
        for mode in modes:
            if not mine:
                continue
            logs = truth.logs(np.array(mine, float), mode)
            best = np.min(list(logs.values()), axis=0)
            if len(one.winners) == 1:
                wrong += int((logs[one.winners[0]] > best + 1e-12).sum())
            elif one.equal:
                table = np.array([logs[name] for name in one.winners])
                wrong += int(((table.max(axis=0) - best) > math.log1p(TIE)).sum())
    return wrong


def simulate(
    kind: str, measure: Callable[[str, Random, int], Shot], count: int, times: int, seed: int = 0
) -> Score:
    """So many sweeps of one kind."""
    found = Score()
    for number in range(times):
        key = [seed, number, count, *kind.encode(), measure is by_visits]
        shot = measure(kind, np.random.default_rng(key), count)
        score(shot, answer_of(shot), found, number)
    return found


HEADER = (
    f"{'kind':16} {'measured in':12} {'sweeps':>6} {'coverage':>8} {'missed':>6} {'unsure':>6} {'false':>5}"
    f" {'claims':>6} {'open':>5} {'unres.':>6} {'equal':>5} {'width':>6} {'<=1.04':>6}"
)


def row(kind: str, how: str, one: Score) -> str:
    """One line of the table."""
    width = statistics.median(one.widths) if one.widths else math.nan
    return (
        f"{kind:16} {how:12} {one.sweeps:6} {one.coverage:8.1%} {one.missed:6} {one.unsure:6} {one.false:5}"
        f" {one.claims:6} {one.open:5} {one.unresolved / one.sweeps:6.0%}"
        f" {one.equal / one.sweeps:5.0%} {width:6.3f} {one.narrow:6.0%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("kinds", nargs="*", default=list(TRUTHS))
    asked = parser.parse_args()
    print(HEADER)
    for kind in asked.kinds:
        for how, measure, count in (
            ("3 rounds", by_rounds, 3),
            ("5 rounds", by_rounds, 5),
            ("3 visits", by_visits, 3),
            ("5 visits", by_visits, 5),
            ("7 visits", by_visits, 7),
        ):
            started = time.perf_counter()
            found = simulate(kind, measure, count, asked.times, asked.seed)
            took_s = time.perf_counter() - started
            print(
                row(kind, how, found),
                f"{took_s / asked.times * 1e3:.0f} ms",
                found.bad[:8],
                flush=True,
            )


if __name__ == "__main__":
    main()
