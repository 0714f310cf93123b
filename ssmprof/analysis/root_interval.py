"""The 95 % interval of a crossover: hierarchical bootstrap of the root of the log ratio.

Rounds are drawn first, the same for both contenders and for all contexts, since a process serves
all contexts of its round; then samples within each. The medians of k rounds vary by s², noise of
their samples w² included, so drawing both gives the mean the variance (s²(k-1)/k + w²)/k where
Student's interval has (t/z)² s²/k: deviations are scaled by the root of that quotient.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ssmprof.analysis.curves import Curve
from ssmprof.analysis.findings import Interval
from ssmprof.analysis.stats import (
    DRAWS,
    LEAST_ROUNDS,
    bootstrap_medians,
    round_draws,
    t_over_z,
)

if TYPE_CHECKING:
    from ssmprof.analysis.stats import Array


def root_interval(
    ratios: Mapping[int, Mapping[int, float]], a: Curve, b: Curve, lo: int, hi: int
) -> tuple[Interval | None, Interval]:
    """Interval and range over rounds of the root of log(a / b) between contexts `lo` and `hi`.

    `ratios` is context -> round -> log ratio. The interval is None for fewer than three rounds and
    for numbers without any noise (bytes). One context beyond `lo` and `hi` may hold it, no more.
    """
    import numpy as np

    lengths = list(ratios)
    window = lengths[max(lengths.index(lo) - 1, 0) : lengths.index(hi) + 2]
    turns = sorted(turn for turn in ratios[lo] if all(turn in ratios[one] for one in window))
    if not turns:
        return None, (float(lo), float(hi))
    f: Array = np.array([[ratios[context][turn] for context in window] for turn in turns])
    single = _root_of_each(f, window)
    spread = (float(single.min()), float(single.max()))
    if len(turns) < LEAST_ROUNDS or not np.ptp(f, axis=0).any():
        return None, spread
    count = len(turns)
    pick = round_draws(count, DRAWS, seed=count)
    drawn: list[Array] = []
    for index, context in enumerate(window):
        medians = _log_medians(a[context], turns, f"a {context}")
        medians = medians - _log_medians(b[context], turns, f"b {context}")
        centre = f[:, index].mean()
        between, within = f[:, index].var(ddof=1), medians.var(axis=0).mean()
        total = between * (count - 1) / count + within
        scale = t_over_z(count) * np.sqrt(between / total) if total else 0.0
        means = np.take_along_axis(medians, pick, axis=1).mean(axis=1)
        drawn.append(centre + scale * (means - centre))
    low, high = np.quantile(_root_of_each(np.stack(drawn, axis=1), window), [0.025, 0.975])
    return (float(low), float(high)), spread


def _log_medians(rounds: Mapping[int, Sequence[float]], turns: Sequence[int], seed: str) -> Array:
    import numpy as np

    samples = [rounds[turn] for turn in turns]
    return np.log(bootstrap_medians(samples, DRAWS, seed=zlib.crc32(seed.encode())))


def _root_of_each(f: Array, contexts: Sequence[int]) -> Array:
    """Root of each row of f (rows, contexts), the middle of the first and last where several.

    A row without a root has it beyond the end it has not yet turned at: that end is returned.
    """
    import numpy as np

    x: Array = np.log(np.asarray(contexts, dtype=np.float64))
    left, right = f[:, :-1], f[:, 1:]
    turns: Any = (left * right < 0) | (left == 0)
    share: Array = np.divide(left, left - right, out=np.zeros_like(left), where=left != right)
    at: Array = x[:-1] + share * np.diff(x)
    count = f.shape[1] - 1
    first = turns.argmax(axis=1)
    last = count - 1 - turns[:, ::-1].argmax(axis=1)
    rows = np.arange(len(f))
    middle: Array = (at[rows, first] + at[rows, last]) / 2
    rising = bool(f[:, -1].mean() > f[:, 0].mean())
    # A row that lies on the side where f ends has turned before the window, else after it.
    ended: Any = (f[:, -1] > 0) == rising
    beyond: Array = x[np.where(ended, 0, -1)]
    return np.exp(np.where(turns.any(axis=1), middle, beyond))
