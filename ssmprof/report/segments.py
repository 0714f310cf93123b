"""Two or three segments and the zones between them, worded as one sentence's middle."""

from __future__ import annotations

from collections.abc import Sequence

from ssmprof.analysis.compare.answer import Crossing, Segment, Why
from ssmprof.analysis.findings import Metric
from ssmprof.report.lines import View
from ssmprof.report.names import listed
from ssmprof.units import format_context

BEST: dict[Metric, str] = {
    "latency": "fastest", "hot-latency": "fastest", "energy": "most frugal", "memory": "smallest",
}  # fmt: skip
MOST_NAMED = 3  # contenders that a sentence names where noise hides which is best
_BETWEEN: dict[Why, str] = {
    "slow": "between them they differ by less than {tie}",
    "budget": "where between was not measured",
    "noisy": "between them noise hides who is {best}",
    "jagged": "between them they take turns",
    "provider": "between them an implementation changes",
}


def several(
    view: View, segments: Sequence[Segment], crossings: Sequence[Crossing], named: bool = True
) -> tuple[str, str]:
    """Two or three segments, and a tail: ends without one winner, or why a zone is wide. `named`
    says who may win at such an end."""
    names = view.names
    parts: list[str] = []
    tail = ""
    zones = [one for one in crossings if one.kind != "unresolved"]
    for index, segment in enumerate(segments):
        who = listed([names[block].phrase for block in segment.winners], "or")
        before = _between_segments(segments, zones, index - 1)
        after = _between_segments(segments, zones, index)
        unit = " tokens" if not parts else ""
        if len(segment.winners) > 1 and not segment.equal:
            if index == 0 and not _is_point(segment):
                where = f"below {format_context(segments[1].low_tokens)}"
            else:
                where = _on(segment)
            tail += f"; {where} {_hidden(view, segment, named)}"
            continue
        if segment.equal and index == len(segments) - 1:
            tail += f"; {_on(segment)} {_equal(view, segment)}"
            continue
        if index == 0:
            parts.append(f"{who} {_until(segment, after)}{unit}")
        elif after is None and index == len(segments) - 1:
            parts.append(f"{who} {_from(segment, before)}{unit}")
        else:
            start, end = _edge(before, segment.low_tokens, 1), _edge(after, segment.high_tokens, 0)
            reach = f"at {start}" if start == end else f"from {start} to {end}"
            parts.append(f"{who} {reach}{unit}")
    wide = [one for one in zones if one.kind == "zone" and one.context_tokens is None]
    if len(zones) == 1 and wide and not tail:
        tail = _why(view, wide[0])
    joined = " and ".join(parts) if len(parts) == 2 and wide else ", ".join(parts)
    return joined, tail


def _hidden(view: View, segment: Segment, named: bool) -> str:
    """What noise leaves open: which of two or three, if everybody else is certainly beaten."""
    who = segment.winners
    if not named or len(who) > MOST_NAMED or len(who) == len(view.measured):
        return f"noise hides who is {BEST[view.answer.metric]}"
    either = listed([view.names[block].phrase for block in who], "or")
    return f"{either}, noise hides which"


def _between_segments(
    segments: Sequence[Segment], zones: Sequence[Crossing], index: int
) -> Crossing | None:
    """The zone between one segment and the next."""
    if not 0 <= index < len(segments) - 1:
        return None
    left, right = segments[index], segments[index + 1]
    return next(
        (
            one
            for one in zones
            if one.before in left.winners
            and one.after in right.winners
            and (one.high_tokens or 0) <= right.high_tokens
            and left.low_tokens <= (one.low_tokens or left.low_tokens)
        ),
        None,
    )


def _edge(zone: Crossing | None, measured: int, side: int) -> str:
    """The one number of a zone, else its end on this side, else a measured length."""
    if zone is None:
        return format_context(measured)
    if zone.context_tokens is not None:
        return format_context(zone.context_tokens)
    return format_context((zone.low_tokens, zone.high_tokens)[side] or measured)


def _is_point(segment: Segment) -> bool:
    """Whether it is one length: nothing shorter, or nothing longer, was measured."""
    return segment.low_tokens == segment.high_tokens


def _on(segment: Segment) -> str:
    """Where a last segment lies: from a length on, or at the only one."""
    at = format_context(segment.low_tokens)
    return f"at {at}" if _is_point(segment) else f"from {at} on"


def _until(segment: Segment, zone: Crossing | None) -> str:
    """How a first segment ends: below a crossing, up to a measured length, at its only one."""
    certain = zone is None or zone.context_tokens is None
    if certain and (_is_point(segment) or (zone and zone.low_tokens == segment.low_tokens)):
        return f"at {format_context(segment.low_tokens)}"
    if zone is not None and zone.kind == "zone":
        return f"below {_edge(zone, segment.high_tokens, 0)}"
    return f"up to {format_context(segment.high_tokens)}"


def _from(segment: Segment, zone: Crossing | None) -> str:
    """How a last segment begins: above a crossing, from a measured length on, at its only one."""
    if zone is not None and zone.kind == "zone":
        if zone.context_tokens is not None:
            return "above"
        if zone.high_tokens == segment.high_tokens:
            return f"at {format_context(segment.high_tokens)}"
        return f"above {_edge(zone, 0, 1)}"
    return f"from {format_context(segment.low_tokens)}"


def _equal(view: View, segment: Segment) -> str:
    return f"{listed([view.names[block].phrase for block in segment.winners])} are equal"


def _why(view: View, zone: Crossing) -> str:
    text = _BETWEEN.get(zone.why)
    tie, best = f"{view.answer.tie:.0%}", BEST[view.answer.metric]
    return f"; {text.format(tie=tie, best=best)}" if text else ""
