"""Could the device's clock have decided a comparison? Seconds against SM cycles, pair by pair.

Contenders draw different power, so a power limit gives them different clocks, and the faster one in
seconds need not be the better kernel. Cycles are seconds times the clock of the samples: what they
would compare as if all of their time followed the SM clock. Memory has a clock of its own, so the
truth at equal clocks lies between the two, and where both agree the clock has decided nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ssmprof.analysis.compare.answer import ClockCheck, Crossing
from ssmprof.analysis.compare.curve import positive
from ssmprof.analysis.compare.logs import ratio_of
from ssmprof.analysis.compare.pairs import Compared
from ssmprof.analysis.compare.sign import Reading
from ssmprof.records import Measurement, Outcome, median
from ssmprof.units import format_context, format_ratio, format_zone

# A switch is told with two digits; a difference within the second is none.
_SWITCH = 0.05
_UNREAD = "no clock was recorded beside the samples"


def sm_hz(one: Measurement) -> float | None:
    """The SM clock of the samples, None where it is not known."""
    return one.clocks.sm_clock_hz.median if one.clocks.sm_clock_hz else None


def cycles(one: Measurement) -> tuple[float, ...] | None:
    """The samples of a call in SM cycles instead of seconds; None where the clock is not known."""
    hertz = sm_hz(one)
    return positive(tuple([time_s * hertz for time_s in one.times_s])) if hertz else None


def unknown(outcomes: Iterable[Outcome]) -> str | None:
    """Why the clock of some point is not known; None where all are."""
    for one in outcomes:
        if isinstance(one, Measurement) and not sm_hz(one):
            return one.clocks.missing.get("sm_clock_hz") or _UNREAD
    return None


def differ(seconds: Reading, cycles: Reading, tie: float) -> bool:
    """Whether a pair is judged otherwise in cycles than in seconds, outside of both intervals.

    A shift below the tie is none.
    """
    return (
        seconds.sign != cycles.sign
        and abs(seconds.log - cycles.log) > math.log1p(tie)
        and not seconds.low <= cycles.log <= seconds.high
        and not cycles.low <= seconds.log <= cycles.high
    )


def check(
    pair: Compared,
    cycles: Compared | None,
    crossings: tuple[Sequence[Crossing], Sequence[Crossing]],
    outcomes: Sequence[Outcome],
    tie: float,
) -> ClockCheck:
    """What the clocks did to one pair, whose crossings are given in seconds and in cycles.

    `outcomes` are those of the two.
    """
    a, b = pair.a.name, pair.b.name
    counted = cycles.readings if cycles else {}
    both = {
        at: (one, counted[at])
        for at, one in pair.readings.items()
        if at in counted and counted[at].replicates == one.replicates
    }
    apart = [at for at, (seconds, other) in both.items() if differ(seconds, other, tie)]
    known = {at: ratio_of(one.log) for at, (_, one) in both.items()}
    if apart:
        worst = max(apart, key=lambda at: abs(both[at][0].log - both[at][1].log))
        text = _told(a, b, worst, both[worst], outcomes)
        return ClockCheck(
            verdict="depends-on-clocks", text=text, contexts=tuple(apart), cycles=known
        )
    if len(both) < len(pair.readings):
        return ClockCheck(verdict="unknown", text=unknown(outcomes) or _UNREAD, cycles=known)
    if moved := _moved(*crossings):
        return ClockCheck(verdict="depends-on-clocks", text=moved, cycles=known)
    return ClockCheck(verdict="agree", cycles=known)


def _moved(seconds: Sequence[Crossing], cycles: Sequence[Crossing]) -> str | None:
    """Both zones, where they lie apart."""
    zones = [[one for one in found if one.kind == "zone"] for found in (seconds, cycles)]
    if len(zones[0]) != len(zones[1]):
        return None  # no sign is certain to differ: a switch at the edge of its interval
    for one, other in zip(*zones, strict=True):
        first, second = sorted((one, other), key=lambda zone: zone.low_tokens or 0)
        if (second.low_tokens or 0) > (first.high_tokens or 0) * (1 + _SWITCH):
            return (
                f"{one.after} overtakes {one.before} at "
                f"{format_zone(one.low_tokens, one.high_tokens)} tokens in seconds and at "
                f"{format_zone(other.low_tokens, other.high_tokens)} in SM cycles"
            )
    return None


def _told(
    a: str, b: str, at: int, both: tuple[Reading, Reading], outcomes: Iterable[Outcome]
) -> str:
    """Both figures at one context, and the clocks behind them."""
    clocks: dict[str, list[float]] = {a: [], b: []}
    for one in outcomes:
        if isinstance(one, Measurement) and one.point.context == at and (hertz := sm_hz(one)):
            clocks[one.point.block].append(hertz)
    mhz = " and ".join(f"{name} {median(seen) / 1e6:,.0f}" for name, seen in clocks.items() if seen)
    seconds, cycles = (_lead(a, b, one) for one in both)
    return (
        f"at {format_context(at)} tokens {seconds} in seconds, {cycles} in SM cycles (MHz: {mhz})"
    )


def _lead(a: str, b: str, one: Reading) -> str:
    if not one.sign:
        return "neither is faster" if one.equal else "neither is certainly faster"
    return f"{a if one.sign < 0 else b} is {format_ratio(ratio_of(abs(one.log)))} faster"
