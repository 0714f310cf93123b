"""The answer as it narrows, for who waits: `prefill: a | b between 4K and 8K ... 4,352-4,480`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ssmprof.harmless import one_line
from ssmprof.units import format_context, format_zone

if TYPE_CHECKING:
    from ssmprof.analysis.compare.answer import Answer, Crossing, Segment
    from ssmprof.records import Conditions


class Narrowing:
    """Remembers what was said of every zone, and says it again where it has changed."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._last: dict[str, str] = {}

    def changed(self, answers: Sequence[Answer]) -> Iterable[str]:
        """A line for every zone that is new or narrower, or for a question without any."""
        for one in answers:
            head = _label(one.conditions, [other.conditions for other in answers])
            for subject, zone in _told(one):
                key = f"{head}: {subject}"
                if self._last.get(key) == zone:
                    continue
                self._last[key] = zone
                first = self._first.setdefault(key, zone)
                yield one_line(f"{key} {first}" if first == zone else f"{key} {first} ... {zone}")


def _told(answer: Answer) -> Iterable[tuple[str, str]]:
    """Who hands over to whom, and where; of a question without a crossing who wins."""
    zones = [one for one in answer.crossings if one.kind != "unresolved"]
    for one in zones:
        yield f"{one.before} | {one.after}", _zone(one)
    if not zones and len(answer.segments) == 1:
        yield "no crossing:", _winner(answer.segments[0])


def _zone(one: Crossing) -> str:
    low, high = one.low_tokens, one.high_tokens
    if low is None or high is None or high <= low * 1.5:
        return format_zone(low, high)
    return f"between {format_context(low)} and {format_context(high)}"


def _winner(segment: Segment) -> str:
    who = ", ".join(segment.winners)
    if segment.equal:
        return f"{who} equal"
    return f"{who} first" if len(segment.winners) == 1 else f"{who} not told apart yet"


def _label(mine: Conditions, every: Sequence[Conditions]) -> str:
    """The phase, and what else tells this question from the others."""
    words: list[str] = [mine.phase]
    if len({one.batch for one in every}) > 1:
        words.append(f"batch {mine.batch}")
    if len({one.execution for one in every}) > 1:
        words.append(mine.execution)
    if len({one.logits for one in every}) > 1:
        words.append(f"{mine.logits} logits")
    return ", ".join(words)
