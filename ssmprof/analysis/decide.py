"""Limits and a mix of contexts -> the contender to deploy, or what to measure next.

Times between measured contexts are interpolated on log axes, round by round, so that the expected
time of a mix has the same kind of interval as a point. Nothing is extrapolated: a context outside
of what was measured is an error that says so. A choice that is another one in SM cycles says so.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from ssmprof.analysis.clocks import differ, in_cycles
from ssmprof.analysis.curves import Curve, curves, facets, round_medians
from ssmprof.analysis.findings import Estimate, Facet
from ssmprof.analysis.memory import points as memory_points
from ssmprof.analysis.stats import TIE, certain_sign, estimate, estimate_logs
from ssmprof.errors import ConfigError
from ssmprof.records import Outcome, Run
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
    """`choice` is None where nothing meets the limits or the best ones are tied (`tied`).

    `note` says that the choice depends on clocks, with both figures.
    """

    facet: Facet
    choice: str | None
    tied: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    next_point: str | None
    note: str | None = None


def decide(
    run: Run, facet: Facet, mix: Mapping[int, float], limits: Limits = NO_LIMITS
) -> Decision:
    """Choose within a facet for a mix of contexts (context -> weight).

    Raises ConfigError for an empty mix or a context beyond what was measured.
    """
    total = sum(mix.values())
    if not mix or total <= 0:
        raise ConfigError("the mix is empty", fix="--mix 4K:70%,32K:30%")
    outcomes = facets(run.outcomes, run.environments).get(facet, [])
    known = curves(outcomes)
    measured = sorted({context for curve in known.values() for context in curve})
    for context in mix:
        if not measured or not measured[0] <= context <= measured[-1]:
            have = (
                f"{format_context(measured[0])} to {format_context(measured[-1])}"
                if measured
                else "nothing"
            )
            raise ConfigError(
                f"{format_context(context)} tokens were not measured",
                cause=f"this run holds {have} for {facet.label()}",
                fix=f"ssmprof sweep ... --contexts {format_context(context)}",
            )
    weights = {context: weight / total for context, weight in mix.items()}
    peaks: dict[str, dict[int, int]] = {}
    for point in memory_points(facet, outcomes):
        if point.peak_bytes is not None:
            peaks.setdefault(point.block, {})[point.context] = point.peak_bytes
    rounds = {name: _expected(curve, weights) for name, curve in known.items()}
    candidates = [
        _candidate(name, known[name], rounds[name], weights, peaks.get(name, {}), limits)
        for name in known
    ]
    fitting = [one for one in candidates if one.out is None and one.expected_s is not None]
    fitting.sort(key=lambda one: one.expected_s.value if one.expected_s else math.inf)
    tied = _tied([one.block for one in fitting], rounds)
    clear = len(tied) == 1
    return Decision(
        facet=facet,
        choice=tied[0] if clear else None,
        tied=() if clear else tied,
        candidates=(*fitting, *(one for one in candidates if one not in fitting)),
        next_point=None if clear or not tied else _next(tied, known, weights),
        note=_clocks([one.block for one in fitting], rounds, outcomes, weights),
    )


def at(curve: Mapping[int, float], context: int) -> float | None:
    """Value between measured contexts, linear on log axes; None outside of them."""
    if context in curve:
        return curve[context]
    lengths = sorted(curve)
    right = bisect.bisect(lengths, context)
    if right in (0, len(lengths)):
        return None
    low, high = lengths[right - 1], lengths[right]
    share = math.log(context / low) / math.log(high / low)
    return math.exp((1 - share) * math.log(curve[low]) + share * math.log(curve[high]))


def _expected(curve: Curve, weights: Mapping[int, float]) -> dict[int, float]:
    """Round -> expected time of the mix, for rounds that cover all of it."""
    medians = round_medians(curve)
    turns = {turn for rounds in medians.values() for turn in rounds}
    found: dict[int, float] = {}
    for turn in sorted(turns):
        one = {context: rounds[turn] for context, rounds in medians.items() if turn in rounds}
        values = [(weight, at(one, context)) for context, weight in weights.items()]
        if all(value is not None for _, value in values):
            found[turn] = sum(weight * value for weight, value in values if value is not None)
    return found


def _candidate(
    name: str,
    curve: Curve,
    rounds: Mapping[int, float],
    weights: Mapping[int, float],
    peaks: Mapping[int, int],
    limits: Limits,
) -> Candidate:
    expected = estimate(list(rounds.values())) if rounds else None
    return Candidate(block=name, expected_s=expected, out=_out(curve, weights, peaks, limits))


def _out(
    curve: Curve, weights: Mapping[int, float], peaks: Mapping[int, int], limits: Limits
) -> str | None:
    """Why a contender is out: the first limit it breaks."""
    medians = {
        c: estimate(list(rounds.values())).value for c, rounds in round_medians(curve).items()
    }
    for context in sorted(weights):
        time_s = at(medians, context)
        if time_s is None:
            return f"no measurement at {format_context(context)}: it does not fit, or was not asked"
        if limits.time_s is not None and time_s > limits.time_s:
            return f"{format_time(time_s)} at {format_context(context)}"
        if limits.memory_bytes is not None:
            peak = at({c: float(p) for c, p in peaks.items()}, context)
            if peak is None:
                return f"memory at {format_context(context)} is not known"
            if peak > limits.memory_bytes:
                return f"{format_bytes(peak)} at {format_context(context)}"
    return None


def _clocks(
    names: Sequence[str],
    rounds: Mapping[str, Mapping[int, float]],
    outcomes: Sequence[Outcome],
    weights: Mapping[int, float],
) -> str | None:
    """Whom the best in seconds does not beat in SM cycles, or beats there alone; both figures."""
    again = curves(in_cycles(outcomes))
    cycles = {name: _expected(again[name], weights) for name in names if name in again}
    for other in names[1:]:
        ratios = [_ratio(found, names[0], other) for found in (rounds, cycles)]
        seconds, counted = ratios
        if seconds is None or counted is None or seconds.rounds != counted.rounds:
            continue
        if differ(seconds, counted, certain_sign):
            return (
                f"depends on clocks: {names[0]} takes {format_ratio(seconds.value)} the time of "
                f"{other} in seconds and {format_ratio(counted.value)} in SM cycles"
            )
    return None


def _ratio(rounds: Mapping[str, Mapping[int, float]], one: str, other: str) -> Estimate | None:
    """Expected time of one over that of the other, from rounds that hold both."""
    ours, theirs = rounds.get(one, {}), rounds.get(other, {})
    logs = [math.log(ours[turn] / theirs[turn]) for turn in sorted(ours.keys() & theirs.keys())]
    return estimate_logs(logs) if logs else None


def _tied(names: Sequence[str], rounds: Mapping[str, Mapping[int, float]]) -> tuple[str, ...]:
    """The best and everything not certainly slower, by the ratio of the same rounds."""
    if not names:
        return ()
    best = names[0]
    tied = [best]
    for name in names[1:]:
        ratio = _ratio(rounds, name, best)
        if ratio is None or certain_sign(ratio, TIE) == 0:
            tied.append(name)
    return tuple(tied)


def _next(tied: Sequence[str], known: Mapping[str, Curve], weights: Mapping[int, float]) -> str:
    """The context of the mix that weighs most and was only interpolated, else more rounds."""
    for context in sorted(weights, key=lambda one: -weights[one]):
        if any(context not in known[name] for name in tied):
            return f"measure {' and '.join(tied)} at {format_context(context)}"
    return f"measure more rounds of {' and '.join(tied)}, or accept the tie"
