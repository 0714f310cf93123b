"""What deciding a zone would cost: visits of both contenders at lengths through the zone."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ssmprof import limits
from ssmprof.analysis.compare.curve import between
from ssmprof.records import Measurement, Outcome, median

_STEP = 1.015  # lengths of a zoom lie this far apart, or 16 tokens
_MOST_LENGTHS = 16
_TURNS = 10  # calls of each contender per length and visit
_START_S = 4.0  # starting a process and building two contenders takes at least this
_FLUSHED = 2.0  # a cold call takes about this many times its own time, flush included


class Costs:
    """Times of the calls of one set of conditions, and what starting a process took."""

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        times: dict[str, dict[int, list[float]]] = {}
        starts: dict[tuple[str, int], float] = {}
        for one in outcomes:
            if isinstance(one, Measurement):
                point = one.point
                times.setdefault(point.block, {}).setdefault(point.context, []).append(one.time_s)
                key = (point.block, one.round)
                starts[key] = starts.get(key, 0.0) + max(0.0, one.wall_s - one.measuring_s)
        self._times = {
            name: {context: median(values) for context, values in found.items()}
            for name, found in times.items()
        }
        self._start_s = max(_START_S, median(starts.values()) if starts else 0.0)

    def of(self, before: str, after: str, low: int | None, high: int) -> float | None:
        """Seconds until a zone is known to one step of the grid; None where times are missing."""
        low = low or high
        middle = round(math.sqrt(low * high))
        times = [between(self._times.get(name, {}), middle) for name in (before, after)]
        if times[0] is None or times[1] is None:
            return None
        steps = math.ceil(math.log(max(high / low, 1.0)) / math.log(_STEP)) + 1
        calls_s = _TURNS * _FLUSHED * (times[0] + times[1])
        visit_s = self._start_s + min(steps, _MOST_LENGTHS) * calls_s
        return limits.LEAST_PROCESSES * visit_s
