"""Where a surface is looked at: the lattice of a scenario, its first points and its held-out ones.

Held-out points are measured like the others and never used to predict: the page says how far what
lies between the others misses them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise

from ssmprof.scalars import Phase
from ssmprof.spec import Sweep

Place = tuple[int, int]  # batch, context
BAR = 0.05  # a point that lies between others is predicted as well as this
_DRAWN = {"decode": 8, "prefill": 4}  # held-out points of each


def batches(sweep: Sweep, phase: Phase) -> tuple[int, ...]:
    """Batches that a surface may be measured at; prompts are read one at a time."""
    return sweep.batch if phase == "decode" else sweep.batch[:1]


def first(axis: Sequence[int]) -> list[int]:
    """Both ends of an axis and its middle, on a log scale."""
    if len(axis) < 3:
        return list(axis)
    return [axis[0], middle(axis, axis[0], axis[-1]) or axis[0], axis[-1]]


def first_lengths(sweep: Sweep, phase: Phase) -> list[int]:
    """Lengths that are looked at first: where prompts begin to be read in chunks, too."""
    found = set(first(sweep.contexts))
    if phase == "prefill" and sweep.chunk in sweep.contexts:
        found.add(sweep.chunk)
    return sorted(found)


def middle(axis: Sequence[int], low: int, high: int) -> int | None:
    """The value of an axis nearest to the geometric mean of two; None where none lies between."""
    inside = [at for at in axis if low < at < high]
    mean = math.sqrt(low * high)
    return min(inside, key=lambda at: abs(math.log(at / mean)), default=None)


def held_out(sweep: Sweep, phase: Phase, seed: int) -> tuple[Place, ...]:
    """Points that predict nothing: drawn by the seed from all but the first, over all lengths."""
    ways = batches(sweep, phase)
    begun = {(b, at) for b in first(ways) for at in first_lengths(sweep, phase)}
    lattice = [(b, at) for at in sweep.contexts for b in ways if (b, at) not in begun]
    count = min(_DRAWN[phase], len(lattice) // 3)
    draw = random.Random(f"{seed}-held-out-{phase}")
    ends = [len(lattice) * part // count for part in range(count + 1)] if count else []
    return tuple(sorted(draw.choice(lattice[low:high]) for low, high in pairwise(ends)))
