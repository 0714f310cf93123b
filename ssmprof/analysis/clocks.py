"""Could the device's clock have decided a comparison? Seconds against SM cycles, pair by pair.

Contenders draw different power, so a power limit gives them different clocks, and the faster one in
seconds need not be the better kernel. Cycles are seconds times the clock of the samples: what they
would compare as if all of their time followed the SM clock. Memory has a clock of its own, so the
truth at equal clocks lies between the two, and where both agree the clock has decided nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import TypeVar

from msgspec import structs

from ssmprof.analysis import crossover
from ssmprof.analysis.curves import Curve, curves, log_ratios
from ssmprof.analysis.findings import ClockCheck, Crossover, Estimate, Facet, RatioPoint
from ssmprof.analysis.stats import TIE, certain_sign, estimate_logs
from ssmprof.records import Measurement, Outcome, median
from ssmprof.units import format_context, format_ratio

DEPENDS = "depends-on-clocks"  # kind of the note
# A switch is told with two digits; a difference within the second is none.
_SWITCH = 0.05
_UNREAD = "no clock was recorded beside the samples"

Compared = TypeVar("Compared", Crossover, RatioPoint)


def sm_hz(one: Measurement) -> float | None:
    """The SM clock of the samples, None where it is not known."""
    return one.clocks.sm_clock_hz.median if one.clocks.sm_clock_hz else None


def in_cycles(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The same outcomes in SM cycles instead of seconds; points of unknown clock are left out."""
    found: list[Outcome] = []
    for one in outcomes:
        if not isinstance(one, Measurement):
            found.append(one)
        elif hertz := sm_hz(one):
            cycles = tuple(time_s * hertz for time_s in one.times_s)
            found.append(structs.replace(one, times_s=cycles))
    return found


def unknown(outcomes: Iterable[Outcome]) -> str | None:
    """Why the clock of some point is not known; None where all are."""
    for one in outcomes:
        if isinstance(one, Measurement) and not sm_hz(one):
            return one.clocks.missing.get("sm_clock_hz") or _UNREAD
    return None


def differ(seconds: Estimate, cycles: Estimate, judge: Callable[[Estimate], object]) -> bool:
    """Whether a ratio is judged otherwise in cycles than in seconds, outside of both intervals.

    As between contenders, a difference below the tie is none.
    """
    if judge(seconds) == judge(cycles) or _shift(seconds, cycles) < 1 + TIE:
        return False
    return _apart(seconds.value, seconds.interval or seconds.spread, cycles) and _apart(
        cycles.value, cycles.interval or cycles.spread, seconds
    )


def check(
    facet: Facet, outcomes: Sequence[Outcome], found: Sequence[Crossover]
) -> list[ClockCheck]:
    """One answer for every pair of a facet, whose crossovers in seconds are `found`."""
    seconds, again = curves(outcomes), in_cycles(outcomes)
    cycles = curves(again)
    switches = crossover.find(facet, again, ("latency",)) if cycles else []
    checks: list[ClockCheck] = []
    for a, b in combinations(seconds, 2):
        ratios = log_ratios(seconds[a], seconds[b])
        if not ratios:
            continue
        both = _estimates(ratios, cycles.get(a, {}), cycles.get(b, {}))
        apart = [at for at, pair in both.items() if differ(*pair, certain_sign)]
        mine = [one for one in outcomes if one.point.block in (a, b)]
        verdict, text = "agree", ""
        if apart:
            worst = max(apart, key=lambda at: _shift(*both[at]))
            verdict, text = DEPENDS, _told(a, b, worst, both[worst], mine)
        elif len(both) < len(ratios):
            verdict, text = "unknown", unknown(mine) or _UNREAD
        elif moved := _moved(_between(found, a, b), _between(switches, a, b)):
            verdict, text = DEPENDS, moved
        checks.append(
            ClockCheck(
                facet=facet,
                block=a,
                other=b,
                verdict=verdict,
                text=text,
                contexts=tuple(apart),
                cycles={at: pair[1] for at, pair in both.items()},
            )
        )
    return checks


def tagged(found: Iterable[Compared], checks: Iterable[ClockCheck]) -> list[Compared]:
    """Latency comparisons with the note, and ratios with their figure in cycles."""
    known = {(one.facet, frozenset((one.block, one.other))): one for one in checks}
    return [_tag(one, known) for one in found]


def _tag(one: Compared, known: Mapping[tuple[Facet, frozenset[str]], ClockCheck]) -> Compared:
    pair = (one.block, one.other) if isinstance(one, RatioPoint) else (one.winner, one.loser)
    mine = known.get((one.facet, frozenset(pair)))
    if mine is None or one.metric != "latency":
        return one
    if isinstance(one, RatioPoint):
        notes = (DEPENDS,) if one.context in mine.contexts else ()
        return structs.replace(one, cycles=mine.cycles.get(one.context), notes=notes)
    return structs.replace(one, notes=(DEPENDS,) if mine.verdict == DEPENDS else ())


def _estimates(
    ratios: Mapping[int, Mapping[int, float]], a: Curve, b: Curve
) -> dict[int, tuple[Estimate, Estimate]]:
    """Context -> ratio in seconds and in cycles, where the clock of every round is known."""
    cycles = log_ratios(a, b)
    return {
        at: (estimate_logs(list(rounds.values())), estimate_logs(list(cycles[at].values())))
        for at, rounds in ratios.items()
        if at in cycles and cycles[at].keys() == rounds.keys()
    }


def _apart(value: float, interval: tuple[float, float], other: Estimate | Crossover) -> bool:
    """Whether the other's value lies outside of this interval around `value`."""
    theirs = other.value if isinstance(other, Estimate) else other.context
    return theirs is not None and not min(value, interval[0]) <= theirs <= max(value, interval[1])


def _shift(seconds: Estimate, cycles: Estimate) -> float:
    """How far the clocks move a ratio, from 1 on."""
    ratio = cycles.value / seconds.value
    return max(ratio, 1 / ratio)


def _between(found: Iterable[Crossover], a: str, b: str) -> list[Crossover]:
    """Changes of sides of a pair, in order of context."""
    return [
        one
        for one in found
        if one.metric == "latency" and {one.winner, one.loser} == {a, b} and one.spread is not None
    ]


def _moved(seconds: Sequence[Crossover], cycles: Sequence[Crossover]) -> str | None:
    """Both switches, where they lie outside of each other's intervals."""
    if len(seconds) != len(cycles):
        return None  # no ratio is certain to differ: a switch at the edge of its interval
    for one, other in zip(seconds, cycles, strict=True):
        ours, theirs = one.context, other.context
        if ours is None or theirs is None or max(ours / theirs, theirs / ours) < 1 + _SWITCH:
            continue
        widths = (one.interval or one.spread, other.interval or other.spread)
        if (
            widths[0] is not None
            and widths[1] is not None
            and _apart(ours, widths[0], other)
            and _apart(theirs, widths[1], one)
        ):
            return (
                f"{one.winner} overtakes {one.loser} at {format_context(ours)} tokens in seconds "
                f"and at {format_context(theirs)} in SM cycles"
            )
    return None


def _told(
    a: str, b: str, at: int, both: tuple[Estimate, Estimate], outcomes: Iterable[Outcome]
) -> str:
    """Both figures at one context, and the clocks behind them."""
    clocks: dict[str, list[float]] = {a: [], b: []}
    for one in outcomes:
        if isinstance(one, Measurement) and one.point.context == at and (hertz := sm_hz(one)):
            clocks[one.point.block].append(hertz)
    mhz = " and ".join(f"{name} {median(seen) / 1e6:,.0f}" for name, seen in clocks.items())
    seconds, cycles = (_lead(a, b, one) for one in both)
    return (
        f"at {format_context(at)} tokens {seconds} in seconds and {cycles} in SM cycles "
        f"(SM clock, MHz: {mhz})"
    )


def _lead(a: str, b: str, ratio: Estimate) -> str:
    sign = certain_sign(ratio)
    if not sign:
        close = abs(ratio.value - 1) < TIE
        return "nobody is faster" if close else "nobody is certainly faster"
    return f"{a if sign < 0 else b} is {format_ratio(max(ratio.value, 1 / ratio.value))} faster"
