"""Prefix replay, the arbiter: graphs of the first k ops; differences of their totals are ops.

No mark stands between ops, so nothing is to be corrected and nothing disturbs them; but each op
costs a capture, and the difference of two totals is noisy. For tests and `doctor --accuracy` only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ssmprof.measure.attribution.graph_events import Prefix, capture
from ssmprof.measure.attribution.intervals import Interval
from ssmprof.measure.attribution.marks import Ends, Marker, external_event
from ssmprof.records import median


def trace(
    call: Callable[[], Any],
    replays: int,
    mark_cost_s: float,
    module: torch.nn.Module | None = None,
) -> tuple[list[Interval], float]:
    """Seconds of every op of `call`: one value per op, a difference of two medians; and the whole.

    The marks at the two ends are in every total and cancel, but for the first op's.
    """
    intervals = capture(call, Marker(external_event), module=module).intervals
    totals = [mark_cost_s]
    for length in range(1, len(intervals) + 1):
        prefix = capture(call, Prefix(length), module=module)
        prefix.replay_s()
        totals.append(median(sum(prefix.replay_s()) for _ in range(replays)))
    for interval, before, after in zip(intervals, totals, totals[1:], strict=False):
        interval.times_s = (after - before,)
    ends = capture(call, Ends(external_event))
    ends.replay_s()
    whole = median(sum(ends.replay_s()) for _ in range(replays)) - mark_cost_s
    return intervals, whole
