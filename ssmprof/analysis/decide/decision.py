"""Limits and a mix of contexts -> the contender to deploy, or what to measure next.

Times between measured contexts are interpolated on log axes, process by process, and whoever is
ahead is judged as at a measured length: by the run's own noise between processes, to which lengths
nobody measured add what interpolation misses at the lengths that were measured. Nothing is
extrapolated. A choice that is another one in SM cycles says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct

from ssmprof.analysis.compare.build import Group, process_noise, read_groups
from ssmprof.analysis.compare.clocks import cycles, differ
from ssmprof.analysis.compare.conditions import by_conditions
from ssmprof.analysis.compare.curve import Contender, Ratio, between
from ssmprof.analysis.compare.estimate import estimate
from ssmprof.analysis.compare.logs import number_of, ratio_of
from ssmprof.analysis.compare.modes import ONE_MODE
from ssmprof.analysis.compare.noise import Noise, Square
from ssmprof.analysis.compare.pairs import Compared
from ssmprof.analysis.compare.sign import Reading, readings
from ssmprof.analysis.explain.memory import points as memory_points
from ssmprof.analysis.findings import Estimate
from ssmprof.errors import ConfigError
from ssmprof.records import Conditions, Run, median
from ssmprof.units import format_bytes, format_context, format_ratio, format_time


class Limits(Struct, frozen=True, kw_only=True):
    """What must hold at every context of the mix; None is no limit. Seconds and bytes."""

    time_s: float | None = None
    memory_bytes: int | None = None


NO_LIMITS = Limits()


class Candidate(Struct, frozen=True, kw_only=True):
    """One contender: expected seconds over the mix, or why it is out."""

    block: str
    expected_s: Estimate | None
    out: str | None = None


class Decision(Struct, frozen=True, kw_only=True):
    """`choice` is None where nothing meets the limits, or several do and none is ahead.

    `equal` are those within the tie of each other, `unresolved` those of which that is not known;
    `next_point` is then what to measure. `note` says that the choice depends on clocks.
    """

    conditions: Conditions
    choice: str | None
    equal: tuple[str, ...]
    unresolved: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    next_point: str | None
    note: str | None = None


@dataclass(frozen=True)
class _Mix:
    """Weights that add up to 1, and how the contenders of one set of conditions meet them."""

    weights: Mapping[int, float]
    group: Group
    tie: float
    floor: float

    def expected(self, name: str) -> dict[int, float]:
        """Replicate -> expected time of the mix, for replicates that cover all of it."""
        curve = self.group.known[name].curve
        found: dict[int, float] = {}
        for replicate in sorted({one for rounds in curve.values() for one in rounds}):
            mine = {
                context: median(rounds[replicate])
                for context, rounds in curve.items()
                if replicate in rounds
            }
            values = [(weight, between(mine, at)) for at, weight in self.weights.items()]
            if all(value is not None for _, value in values):
                found[replicate] = sum(weight * value for weight, value in values if value)
        return found

    def reading(self, block: str, other: str) -> Reading | None:
        """The pair over the mix; at one measured length that of the answer itself."""
        pair, sign = self._pair(block, other)
        if pair is None:
            return None
        at = next(iter(self.weights))
        if len(self.weights) == 1 and (at in pair.readings or _both_measured(pair, at)):
            found = pair.readings.get(at)  # None where they never met in one mode
            return found if sign > 0 or found is None else found.turned()
        ours, theirs = self.expected(pair.a.name), self.expected(pair.b.name)
        shared = sorted(ours.keys() & theirs.keys())
        if not shared:
            return None
        turns = {
            replicate: one.turns
            for rounds in pair.logs.values()
            for replicate, one in rounds.items()
        }
        logs = {
            self._middle: {
                one: Ratio(math.log(ours[one] / theirs[one]), turns.get(one, False))
                for one in shared
            }
        }
        missed = _interpolation_error(pair) if self._between(pair) else 0.0
        noises = {kind: _widened(noise, missed, len(shared)) for kind, noise in pair.noises.items()}
        ways = dict.fromkeys((False, True), ONE_MODE)
        found = readings(logs, noises, ways, self.tie, self.floor)[0]
        return found if sign > 0 else found.turned()

    def _pair(self, block: str, other: str) -> tuple[Compared | None, int]:
        pairs = self.group.pairs
        if (block, other) in pairs:
            return pairs[block, other], 1
        return pairs.get((other, block)), -1

    @property
    def _middle(self) -> int:
        """The context at which the noise is taken: the weighted geometric mean."""
        logs = math.fsum(weight * math.log(at) for at, weight in self.weights.items())
        return round(number_of(logs))

    def _between(self, pair: Compared) -> bool:
        return any(context not in pair.logs for context in self.weights)


def decide(
    run: Run, conditions: Conditions, mix: Mapping[int, float], limits: Limits = NO_LIMITS
) -> Decision:
    """Choose under one set of conditions for a mix of contexts (context -> weight).

    Raises ConfigError for an empty mix or a context beyond what was measured.
    """
    total = sum(mix.values())
    if not mix or total <= 0:
        raise ConfigError("the mix is empty", fix="--mix 4K:70%,32K:30%")
    groups = by_conditions(run.outcomes, run.environments)
    known = read_groups(groups, run.environments, run.scenario.budget.tie)
    group = next((one for one in known if one.conditions == conditions), None)
    _refuse_unmeasured(group, conditions, mix)
    assert group is not None
    weights = {context: weight / total for context, weight in mix.items()}
    floor = math.log1p(process_noise(run.environments, conditions.device))
    asked = _Mix(weights, group, run.scenario.budget.tie, floor)
    peaks: dict[str, dict[int, int]] = {}
    for point in memory_points(conditions, group.outcomes):
        if point.peak_bytes is not None:
            peaks.setdefault(point.block, {})[point.context] = point.peak_bytes
    candidates = [
        _candidate(asked, one, peaks.get(name, {}), limits) for name, one in group.known.items()
    ]
    fitting = [one for one in candidates if one.out is None and one.expected_s is not None]
    fitting.sort(key=lambda one: one.expected_s.value if one.expected_s else math.inf)
    best = _best(asked, [one.block for one in fitting])
    equal = len(best) > 1 and all(
        (one := asked.reading(best[0], other)) is not None and one.equal for other in best[1:]
    )
    unresolved = () if equal or len(best) < 2 else best
    return Decision(
        conditions=conditions,
        choice=best[0] if len(best) == 1 else None,
        equal=best if equal else (),
        unresolved=unresolved,
        candidates=(*fitting, *(one for one in candidates if one not in fitting)),
        next_point=_next(unresolved, group, weights) if unresolved else None,
        note=_clocks(asked, [one.block for one in fitting], run),
    )


def _refuse_unmeasured(
    group: Group | None, conditions: Conditions, mix: Mapping[int, float]
) -> None:
    curves = group.known.values() if group else ()
    measured = sorted({context for one in curves for context in one.curve})
    for context in mix:
        if not measured or not measured[0] <= context <= measured[-1]:
            have = (
                f"{format_context(measured[0])} to {format_context(measured[-1])}"
                if measured
                else "nothing"
            )
            raise ConfigError(
                f"{format_context(context)} tokens were not measured",
                cause=f"this run holds {have} for {conditions.label()}",
                fix=f"ssmprof sweep ... --contexts {context}",
            )


def _both_measured(pair: Compared, context: int) -> bool:
    return context in pair.a.curve and context in pair.b.curve


def _widened(noise: Noise | None, missed: float, count: int) -> Noise | None:
    """Noise of a replicate with the error of interpolation, which all replicates share."""
    if noise is None or not missed:
        return noise
    residual = Square(noise.residual.value + count * missed**2, max(noise.residual.df, 1.0))
    return Noise(noise.level, noise.slope, residual, noise.centre, noise.spread, noise.lengths)


def _interpolation_error(pair: Compared) -> float:
    """What interpolating the pair's log ratio misses at lengths left out: root mean square."""
    means = {at: ratio_of(one.log) for at, one in pair.readings.items()}
    missed: list[float] = []
    for at in list(means)[1:-1]:
        guess = between({length: value for length, value in means.items() if length != at}, at)
        if guess is not None:
            missed.append(math.log(guess / means[at]))
    return math.sqrt(math.fsum(one**2 for one in missed) / len(missed)) if missed else 0.0


def _candidate(asked: _Mix, one: Contender, peaks: Mapping[int, int], limits: Limits) -> Candidate:
    rounds = asked.expected(one.name)
    expected = estimate(list(rounds.values())) if rounds else None
    return Candidate(
        block=one.name, expected_s=expected, out=_out(one, asked.weights, peaks, limits)
    )


def _out(
    one: Contender, weights: Mapping[int, float], peaks: Mapping[int, int], limits: Limits
) -> str | None:
    """Why a contender is out: the first limit it breaks."""
    medians = one.medians
    for context in sorted(weights):
        time_s = between(medians, context)
        if time_s is None:
            return f"no measurement at {format_context(context)}: it does not fit, or was not asked"
        if limits.time_s is not None and time_s > limits.time_s:
            return f"{format_time(time_s)} at {format_context(context)}"
        if limits.memory_bytes is not None:
            peak = between({c: float(p) for c, p in peaks.items()}, context)
            if peak is None:
                return f"memory at {format_context(context)} is not known"
            if peak > limits.memory_bytes:
                return f"{format_bytes(peak)} at {format_context(context)}"
    return None


def _best(asked: _Mix, names: Sequence[str]) -> tuple[str, ...]:
    """The best and everything not certainly slower by more than the tie."""
    if not names:
        return ()
    found = [names[0]]
    for name in names[1:]:
        one = asked.reading(name, names[0])
        if one is None or one.sign <= 0 or one.equal:
            found.append(name)
    return tuple(found)


def _clocks(asked: _Mix, names: Sequence[str], run: Run) -> str | None:
    """Whom the best in seconds does not beat in SM cycles, or beats there alone; both figures."""
    groups = {asked.group.conditions: list(asked.group.outcomes)}
    group = read_groups(groups, run.environments, asked.tie, take=cycles)[0]
    clocked = _Mix(asked.weights, group, asked.tie, asked.floor)
    for other in names[1:]:
        if names[0] not in group.known or other not in group.known:
            continue
        seconds, counted = (one.reading(names[0], other) for one in (asked, clocked))
        if seconds is None or counted is None or seconds.replicates != counted.replicates:
            continue
        if differ(seconds, counted, asked.tie):
            return (
                f"depends on clocks: {names[0]} takes {format_ratio(ratio_of(seconds.log))} the "
                f"time of {other} in seconds and {format_ratio(ratio_of(counted.log))} in SM cycles"
            )
    return None


def _next(names: Sequence[str], group: Group, weights: Mapping[int, float]) -> str:
    """The context of the mix that weighs most and was only interpolated, else more rounds."""
    for context in sorted(weights, key=lambda one: -weights[one]):
        if any(context not in group.known[name].curve for name in names):
            return f"measure {' and '.join(names)} at {format_context(context)}"
    return f"measure more rounds of {' and '.join(names)}"
