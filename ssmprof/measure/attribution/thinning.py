"""What each mark of a graph costs, from two graphs of the same call that lack every other mark.

Where the mark between two ops is left out, the interval of the pair is shorter than the two single
intervals by exactly what that mark costs there: its two hops, the start of a kernel or fill that it
delays or hides, and the overlap with an early launched successor (programmatic dependent launch)
that it prevents. So what is left of an interval is what its op adds to the call without marks. The
whole takes no part in this; the closure stays a test.

Marks before the same kernel cost the same, so they are pooled: layers repeat. Where the readings of
a kernel scatter too much (long ops at moving clocks), its marks keep the calibrated cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ssmprof.records import median

# Accept a pooled cost of so many readings whose standard error is below this.
_FEWEST = 6
_PRECISE_S = 0.25e-6
# Standard error of a median of normal values, per median absolute deviation.
_MEDIAN_ERROR = 1.2533 * 1.4826


def mark_costs_s(
    parts: Sequence[Sequence[float]],
    even: Sequence[Sequence[float]],
    odd: Sequence[Sequence[float]],
    kinds: Sequence[str],
    calibrated_s: Sequence[float],
) -> list[float]:
    """The cost of the mark of every interval in seconds, to be taken off it.

    `parts` has the raw intervals of each turn; `odd` those of the graph whose intervals are the
    pairs (0, 1), (2, 3), ..., `even` of the one with (0), (1, 2), (3, 4), ...; an op that is left
    over at the end stands alone in either. `kinds` says what each interval begins with. The first
    interval keeps the calibrated cost: no mark stands between it and an op before it.
    """
    pooled: dict[str, list[float]] = {}
    for place in range(1, len(kinds)):
        pairs = odd if place % 2 else even
        pooled.setdefault(kinds[place], []).extend(
            part[place - 1] + part[place] - pair[(place + 1 - place % 2) // 2]
            for part, pair in zip(parts, pairs, strict=True)
        )
    measured = {kind: _precise(values) for kind, values in pooled.items()}
    costs = list(calibrated_s)
    for place in range(1, len(kinds)):
        found = measured[kinds[place]]
        if found is not None:
            costs[place] = found
    return costs


def _precise(values: Sequence[float]) -> float | None:
    """The median, None where its standard error is too large or not known."""
    if len(values) < _FEWEST:
        return None
    middle = median(values)
    scatter = median(abs(value - middle) for value in values)
    error = _MEDIAN_ERROR * scatter / math.sqrt(len(values))
    return middle if error <= _PRECISE_S else None
