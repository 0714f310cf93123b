"""Where the time of one call goes: the first route that works, its name and its error stored.

    graph-events    event nodes captured at every op boundary of a CUDA graph
    stream-events   events around each op while a spin holds the stream
    cupti           torch.profiler alone
    prefix-replay   graphs of the first k ops; an arbiter, only when asked for
    wall-clock      ops of a CPU model, timed as they run

Whatever a route cannot do is a stated reason (`Attribution.fallback`), and the next one is tried
(docs/how-it-works/attribution.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import torch

from ssmprof import limits
from ssmprof.errors import SsmprofError, nearest
from ssmprof.measure.attribution import (
    cupti,
    graph_events,
    marks,
    prefix_replay,
    stream_events,
    wall_clock,
)
from ssmprof.measure.attribution.intervals import (
    Interval,
    Untraceable,
    rows,
    total_s,
    unnamed_note,
)
from ssmprof.measure.attribution.mark_cost import mark_cost
from ssmprof.records import Attribution, Note, Route


@dataclass(slots=True)
class Request:
    """What to attribute, and how; `notes` collects why things were done otherwise."""

    call: Callable[[], Any]
    replays: int
    module: torch.nn.Module | None
    flush: Callable[[], None]
    names: bool
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Parts:
    """A route's answer. `gap_s` is part of the closure only where `gap_counts`."""

    intervals: list[Interval]
    whole_s: float
    marks: int = 0
    mark_cost_s: float = 0.0
    gap_s: float | None = None
    gap_counts: bool = False


def _graph_events(request: Request) -> Parts:
    reason = marks.external_events_work()
    if reason is not None:
        raise Untraceable(f"no event nodes: {reason}")
    traced = graph_events.Traced(request.call, module=request.module, flush=request.flush)
    traced.sample(request.replays)
    intervals, whole_s, cost_s = traced.finish(mark_cost())
    alone, seen = traced.ends.kernel_count, traced.marked.kernel_count
    if alone != seen:
        request.notes.append(f"the call runs {alone} kernels alone and {seen} when traced")
    gap_s = None
    if request.names:
        gap_s = _names(request, intervals, traced.turn, alone)
    return Parts(intervals, whole_s, len(traced.marked.marker.events), cost_s, gap_s)


def _names(
    request: Request, intervals: list[Interval], run: Callable[[], Any], last: int | None
) -> float | None:
    """Join CUPTI's names; without them the rows keep the driver's. Returns the gap in seconds."""
    try:
        cycles = cupti.profile(run, last=last)
        mismatch = cupti.join(intervals, cycles)
    except (RuntimeError, AssertionError) as error:
        mismatch, cycles = str(error), None
    if mismatch is not None:
        request.notes.append(f"CUPTI: {mismatch}")
    return None if cycles is None else cupti.gap_s(cycles)


def _stream_events(request: Request) -> Parts:
    sync = graph_events.find_sync(request.call)
    if sync is not None:
        raise Untraceable(sync)
    intervals, whole_s, count, cost_s = stream_events.trace(
        request.call, request.replays, module=request.module, flush=request.flush
    )
    return Parts(intervals, whole_s, count, cost_s)


def _cupti(request: Request) -> Parts:
    try:
        intervals, gap_s, whole_s = cupti.trace(request.call)
    except (RuntimeError, AssertionError) as error:
        raise Untraceable(f"CUPTI: {error}") from error
    return Parts(intervals, whole_s, gap_s=gap_s, gap_counts=True)


def _prefix_replay(request: Request) -> Parts:
    cost_s = mark_cost().kernel_s
    intervals, whole_s = prefix_replay.trace(request.call, request.replays, cost_s, request.module)
    return Parts(intervals, whole_s)


def _wall_clock(request: Request) -> Parts:
    intervals, gap_s, whole_s, cost_s = wall_clock.trace(
        request.call, request.replays, request.module
    )
    if not intervals:
        raise Untraceable("the call ran no op that could be seen")
    return Parts(intervals, whole_s, len(intervals), cost_s, gap_s, gap_counts=True)


# In order of trust. The arbiter is left out of the ladder: it costs a capture per op.
ROUTES: dict[Route, Callable[[Request], Parts]] = {
    "graph-events": _graph_events,
    "stream-events": _stream_events,
    "cupti": _cupti,
    "wall-clock": _wall_clock,
    "prefix-replay": _prefix_replay,
}
LADDER: dict[str, tuple[Route, ...]] = {
    "cuda": ("graph-events", "stream-events", "cupti"),
    "cpu": ("wall-clock",),
}


def attribute(
    call: Callable[[], Any],
    *,
    device: torch.device | str,
    whole_s: float | None = None,
    routes: Sequence[Route] | None = None,
    replays: int = 10,
    module: torch.nn.Module | None = None,
    flush: Callable[[], None] = lambda: None,
    names: bool = True,
    providers: Mapping[str, str] | None = None,
) -> Attribution:
    """Time every op of one call, which must have run before with these shapes.

    `whole_s` is the un-instrumented time that the parts are held against; None takes the route's
    own whole (for graph-events a second graph, replayed in turns with the parts). `module` is a
    foreign model whose submodules name the rows, `flush` empties the L2 cache before each replay,
    `names` asks CUPTI for kernel names and its own durations, `providers` names the implementation
    of each op. Raises Untraceable with every route's reason if none works.
    """
    ladder = routes if routes is not None else LADDER[torch.device(device).type]
    reasons: list[str] = []
    for route in ladder:
        if route not in ROUTES:
            raise SsmprofError(f'no timing route "{route}"{nearest(route, get_args(Route))}')
        request = Request(call, replays, module, flush, names)
        try:
            with torch.inference_mode():
                parts = ROUTES[route](request)
        except Untraceable as error:
            reasons.append(f"{route}: {error}")
            continue
        held_against = parts.whole_s if whole_s is None else whole_s
        if held_against <= 0:
            reasons.append(f"{route}: the whole call is below what can be timed")
            continue
        summed = total_s(parts.intervals) + (parts.gap_s or 0.0) * parts.gap_counts
        return Attribution(
            route=route,
            kernels=rows(parts.intervals, providers),
            whole_s=held_against,
            closure=abs(held_against - summed) / held_against,
            marks=parts.marks,
            mark_cost_s=parts.mark_cost_s,
            gap_s=parts.gap_s,
            fallback="; ".join(reasons + request.notes) or None,
        )
    raise Untraceable("; ".join(reasons))


def notes(attribution: Attribution) -> tuple[Note, ...]:
    """Tags a result earns: closure above target, a fallback, time without a family."""
    found: list[Note] = []
    target = limits.closure_target(attribution.route)
    if attribution.closure > target:
        withheld = attribution.closure > limits.CLOSURE_WITHHOLDS
        verdict = "; who dominates is withheld" if withheld else ""
        found.append(
            Note(
                kind="closure",
                text=f"parts miss the whole by {attribution.closure:.1%} "
                f"(target {target:.0%}){verdict}",
                value=attribution.closure,
            )
        )
    if attribution.fallback:
        found.append(Note(kind="route", text=f"{attribution.route}: {attribution.fallback}"))
    unnamed = unnamed_note(attribution.kernels)
    return (*found, unnamed) if unnamed is not None else tuple(found)


__all__ = ["LADDER", "ROUTES", "Untraceable", "attribute", "notes"]
