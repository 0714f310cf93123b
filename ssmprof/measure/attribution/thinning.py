"""What each mark of a graph costs, from graphs of the same call that lack some of its marks.

Where the mark between two ops is left out, the interval of the pair is shorter than the two single
intervals by what that mark costs there: its two hops, the start of a kernel or fill that it delays
or hides, and the overlap with an early launched successor (programmatic dependent launch) that it
prevents. Two graphs that lack every other mark tell this for each mark.

The first kernels after a mark that stays still start late, so a run of k marks left out saves k
times the cost of a mark less a residue: in a Mamba-2 stack at 512 tokens on an H100 2.24 us per
mark alone, 2.60 in runs of seven, 2.70 for all of the call (`reports/accuracy-h100-80gb-hbm3`). A
graph that keeps one mark of eight tells the residue. What is then left of an interval is what its
op adds to the call without marks. The whole takes no part in this; the closure stays a test.

Marks before the same kernel cost the same, so they are pooled: layers repeat. Where the readings of
a kernel scatter too much (long ops at moving clocks), its marks keep the calibrated cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ssmprof.records import median

# Accept a pooled cost of so many readings whose standard error is below this.
_FEWEST = 6
_PRECISE_S = 0.25e-6
# Standard error of a median of normal values, per median absolute deviation.
_MEDIAN_ERROR = 1.2533 * 1.4826


def run_length(ops: int) -> int:
    """Ops between two marks of the graph that tells the residue; never most of a call."""
    return 8 if ops >= 16 else 4


class Turn(NamedTuple):
    """Raw seconds of one replay of each graph of a call.

    `parts` has the interval of every op, `even` those of (0), (1, 2), (3, 4), ..., `odd` those of
    (0, 1), (2, 3), ..., `runs` those of `run_length` ops each; what is left over at the end is an
    interval of its own. All three are empty where only whole and parts were replayed.
    """

    parts: list[float]
    even: list[float]
    odd: list[float]
    runs: list[float]
    whole_s: float


def mark_costs_s(
    turns: Sequence[Turn], kinds: Sequence[str], calibrated_s: Sequence[float]
) -> list[float]:
    """The cost of the mark of every interval in seconds, to be taken off it.

    `kinds` says what each interval begins with. The first interval keeps the calibrated cost: no
    mark stands between it and an op before it.
    """
    pooled: dict[str, list[float]] = {}
    for place in range(1, len(kinds)):
        pooled.setdefault(kinds[place], []).extend(_saved_s(turn, place) for turn in turns)
    measured = {kind: _precise(values) for kind, values in pooled.items()}
    costs = list(calibrated_s)
    own: list[int] = []
    for place in range(1, len(kinds)):
        found = measured[kinds[place]]
        if found is not None:
            costs[place] = found
            own.append(place)
    residue_s = _residue_s(turns, costs)
    for place in own:
        costs[place] += residue_s
    return costs


def _saved_s(turn: Turn, place: int) -> float:
    """What leaving out the mark before the op at `place` saved in this turn."""
    pairs = turn.odd if place % 2 else turn.even
    pair = pairs[(place + 1 - place % 2) // 2]
    return turn.parts[place - 1] + turn.parts[place] - pair


def _residue_s(turns: Sequence[Turn], alone_s: Sequence[float]) -> float:
    """What a run of left-out marks saves less than their number times a mark's cost, in seconds.

    With c the saving of one mark alone and r the residue a mark costs c + r, so the k marks within
    a run save the sum of their c and k - 1 times r. Zero where it cannot be told.
    """
    length = run_length(len(alone_s))
    found: list[float] = []
    for first in range(0, len(alone_s) - length + 1, length):
        alone = sum(alone_s[first + 1 : first + length])
        for turn in turns:
            saved = sum(turn.parts[first : first + length]) - turn.runs[first // length]
            found.append((saved - alone) / (length - 2))
    return max(0.0, _precise(found) or 0.0)


def _precise(values: Sequence[float]) -> float | None:
    """The median, None where its standard error is too large or not known."""
    if len(values) < _FEWEST:
        return None
    middle = median(values)
    scatter = median(abs(value - middle) for value in values)
    error = _MEDIAN_ERROR * scatter / math.sqrt(len(values))
    return middle if error <= _PRECISE_S else None
