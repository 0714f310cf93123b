"""The longest context that fits under a cap: predicted, tried, bisected and confirmed.

Logic only: `attempt` tries one context in a process of its own and says whether it fits, `predict`
gives the bytes a context should need. The last success is confirmed twice and the first failure
once, so that an answer never rests on a single try.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

# A prediction is trusted to this; the first try aims below the cap by it, the second above.
_MARGIN = 0.03
Verdict = Literal["fits", "does-not-fit"]


class Fit(Struct, frozen=True, kw_only=True):
    """What fits: `longest` is the longest context that ran (twice more), `failed` the shortest that
    did not (twice); None where the search met the end of its range instead."""

    longest: int | None
    failed: int | None
    predicted: int
    attempts: tuple[tuple[int, bool], ...]


def predicted_longest(predict: Callable[[int], float], cap_bytes: float, most: int) -> int:
    """Longest context whose predicted bytes stay within the cap, by bisection; 0 if none."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if predict(middle) <= cap_bytes else (low, middle)
    return low


def fit(
    predict: Callable[[int], float],
    attempt: Callable[[int], bool],
    *,
    cap_bytes: float,
    most: int,
    step: int = 1024,
) -> Fit:
    """Search multiples of `step` tokens up to `most` for the longest context that fits.

    Raises ValueError if `step` is not positive or `most` is shorter than a step.
    """
    if not 0 < step <= most:
        raise ValueError(f"step {step} must lie between 1 and {most}")
    tries: list[tuple[int, bool]] = []

    def fits(units: int) -> bool:
        answer = attempt(units * step)
        tries.append((units * step, answer))
        return answer

    guess = predicted_longest(predict, cap_bytes, most)
    top = most // step
    low, high = _bracket(fits, guess, top, step)
    while True:
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        # Confirmation: a success must succeed twice more, a failure fail once more.
        if low and not (fits(low) and fits(low)):
            low, high = low - 1, low
            continue
        if high <= top and fits(high):
            low, high = high, high + 1
            continue
        break
    return Fit(
        longest=low * step or None,
        failed=high * step if high <= top else None,
        predicted=guess,
        attempts=tuple(tries),
    )


def _bracket(fits: Callable[[int], bool], guess: int, top: int, step: int) -> tuple[int, int]:
    """(fits, does not fit) in steps, opened around the prediction; 0 and top + 1 are the ends."""
    low = min(top, max(1, int(guess * (1 - _MARGIN)) // step))
    if fits(low):
        high = min(top, max(low + 1, int(guess * (1 + _MARGIN)) // step + 1))
        while high > low and fits(high):
            low = high
            high = min(top, 2 * high)
            if low == top:
                return top, top + 1
        return low, max(high, low + 1)
    high = low
    low //= 2
    while low and not fits(low):
        high = low
        low //= 2
    return low, high
