"""Whether a crossing holds under sustained load, each contender at its own clock.

Single cold calls in turn run at one clock. Windows of calls back to back let each contender reach
the clock that its own power and heat allow, which may turn who is faster. Windows are few and of
one process, so only a sign that is certainly opposite counts against an answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ssmprof import limits
from ssmprof.analysis.compare.answer import Answer, Sustained
from ssmprof.analysis.compare.chances import quantile
from ssmprof.records import Measurement, Outcome

Windows = Mapping[tuple[str, int, int], tuple[float, ...]]  # contender, context, round -> seconds


class _Load(NamedTuple):
    """A pair under load at one length: mean log ratio and its standard error over windows."""

    log: float
    error: float
    df: int


def sustained(answer: Answer, outcomes: Iterable[Outcome], floor: float) -> Sustained | None:
    """What windows under load say of the ends of an answer's crossings; None without any.

    Args:
        outcomes: of the answer's conditions.
        floor: standard deviation of a log ratio between processes, by the machine's examination.
    """
    windows = {
        (one.point.block, one.point.context, one.round): one.times_s
        for one in outcomes
        if isinstance(one, Measurement) and one.mode == "sustained" and min(one.times_s) > 0
    }
    seen: dict[int, bool] = {}
    contexts = {context for _, context, _ in windows}
    tests = sum(2 for one in answer.crossings if one.kind == "zone") or 1
    for crossing in answer.crossings:
        if crossing.kind != "zone":
            continue
        low, high = crossing.low_tokens, crossing.high_tokens
        pair = answer.pair(crossing.before, crossing.after)
        if pair is None or low is None or high is None:
            continue
        for context in sorted(at for at in contexts if low <= at <= high):
            load = _load(windows, pair.block, pair.other, context)
            cold = pair.at(context)
            if load is None:
                continue
            half = quantile(limits.END_ERROR / tests, load.df) * math.hypot(load.error, floor)
            sign = 0 if abs(load.log) <= half else 1 if load.log > 0 else -1
            opposite = cold is not None and sign * cold.sign < 0
            seen[context] = seen.get(context, True) and not opposite
    if not seen:
        return None
    return Sustained(agrees=all(seen.values()), low_tokens=min(seen), high_tokens=max(seen))


def _load(windows: Windows, block: str, other: str, context: int) -> _Load | None:
    """Windows in turn of one process, the last that has both."""
    rounds = sorted(turn for name, at, turn in windows if name == block and at == context)
    for turn in reversed(rounds):
        ours, theirs = (windows.get((name, context, turn)) for name in (block, other))
        if ours is None or theirs is None or len(ours) != len(theirs) or len(ours) < 2:
            continue
        logs = [math.log(a / b) for a, b in zip(ours, theirs, strict=True)]
        mean = math.fsum(logs) / len(logs)
        square = math.fsum((value - mean) ** 2 for value in logs) / (len(logs) - 1)
        return _Load(mean, math.sqrt(square / len(logs)), len(logs) - 1)
    return None
