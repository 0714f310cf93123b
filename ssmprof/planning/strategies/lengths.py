"""The lengths that `decide` may choose: of the pilot, of a zoom, and of guards."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

_STEP = 1.015  # lengths of a zoom lie this far apart ...
_TOKENS = 16  # ... or so many tokens, since launches move with smaller ones
_TILE, _TILED_FROM = 64, 4096  # from here on multiples of what the kernels' tiles hold
_PILOT = 10
QUARTERS = 4  # guards per octave


def pilot(contexts: Sequence[int]) -> tuple[int, ...]:
    """At most ten of a grid's lengths, its ends included, evenly spread on a log scale."""
    if len(contexts) <= _PILOT:
        return tuple(contexts)
    low, high = contexts[0], contexts[-1]
    wanted = [low * (high / low) ** (step / (_PILOT - 1)) for step in range(_PILOT)]
    return tuple(sorted({min(contexts, key=lambda at: abs(math.log(at / w))) for w in wanted}))


def zoom(low: int, high: int) -> tuple[int, ...]:
    """Every length a zoom may choose over a range, the same for every crossing in it."""
    found: list[int] = []
    at = low
    while at <= high:
        found.append(at)
        if at < _TILED_FROM:
            at = max(round(at * _STEP), at + _TOKENS)
            at = _TILED_FROM if at > _TILED_FROM else at
        else:
            at = max(round(at * _STEP / _TILE), at // _TILE + 1) * _TILE
    return tuple(found)


def quarters(low: int, high: int) -> int:
    """Quarter octaves in a range."""
    return max(1, math.ceil(math.log2(high / low) * QUARTERS)) if high > low else 0


def guards(low: int, high: int, seed: int, stride: int = 1) -> tuple[int, ...]:
    """One random length in every `stride`-th quarter octave; half of them no multiple of a tile."""
    found: set[int] = set()
    for index, quarter in enumerate(range(stride // 2, quarters(low, high), stride)):
        start = low * 2 ** (quarter / QUARTERS)
        end = min(high, start * 2 ** (1 / QUARTERS))
        drawn = start * (end / start) ** random.Random(f"{seed}-guard-{quarter}").random()
        if index % 2 == 0:
            at = round(drawn / _TILE) * _TILE
        else:
            at = round(drawn)
            at += at % _TILE == 0
        if low <= at <= high:
            found.add(at)
    return tuple(sorted(found))


def around(at: float, lengths: Sequence[int], count: int) -> list[int]:
    """The `count` lengths nearest to one, on a log scale."""
    return sorted(sorted(lengths, key=lambda one: abs(math.log(one / at)))[:count])


def quarter_of(context: int, low: int) -> int:
    """Which quarter octave over the range a length lies in."""
    return math.floor(math.log2(context / low) * QUARTERS)


def neighbours(lengths: Sequence[int], low: int, high: int, count: int) -> list[int]:
    """So many lengths below `low` and above `high`."""
    below = [at for at in lengths if at < low]
    above = [at for at in lengths if at > high]
    return [*below[len(below) - count :], *above[:count]] if count else []
