"""Student's t, and how much of an error may be spent at each look at a growing number of visits."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from ssmprof import limits


def spent(visits: int) -> float:
    """Error that may be spent at the look after so many visits, of `END_ERROR` in all.

    The increment of O'Brien and Fleming's spending function at `visits` of `LAST_LOOK`.
    """
    look = min(max(visits, limits.FIRST_LOOK), limits.LAST_LOOK)
    before = 0.0 if look == limits.FIRST_LOOK else _spending((look - 1) / limits.LAST_LOOK)
    return _spending(look / limits.LAST_LOOK) - before


@cache
def _spending(share: float) -> float:
    from scipy.special import ndtr, ndtri  # pyright: ignore[reportMissingTypeStubs]

    edge: Any = ndtri(1 - limits.END_ERROR / 2)
    return float(2 * (1 - ndtr(edge / math.sqrt(share))))  # type: ignore[operator]


@cache
def tail(t: float, df: float) -> float:
    """Chance that Student's t exceeds this value."""
    from scipy.special import ndtr, stdtr  # pyright: ignore[reportMissingTypeStubs]

    found: Any = ndtr(-t) if math.isinf(df) else stdtr(df, -t)
    return float(found)


@cache
def quantile(chance: float, df: float) -> float:
    """Student's t with this chance above it."""
    from scipy.special import ndtri, stdtrit  # pyright: ignore[reportMissingTypeStubs]

    found: Any = ndtri(1 - chance) if math.isinf(df) else stdtrit(df, 1 - chance)
    return float(found)
