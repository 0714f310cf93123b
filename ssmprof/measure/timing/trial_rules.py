"""Who is worth a trial on the block, when a trial is over, and who wins it."""

from __future__ import annotations

from collections.abc import Sequence

from ssmprof.measure.timing.op_times import OpTime
from ssmprof.measure.timing.pairs import LogRatio, log_ratio
from ssmprof.records import TrialOutcome

# Tried on the block: who is within this of the best, as an op, hot or cold.
NEAR = 0.25
NEAR_S = 2e-6
# Left alone at longer contexts: this many times as slow as the best, hot and cold, at so many
# contexts in a row. A plain form of a scan takes seconds at the longest.
FAR = 8.0
FAR_OFTEN = 2
# What a challenger must gain in the block, beyond its error; an op with less of the time cannot.
LEAST_GAIN = 0.005
# Pairs of one trial: at least, at most, and the seconds after which the least is enough.
_FEWEST, _MOST = 6, 12
_LONG_FEWEST = 4
_TRIAL_S = 0.3
_SURE = 3.0  # standard errors from the least gain that end a trial early


def far_behind(taken: OpTime, times: Sequence[OpTime]) -> bool:
    """So slow that no longer context can make it the fastest."""
    return all(
        mine > FAR * min(bests)
        for mine, bests in (
            (taken.hot_s, [time.hot_s for time in times]),
            (taken.cold_s, [time.cold_s for time in times]),
        )
    )


def wins(found: LogRatio) -> bool:
    """Faster by more than its error (95 %) and the least gain."""
    return found.mean + found.half_width < 0 and found.mean < -LEAST_GAIN


def loses(found: LogRatio) -> bool:
    """Slower by more than its error (95 %): no tie that another length could turn."""
    return found.mean - found.half_width > 0


def enough(times: Sequence[Sequence[float]], spent_s: float) -> bool:
    """Whether a trial of (challenger, incumbent) is decided, or has taken all it may."""
    count = len(times[0])
    if count % 2 or count < _LONG_FEWEST:
        return False
    if count >= _MOST or spent_s >= _TRIAL_S:
        return True
    if count < _FEWEST:
        return False
    found = log_ratio(times[0], times[1])
    return abs(found.mean + LEAST_GAIN) > _SURE * found.error


def sorted_out(
    taken: OpTime | str | None, times: dict[str, OpTime], share: float, calls: int
) -> tuple[TrialOutcome | None, str | None]:
    """Why a provider is not tried on the block, and in its own words; None where it is."""
    if taken is None:
        return "crashed", None
    if isinstance(taken, str):
        return "refused", taken
    bests = OpTime(
        min(time.hot_s for time in times.values()), min(time.cold_s for time in times.values())
    )
    slack = calls * NEAR_S

    def near(mine: float, best: float) -> bool:
        return mine <= max((1 + NEAR) * best, best + slack)

    if not near(taken.hot_s, bests.hot_s) and not near(taken.cold_s, bests.cold_s):
        return "slow", None
    return ("small", None) if share < LEAST_GAIN else (None, None)
