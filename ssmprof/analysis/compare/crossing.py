"""A change of winners -> a crossing: its kind, why it is as wide as it is, what is indifferent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from ssmprof import limits
from ssmprof.analysis.compare.answer import Crossing, Why
from ssmprof.analysis.compare.sign import Reading
from ssmprof.analysis.compare.zone import Change
from ssmprof.families import family_of, op_base
from ssmprof.records import Attribution, KernelTime, median

_GRID_TOKENS = 16  # lengths nearer than this need no further one between them


class Taken(NamedTuple):
    """Share of device time: of the op's own kernels, or at most that of its family's others."""

    share: float
    known: bool


class Ops(NamedTuple):
    """Of one contender at one length: op -> implementation, op -> most it takes of the time."""

    providers: dict[str, str]
    shares: dict[str, Taken]


def crossing(
    change: Change,
    before: str,
    after: str,
    readings: Mapping[int, Reading],
    ops: Mapping[str, Mapping[int, Ops]],
    cost_s: float | None = None,
) -> Crossing:
    """The crossing of two contenders, from the readings of their pair.

    Args:
        readings: the pair's readings by context; may be empty where they share no length.
        ops: contender -> context -> who implements its ops, and their shares.
        cost_s: what measuring on would cost; kept where that would help.
    """
    low, high = change.low, change.high
    step = None if low is None else _step((before, after), low, high, readings, ops)
    why = _why(change, readings, step)
    ends = _indifferent(low, high, readings) if not change.gone else None
    return Crossing(
        before=before,
        after=after,
        kind="capacity" if change.gone else "unresolved" if low is None else "zone",
        low_tokens=low,
        high_tokens=high,
        why=why,
        context_tokens=one_number(low, high) if why in ("clean", "jagged") else None,
        indifferent_low_tokens=ends[0] if ends else None,
        indifferent_high_tokens=ends[1] if ends else None,
        indifferent_except=tuple(
            at for at, one in readings.items() if ends and ends[0] < at < ends[1] and not one.equal
        ),
        contradictions=change.jags,
        cost_to_resolve_s=cost_s if why in ("budget", "noisy") else None,
        step=step,
    )


def one_number(low: int | None, high: int | None) -> int | None:
    """The shortest number of tokens inside a zone that is narrow enough for one; else None."""
    if low is None or high is None or high > low * limits.ONE_NUMBER:
        return None
    middle = math.sqrt(low * high)
    for digits in range(2, 8):
        grain = 10 ** max(0, math.floor(math.log10(middle)) + 1 - digits)
        rounded = round(middle / grain) * grain
        if low <= rounded <= high:
            return rounded
    return round(middle)


def shares_of(providers: Mapping[str, str], attribution: Attribution) -> dict[str, Taken]:
    """Op -> what it takes: by the names of kernels, else its family's kernels of no other op."""
    whole = math.fsum(median(kernel.times_s) for kernel in attribution.kernels)
    own: dict[str | None, float] = {}
    unnamed: dict[str, float] = {}
    for kernel in attribution.kernels if whole else ():
        op, share = _implemented(kernel, providers), median(kernel.times_s) / whole
        own[op] = own.get(op, 0.0) + share
        if op is None:
            unnamed[kernel.family] = unnamed.get(kernel.family, 0.0) + share
    return {
        op: Taken(own[op], True) if op in own else Taken(unnamed.get(family_of(op, op), 0.0), False)
        for op in providers
    }


def _implemented(kernel: KernelTime, ops: Iterable[str]) -> str | None:
    """The op that a kernel's name gives away, None where it does not."""
    names = (op_base(kernel.op), kernel.kernel.strip("_").removesuffix("_kernel"))
    return next((op for op in ops if op in names), None)


def _most(op: str, *lengths: Ops) -> float:
    """The most an op may take at these lengths; all of the time where no parts were taken."""
    taken = [one.shares[op] for one in lengths if op in one.shares]
    known = [one.share for one in taken if one.known]
    return max(known or [one.share for one in taken], default=1.0)


def _why(change: Change, readings: Mapping[int, Reading], step: str | None) -> Why:
    if change.gone:
        return "capacity"
    if change.jags:
        return "jagged"
    if step is not None:
        return "provider"
    if change.low is None:
        return "noisy"
    if change.high <= max(change.low * limits.ONE_NUMBER, change.low + _GRID_TOKENS):
        return "clean"
    inside = [at for at in readings if change.low < at < change.high]
    return why_wide([change.low, *inside, change.high], [readings[at].equal for at in inside])


def why_wide(lengths: Sequence[int], equal: Sequence[bool]) -> Why:
    """Why no length inside a zone is certain: too noisy, not measured, or side by side."""
    if not all(equal):
        return "noisy"
    for low, high in pairwise(lengths):
        if high > max(low * limits.ONE_NUMBER, low + _GRID_TOKENS):
            return "budget"
    return "slow"


def _indifferent(
    low: int | None, high: int, readings: Mapping[int, Reading]
) -> tuple[int, int] | None:
    """Hull of the lengths around a zone at which the two are equal, most of those inside."""
    equal = [at for at, one in readings.items() if one.equal]
    start, end = low or high, high
    near = [at for at in equal if start <= at <= end] or [
        at for at in equal if start / limits.JAG <= at <= end * limits.JAG
    ]
    if not near:
        return None
    lengths = sorted(readings)
    below = [at for at in reversed(lengths) if at < near[0]]
    above = [at for at in lengths if at > near[-1]]
    return _grown(near[0], below, readings), _grown(near[-1], above, readings)


def _grown(end: int, beyond: Iterable[int], readings: Mapping[int, Reading]) -> int:
    """The farthest equal length to which no more lengths that differ than equal ones lead."""
    differ = 0
    for equal, run in groupby(beyond, key=lambda at: readings[at].equal):
        lengths = list(run)
        if not equal:
            differ = len(lengths)
            continue
        if len(lengths) < differ:
            break
        for at in lengths:
            if max(at, end) > min(at, end) * limits.JAG:
                return end
            end = at
    return end


def _step(
    pair: tuple[str, str],
    low: int,
    high: int,
    readings: Mapping[int, Reading],
    ops: Mapping[str, Mapping[int, Ops]],
) -> str | None:
    """The change of a provider inside the zone whose op could have made the crossing."""
    inside = [at for at in readings if low <= at <= high]
    error = min(
        ((readings[at].high - readings[at].low) / 2 for at in inside if at in (low, high)),
        default=0.0,
    )
    for name in pair:
        known = ops.get(name, {})
        for below, above in pairwise(at for at in inside if at in known):
            before, after = known[below], known[above]
            for op in sorted(before.providers.keys() & after.providers.keys()):
                here, there = before.providers[op], after.providers[op]
                if here != there and _most(op, before, after) > error:
                    return f"{name} {op}: {here} -> {there} between {below} and {above}"
    return None
