"""Which points are not worth another death: those beyond two that lacked room or time.

The first failing context of a curve is a fact, one larger context is still tried in case the first
death was an accident, and what lies beyond is skipped with the prediction that explains it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ssmprof.records import Failure, FailureReason, Outcome, Point
from ssmprof.units import format_bytes

# Both grow with the context; a crash or an unsupported shape says nothing about a longer one.
_GROWING: tuple[FailureReason, ...] = ("out-of-memory", "timeout")
_WORDS = {"out-of-memory": "ran out of memory", "timeout": "ran past the time limit"}
_ENOUGH = 2

Curve = tuple[object, ...]


def _curve(point: Point) -> Curve:
    """Points that differ in context alone share a curve."""
    return (
        point.block_digest, point.phase, point.batch, point.dtype, point.execution, point.logits,
        point.seed,
    )  # fmt: skip


class Limits:
    """Remembers failures of this run, earlier sessions included, and judges what comes next."""

    def __init__(self, known: Iterable[Outcome] = ()) -> None:
        self._failed: dict[tuple[Curve, str], list[int]] = defaultdict(list)
        for outcome in known:
            self.learn(outcome)

    def learn(self, outcome: Outcome) -> None:
        """Note an outcome."""
        if isinstance(outcome, Failure) and outcome.reason in _GROWING:
            self._failed[_curve(outcome.point), outcome.reason].append(outcome.point.context)

    def verdict(self, point: Point, predicted_bytes: int | None = None) -> str | None:
        """Why the point is skipped, or None where it is worth trying."""
        for reason in _GROWING:
            failed = self._failed.get((_curve(point), reason), [])
            shorter = sorted({context for context in failed if context < point.context})
            if len(shorter) >= _ENOUGH:
                text = f"{shorter[0]:,} and {shorter[1]:,} tokens {_WORDS[reason]}"
            elif failed.count(point.context) >= _ENOUGH:
                text = f"{point.context:,} tokens {_WORDS[reason]} in two rounds"
            else:
                continue
            if predicted_bytes is not None:
                text += f"; predicted: {format_bytes(predicted_bytes)}"
            return text
        return None
