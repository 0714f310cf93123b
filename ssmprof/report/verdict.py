"""The verdict of one answer, in one sentence: nobody else in ssmprof words a result.

`analysis` has found who wins where; this file (`segments` for several) words it in at most 120
characters, without statistics. It never extrapolates, prefers a zone to a number the data cannot
give, and says why a zone is wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ssmprof.analysis.compare.answer import Answer, Crossing, Segment
from ssmprof.analysis.findings import Dominance, Metric
from ssmprof.limits import LEAST_PROCESSES
from ssmprof.report.doubts import joined
from ssmprof.report.lines import View
from ssmprof.report.names import Names, listed
from ssmprof.report.segments import BEST, several
from ssmprof.report.words import ratio_with_interval
from ssmprof.units import format_context, format_duration, format_zone

MOST_CHARACTERS = 120
_COMPARED: dict[Metric, str] = {
    "latency": "faster", "hot-latency": "faster", "energy": "more frugal", "memory": "smaller",
}  # fmt: skip
# A switch on another metric is worth a sentence where it is this far from the first (ratio).
_DISAGREE = 1.25
_OPENINGS = ("Use", "The", "No", "Not", "At", "Only", "Nothing")  # words that are no names


@dataclass(frozen=True)
class Verdict:
    """The sentence for the heading, and notes for the line below it."""

    sentence: str
    notes: tuple[str, ...] = ()
    withheld: bool = False

    @property
    def text(self) -> str:
        """Sentence and notes as plain text."""
        notes = [f"{note[0].upper()}{note[1:]}." for note in self.notes]
        return " ".join((self.sentence, *notes))


def verdict(view: View, others: Sequence[View] = ()) -> Verdict:
    """The sentence for one answer; `others` are the same conditions in other metrics."""
    answer = view.answer
    if answer.withheld is not None:
        return Verdict(f"No verdict: {_lower(answer.withheld.text)} See Trust.", (), withheld=True)
    if not view.measured:
        return Verdict(_nothing(answer))
    if len(view.lines) == 1:
        return Verdict("Only one contender was measured; nothing to compare.")
    if not answer.segments and answer.least_context > max(answer.contexts):
        return Verdict(_too_short(answer))
    if not answer.segments:
        return Verdict("No common length was measured; nothing to compare.")
    found, more = _sentences(view)
    first = _fitting(found, view)
    extras = [*more, *(text for other in others if (text := _elsewhere(view, other)))]
    limits = {one.kind for one in answer.limits}
    if "unequal-slices" in limits:
        extras.insert(0, "Slices need not rank as whole models do.")
    if "depends-on-clocks" in limits:
        extras.append("This depends on clocks.")
    sentence = _from_length(answer, first)
    rest: list[str] = []
    for text in extras:
        if len(sentence) + len(text) < MOST_CHARACTERS:
            sentence = f"{sentence} {text}"
        else:
            rest.append(_lower(text).rstrip("."))
    return Verdict(sentence, (*rest, *_notes(view)))


def _fitting(found: Sequence[str], view: View) -> str:
    """The first of several wordings that is short enough for a heading, the fullest first."""
    room = MOST_CHARACTERS - (24 if view.answer.least_context else 0)
    short = [one for one in found if len(one) <= room]
    return short[0] if short else "The winner changes with the length: the zones below say where."


def dominance(found: Iterable[Dominance], names: Names) -> str:
    """From which length the scans own half of the device time, and in whom."""
    mine = [one for one in found if one.of == "device" and one.family == "scan"]
    never = [one for one in mine if one.kind == "never"]
    alike: dict[str, list[Dominance]] = {}
    for one in mine:
        if one.kind != "never":
            alike.setdefault(_where(one), []).append(one)
    texts = [_owns(where, those, names) for where, those in alike.items()]
    if never:
        most = max(never, key=lambda one: one.peak_share)
        texts.append(
            f"in {_listed(never, names)} they never do (at most {most.peak_share:.0%}, "
            f"at {format_context(most.peak_tokens)})"
        )
    return f"Scan kernels own half of the device time: {'; '.join(texts)}." if texts else ""


def resolving(cost_s: float) -> str:
    """What deciding the zones that are open would cost."""
    return f"about {format_duration(max(1.0, cost_s))} more would decide it"


def _where(one: Dominance) -> str:
    zone = format_zone(one.low_tokens, one.high_tokens)
    return {
        "throughout": "at every length",
        "from": f"from {zone} tokens on",
        "up-to": f"up to {zone} tokens",
        "several": f"in parts of {zone} tokens",
        "unresolved": "not resolved",
    }[one.kind]


def _owns(where: str, those: list[Dominance], names: Names) -> str:
    most = max(one.peak_share for one in those)
    limit = f" (at most {most:.0%})" if those[0].kind == "unresolved" else ""
    return f"in {_listed(those, names)} {where}{limit}"


def _listed(those: list[Dominance], names: Names) -> str:
    return listed([
        names[one.block].phrase if one.block in names else one.block for one in those
    ])  # fmt: skip


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _from_length(answer: Answer, text: str) -> str:
    """Published runs decide from some length on, and say so."""
    if not answer.least_context:
        return text
    opening, _, rest = text.partition(" ")
    opening = opening.lower() if opening in _OPENINGS else opening
    return f"From {format_context(answer.least_context)} tokens on: {opening} {rest}"


def _nothing(answer: Answer) -> str:
    reasons = sorted({reason for found in answer.failures.values() for reason in found.values()})
    if reasons:
        return f"Nothing was measured: every point ended in {' or '.join(reasons)}."
    return "Nothing was measured yet."


def _too_short(answer: Answer) -> str:
    return (
        f"No finding: every length was shorter than {format_context(answer.least_context)} tokens, "
        "where these times do not compare."
    )


def _sentences(view: View) -> tuple[list[str], list[str]]:
    """Wordings of the main sentence, the fullest first, and what may follow it."""
    answer = view.answer
    more: list[str] = []
    segments, crossings = list(answer.segments), list(answer.crossings)
    if answer.alone is not None:
        block, limit = answer.alone
        who = view.names[block].phrase
        more.append(f"Only {who} fits above {format_context(limit)} tokens on this device.")
        segments, crossings = _below(segments, crossings, limit)
    if not segments:
        return more[:1], more[1:]
    segments, doubts = joined(segments, crossings)
    switches = [one for one in crossings if one.kind != "unresolved"]
    if len(segments) > 3:
        changes = len(switches)
        if changes > 2:
            return [f"No simple rule: the winner changes {changes} times."], more
        return ["No simple rule: over much of the range no winner is certain."], more
    doubt, short = _doubted(view, doubts)
    if len(segments) > 1 and all(len(one.winners) > 1 and not one.equal for one in segments):
        reach = f"{format_context(segments[0].low_tokens)} to "
        reach += format_context(segments[-1].high_tokens)
        return [f"Not resolved: noise hides who is {BEST[answer.metric]} ({reach})."], more
    if len(segments) == 1:
        found = _one_segment(view, segments[0], doubtful=bool(doubts))
        ends = dict.fromkeys((doubt, short))
        return [f"{one}{end}." for end in ends for one in found], more
    told, tail = several(view, segments, crossings)
    _, plain = several(view, segments, crossings, named=False)
    tails = (f"{one}{end}" for one in (tail, plain) for end in (doubt, short))
    ends = dict.fromkeys((*tails, doubt, short))
    opening = f"Use {told}" if told else "No winner is certain"
    return [f"{opening}{end}." for end in ends], more


def _doubted(view: View, doubts: Sequence[Crossing]) -> tuple[str, str]:
    """Where inside a winner's range another may win: in full, and without saying who."""
    if not doubts:
        return "", ""
    if len(doubts) > 1:
        text = f"; not certain in {len(doubts)} stretches between"
        return text, text
    (one,) = doubts
    who, better = view.names[one.after].phrase, _COMPARED[view.answer.metric]
    ends = " and ".join(format_context(end or 0) for end in (one.low_tokens, one.high_tokens))
    return f"; between {ends} {who} may be {better}", f"; not certain between {ends}"


def _below(
    segments: list[Segment], crossings: list[Crossing], limit: int
) -> tuple[list[Segment], list[Crossing]]:
    """What was won in a comparison: a last segment that nobody else fits is a sentence of its own.

    A last segment that begins before the limit stays.
    """
    kept = [one for one in segments if one.low_tokens <= limit]
    cut = [one for one in crossings if one.kind != "capacity" or (one.high_tokens or 0) <= limit]
    return kept, cut


def _one_segment(view: View, segment: Segment, doubtful: bool) -> list[str]:
    """Without its full stop: where there are doubts inside, they follow."""
    answer = view.answer
    low, high = segment.low_tokens, segment.high_tokens
    reach = f"({format_context(low)} to {format_context(high)})"
    names = [view.names[block] for block in segment.winners]
    everywhere = "" if doubtful else " at every length measured"
    if low == high:
        return [_one_context(view, segment), "The zones below say who is ahead"]
    if segment.equal:
        counted = _count(len(names), view)
        who = listed([name.phrase for name in names]) if counted is None else counted
        rest = f"are within {answer.tie:.0%}{everywhere} {reach}"
        many = f"{len(names)} contenders"
        return [f"No difference: {who} {rest}", f"No difference: {many} {rest}"]
    if len(names) > 1:
        return [f"Not resolved: noise hides who is {BEST[answer.metric]} {reach}"]
    best, opening = BEST[answer.metric], names[0].opening
    if segment.unsure:
        at = listed([format_context(one) for one in segment.unsure[:3]])
        more = "" if len(segment.unsure) <= 3 else " and more"
        return [
            f"{opening} is {best} {reach}; at {at}{more} that is not certain",
            f"{opening} is {best} {reach}; at {len(segment.unsure)} lengths not certainly",
        ]
    return [
        f"{opening} is {best}{everywhere} {reach}",
        f"{opening} is {best} {reach}",
    ]


def _count(number: int, view: View) -> str | None:
    """`both`, `all three`, where these are all contenders."""
    if number != len(view.measured):
        return None
    return {2: "both", 3: "all three", 4: "all four", 5: "all five"}.get(number, f"all {number}")


def _one_context(view: View, segment: Segment) -> str:
    answer, at = view.answer, segment.low_tokens
    where = f"At {format_context(at)} tokens"
    here = view.here(at)
    if len(here) == 1:
        return f"{where} only {here[0].name.phrase} fits on this device"
    who = listed([view.names[block].phrase for block in segment.winners])
    if segment.equal:
        return f"{where} {who} are equal (within {answer.tie:.0%})"
    if len(segment.winners) > 1:
        return f"{where} it is not resolved who is {BEST[answer.metric]}: {who}"
    standing = answer.standing(at)
    assert standing is not None
    assert standing.lead is not None, "two contenders were measured there"
    assert standing.runner_up is not None
    return (
        f"{where} {who} is {ratio_with_interval(standing.lead)} "
        f"{_COMPARED[answer.metric]} than {view.names[standing.runner_up].phrase}"
    )


def _notes(view: View) -> list[str]:
    answer = view.answer
    notes: list[str] = []
    processes = min((one.estimate.rounds for one in answer.curves), default=0)
    # In turn a length far from any crossing is rightly left to few processes.
    in_turn = any(one.turns for pair in answer.pairs for one in pair.points)
    told = any(one.kind == "few-processes" for one in answer.limits)
    if processes < LEAST_PROCESSES and not told and not in_turn:
        notes.append(f"fewer than {LEAST_PROCESSES} processes at some points: ranges, no intervals")
    for one in answer.crossings:
        if one.kind == "zone" and one.context_tokens is not None:
            notes.append(f"the switch lies at {format_zone(one.low_tokens, one.high_tokens)}")
        if one.indifferent_low_tokens is not None:
            zone = format_zone(one.indifferent_low_tokens, one.indifferent_high_tokens)
            notes.append(f"within {answer.tie:.0%} at {zone}")
        if one.kind == "capacity":
            gone = view.names[one.before].phrase
            notes.append(f"{gone} does not fit above {format_context(one.low_tokens or 0)}")
    if cost_s := math.fsum(one.cost_to_resolve_s or 0.0 for one in answer.crossings):
        notes.append(resolving(cost_s))
    load = answer.sustained
    if load is not None and not load.agrees:
        zone = format_zone(load.low_tokens, load.high_tokens)
        notes.append(f"under sustained load, each at its own clock, the order turns at {zone}")
    longest = max(answer.contexts, default=0)
    absent = {name for one in answer.standings if one.context == longest for name in one.absent}
    for line in view.measured:
        if line.contexts[-1] < longest and line.name.block not in absent:
            reach = format_context(line.contexts[-1])
            notes.append(f"{line.name.phrase} was measured up to {reach} only")
    return list(dict.fromkeys(notes))


def _elsewhere(view: View, other: View) -> str | None:
    """What another metric says, where its first switch differs from this one's."""
    mine, theirs = view.answer, other.answer
    if theirs.metric == mine.metric or len(other.measured) < 2 or not theirs.segments:
        return None
    here, there = _first_switch(mine), _first_switch(theirs)
    on = f"On {theirs.metric}"
    if here and there and (here.before, here.after) == (there.before, there.after):
        ends = [(one.low_tokens or 0, one.high_tokens or 0) for one in (here, there)]
        if ends[1][1] * _DISAGREE < ends[0][0] or ends[1][0] > ends[0][1] * _DISAGREE:
            when = "earlier" if ends[1][1] < ends[0][0] else "later"
            zone = format_zone(there.low_tokens, there.high_tokens, there.context_tokens)
            return f"{on} the switch comes {when}, at {zone}."
        return None
    if len(theirs.segments) == 1 and len(theirs.segments[0].winners) == 1:
        winner = theirs.segments[0].winners[0]
        if len(mine.segments) == 1 and mine.segments[0].winners == (winner,):
            return None
        return f"{on}, {view.names[winner].phrase} is best at every length measured."
    return None


def _first_switch(answer: Answer) -> Crossing | None:
    return next((one for one in answer.crossings if one.kind == "zone"), None)
