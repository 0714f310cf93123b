"""Stretches inside a winner's range where another may well win, told apart from its segments.

The answer cuts such a range into segments; a sentence speaks of the range, and then of the doubt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from ssmprof.analysis.compare.answer import Crossing, Segment


def is_doubt(one: Crossing) -> bool:
    """Whether `before` is certain at both ends, and only between them `after` may win."""
    return one.kind == "unresolved" and None not in (one.low_tokens, one.high_tokens)


def joined(
    segments: Sequence[Segment], crossings: Iterable[Crossing]
) -> tuple[list[Segment], list[Crossing]]:
    """Segments as if there were no doubt inside them, and the doubts."""
    found, doubts = list(segments), []
    for one in filter(is_doubt, crossings):
        for at in range(len(found) - 2):
            first, last = found[at], found[at + 2]
            if (first.high_tokens, last.low_tokens) == (one.low_tokens, one.high_tokens):
                found[at : at + 3] = [_one(first, last)]
                doubts.append(one)
                break
    return found, doubts


def _one(first: Segment, last: Segment) -> Segment:
    return replace(first, high_tokens=last.high_tokens, unsure=(*first.unsure, *last.unsure))
