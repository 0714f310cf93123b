"""The verdict of one facet, in one sentence: nobody else in ssmprof words a result.

Says only what the measured contexts carry: never extrapolates, names ties, prefers a bracket to a
number the data cannot give, and can be withheld. `envelope` finds, this file words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from ssmprof.analysis.stats import LEAST_ROUNDS
from ssmprof.report.envelope import TIE, Boundary, Envelope, Segment, compared, envelope
from ssmprof.report.facets import Comparison, Metric, Name
from ssmprof.report.words import ratio_with_interval
from ssmprof.units import format_context

_BEST: dict[Metric, str] = {"latency": "fastest", "energy": "most frugal", "memory": "smallest"}
_COMPARED: dict[Metric, str] = {"latency": "faster", "energy": "more frugal", "memory": "smaller"}
_ON: dict[Metric, str] = {"latency": "On latency", "energy": "On energy", "memory": "On memory"}
# A switch on another metric is worth a sentence where it is this far from the first (ratio).
_DISAGREE = 1.25


@dataclass(frozen=True)
class Verdict:
    """The sentence for the heading, notes for the line below it, and what they were made from."""

    sentence: str
    notes: tuple[str, ...]
    envelope: Envelope | None
    withheld: bool = False
    map_first: bool = False

    @property
    def text(self) -> str:
        """Sentence and notes as plain text."""
        notes = [f"{note[0].upper()}{note[1:]}." for note in self.notes]
        return " ".join((self.sentence, *notes))


def verdict(
    facet: Comparison,
    *,
    tie: float = TIE,
    withheld: str | None = None,
    others: tuple[Comparison, ...] = (),
) -> Verdict:
    """The sentence for one facet. `withheld` is why the data cannot carry one; `others` are the
    same facet on other metrics, mentioned where they disagree."""
    if withheld:
        return Verdict(f"No verdict: {withheld.rstrip('.')}. See Trust.", (), None, withheld=True)
    measured = [curve for curve in facet.curves if curve.values]
    if not measured:
        return Verdict(_nothing(facet), (), None)
    if len(facet.curves) == 1:
        return Verdict("Only one contender was measured; nothing to compare.", (), None)
    found = envelope(facet, tie)
    sentence = _sentence(facet, found, tie)
    more = [text for other in others if (text := _disagreement(facet, found, other, tie))]
    return Verdict(
        " ".join([sentence, *more[:1]]),
        tuple(_notes(facet, found)),
        found,
        map_first=len(found.segments) > 3,
    )


def _nothing(facet: Comparison) -> str:
    reasons = sorted({failure.reason for c in facet.curves for failure in c.failures.values()})
    return (
        f"Nothing was measured: every point ended in {' or '.join(reasons)}."
        if reasons
        else ("Nothing was measured yet.")
    )


def _sentence(facet: Comparison, found: Envelope, tie: float) -> str:
    names = {curve.name.block: curve.name for curve in facet.curves}
    if not found.segments:
        return "No common length was measured; nothing to compare."
    only = _only_sentence(found, names)
    segments, boundaries = _without_capacity(found)
    if len(segments) > 3 and found.changes > 2:
        return f"No simple rule: the winner changes {found.changes} times."
    if len(segments) > 3:
        return "No simple rule: contenders are tied over much of the range."
    if not segments:
        return only or "Only one contender was measured; nothing to compare."
    if len(segments) == 1:
        return _one_segment(facet, found, segments[0], names, only, tie)
    text = _several(segments, boundaries, names)
    return f"{text} {only}" if only else text


def _without_capacity(found: Envelope) -> tuple[tuple[Segment, ...], tuple[Boundary, ...]]:
    """Segments won in a comparison: a last one that nobody else fits is the `only` sentence's."""
    if found.only is None:
        return found.segments, found.boundaries
    limit = found.only[1]
    kept = tuple(
        Segment(s.blocks, s.first, min(s.last, limit)) for s in found.segments if s.first <= limit
    )
    return kept, found.boundaries[: max(0, len(kept) - 1)]


def _only_sentence(found: Envelope, names: dict[str, Name]) -> str | None:
    if found.only is None:
        return None
    block, limit = found.only
    return f"Only {names[block].phrase} fits above {format_context(limit)} on this device."


def _one_segment(
    facet: Comparison,
    found: Envelope,
    segment: Segment,
    names: dict[str, Name],
    only: str | None,
    tie: float,
) -> str:
    contexts = [at for at in found.ties if segment.first <= at <= segment.last]
    if len(contexts) == 1 and not only:
        return _one_context(facet, segment, names)
    reach = f"({format_context(segment.first)} to {format_context(segment.last)})"
    if segment.tied:
        return " ".join(filter(None, [_tie_everywhere(facet, found, segment, names, tie), only]))
    winner = names[segment.blocks[0]].opening
    text = f"{winner} is {_BEST[facet.metric]} at every length measured {reach}."
    return f"{text} {only or 'No crossover in range.'}"


def _tie_everywhere(
    facet: Comparison, found: Envelope, segment: Segment, names: dict[str, Name], tie: float
) -> str:
    blocks = segment.blocks
    everyone = len(blocks) == sum(bool(curve.values) for curve in facet.curves)
    who = _count(len(blocks)) if everyone else _listed([names[block] for block in blocks])
    tied = [facet.curve(block) for block in blocks]
    lengths = [at for at in found.ties if segment.first <= at <= segment.last]
    values = [[curve.at(at) for curve in tied if at in curve.values] for at in lengths]
    close = all(max(here) <= min(here) * (1 + tie) for here in values)
    if close:
        return f"No difference: {who} are within {tie * 100:.0f} % at every length measured."
    return f"No difference shown: {who} cannot be told apart within their intervals at any length."


def _one_context(facet: Comparison, segment: Segment, names: dict[str, Name]) -> str:
    at = segment.first
    where = f"At {format_context(at)} tokens"
    if segment.tied:
        return f"{where} {_listed([names[block] for block in segment.blocks])} are tied."
    ranked = sorted((c for c in facet.curves if at in c.values), key=lambda c: c.at(at))
    lead = compared(facet, at)
    if lead is None:
        return f"{where} only {ranked[0].name.phrase} fits on this device."
    return (
        f"{where} {ranked[0].name.phrase} is {ratio_with_interval(lead)} "
        f"{_COMPARED[facet.metric]} than {ranked[1].name.phrase}."
    )


def _several(
    segments: tuple[Segment, ...], boundaries: tuple[Boundary, ...], names: dict[str, Name]
) -> str:
    """Two or three segments. A tie at an end is said as one; a wide bracket is given as one."""
    parts: list[str] = []
    tail = ""
    for index, segment in enumerate(segments):
        start = _edge(boundaries[index - 1], 1) if index else None
        end = _edge(boundaries[index], 0) if index < len(boundaries) else None
        who = [names[block] for block in segment.blocks]
        unit = " tokens" if index == 0 else ""
        if segment.tied and end is None:
            tail = f"; above that {_listed(who)} are tied"
        elif start is None:
            parts.append(f"{_either(who)} {_reach(segment, boundaries[0])} {end}{unit}")
        elif end is None:
            word = "from" if boundaries[-1].wide else "above"
            parts.append(f"{_either(who)} {word} {start}")
        else:
            parts.append(f"{_either(who)} from {start} to {end}")
    wide = [boundary for boundary in boundaries if boundary.wide]
    if len(boundaries) == 1 and wide and not tail:
        low, high = (format_context(at) for at in wide[0].bracket)
        tail = f"; the switch is between {low} and {high}"
    return f"Use {', '.join(parts)}{tail}."


def _reach(segment: Segment, boundary: Boundary) -> str:
    """How a first segment ends: at a crossover, at a measured length, or at its only length."""
    if boundary.wide:
        return "up to"
    if boundary.context is not None:
        return "below"
    return "at" if segment.first == segment.last else "up to"


def _edge(boundary: Boundary, side: int) -> str:
    """The switch as the sentence writes it: two digits of the root, or an end of a wide bracket."""
    if boundary.context is None or boundary.wide:
        return format_context(boundary.bracket[0 if boundary.context is None else side])
    return format_switch(boundary.context)


def format_switch(tokens: float) -> str:
    """A crossover as a heading writes it: two digits, since no third one is ever certain."""
    unit = 2**20 if tokens >= 2**20 else 2**10 if tokens >= 2**10 else 1
    scaled = tokens / unit
    digits = 1 - math.floor(math.log10(scaled)) if scaled > 0 else 0
    return format_context(round(scaled, digits) * unit)


def _count(number: int) -> str:
    return {2: "both", 3: "all three", 4: "all four", 5: "all five"}.get(number, f"all {number}")


def _listed(who: list[Name]) -> str:
    phrases = [name.phrase for name in who]
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _either(who: list[Name]) -> str:
    return " or ".join(name.phrase for name in who)


def _notes(facet: Comparison, found: Envelope) -> list[str]:
    notes = []
    if any(len(rounds) < LEAST_ROUNDS for c in facet.curves for rounds in c.values.values()):
        notes.append(f"fewer than {LEAST_ROUNDS} rounds at some points: ranges, no intervals")
    ties = [
        f"{format_context(zone.first)}–{format_context(zone.last)}"
        if zone.first != zone.last
        else format_context(zone.first)
        for zone in found.zones
    ]
    if ties:
        notes.append(f"ties at {', '.join(ties)}")
    for boundary in found.boundaries:
        if boundary.capacity:
            gone = facet.curve(boundary.before).name
            notes.append(f"{gone.phrase} does not fit above {format_context(boundary.bracket[0])}")
    longest = max(facet.contexts)
    for curve in facet.curves:
        reach = max(curve.values, default=0)
        if 0 < reach < longest and not facet.absent(curve.name.block, longest):
            notes.append(f"{curve.name.phrase} measured up to {format_context(reach)} only")
    return list(dict.fromkeys(notes))


def _disagreement(facet: Comparison, found: Envelope, other: Comparison, tie: float) -> str | None:
    """What another metric says, where its first switch differs from this one's."""
    if other.metric == facet.metric or sum(bool(c.values) for c in other.curves) < 2:
        return None
    theirs = envelope(other, tie)
    if not theirs.segments or not found.segments:
        return None
    on = _ON[other.metric]
    mine = _first_switch(found)
    here = _first_switch(theirs)
    if here and mine and (here[0], here[1]) == (mine[0], mine[1]):
        distance = here[2] / mine[2]
        if 1 / _DISAGREE < distance < _DISAGREE:
            return None
        when = "earlier" if distance < 1 else "later"
        return f"{on} the switch comes {when}, at {format_switch(here[2])}."
    if len(theirs.segments) == 1 and not theirs.segments[0].tied:
        winner = theirs.segments[0].blocks[0]
        if len(found.segments) == 1 and found.segments[0].blocks[0] == winner:
            return None
        name = next(curve.name for curve in other.curves if curve.name.block == winner)
        return f"{on}, {name.phrase} is best at every length measured."
    return None


def _first_switch(found: Envelope) -> tuple[str, str, float] | None:
    for (left, right), boundary in zip(pairwise(found.segments), found.boundaries, strict=True):
        if boundary.context is not None and not left.tied and not right.tied:
            return boundary.before, boundary.after, boundary.context
    return None
