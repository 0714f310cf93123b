"""The answer as data: who wins where, for one metric under one set of conditions, and how surely.

`compare.envelope` makes it; heading, cards, figures, tables, exports and commands only read it.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from ssmprof.analysis.findings import (
    CurvePoint,
    Dominance,
    Finding,
    Grade,
    Interval,
    Metric,
)
from ssmprof.records import Conditions

CrossingKind = Literal["zone", "capacity", "unresolved"]
Why = Literal["clean", "jagged", "slow", "noisy", "budget", "capacity", "provider"]
# What may limit an answer; `decide.trust` says when, with which grade, and how to improve it.
LimitKind = Literal[
    "never-examined", "examination-error", "examination-warning", "process-noise", "throttled",
    "power-cap", "noisy", "few-processes", "two-modes", "depends-on-clocks", "clocks-unknown",
    "published", "mixed-software", "closure", "unnamed", "torn-lines", "crash", "timeout",
    "unsupported", "below-timer", "partial-pass", "unsettled", "clock-pin", "swapped",
    "providers-disagree", "apart", "unequal-slices",
]  # fmt: skip


class RatioPoint(Finding, frozen=True, kw_only=True):
    """Metric of `block` over that of `other` at one length.

    `interval` is the one that decides: `sign` is -1 where `block` is certainly lower, 1 where it is
    higher, 0 where neither is certain; `equal` says that the whole interval lies within the tie.
    `turns`: both took turns in one process. `cycles` is the ratio of latencies in SM cycles, where
    the clocks are known.
    """

    context: int
    ratio: float
    interval: Interval
    sign: Literal[-1, 0, 1]
    equal: bool
    processes: int
    turns: bool = False
    cycles: float | None = None
    depends_on_clocks: bool = False

    @property
    def status(self) -> Literal["faster", "equal", "not-resolved"]:
        """Whether one is certainly lower, both are equal, or neither is known."""
        return "faster" if self.sign else "equal" if self.equal else "not-resolved"


class Segment(Finding, frozen=True, kw_only=True):
    """Neighbouring lengths with the same winners (best first), from `low` to `high` tokens.

    One winner is faster than everybody else. Several are `equal`, or not resolved. `unsure` are
    lengths inside at which a single winner is not certain.
    """

    winners: tuple[str, ...]
    low_tokens: int
    high_tokens: int
    equal: bool = False
    unsure: tuple[int, ...] = ()


class Crossing(Finding, frozen=True, kw_only=True):
    """Where `before` hands over to `after`.

    zone        from `low_tokens`, the longest length certain for `before`, to `high_tokens`, the
                shortest certain for `after`; `why` says what made it as wide as it is
    capacity    `before` fits up to `low_tokens` and no longer at `high_tokens`
    unresolved  an end is not certain: None; with both ends `before` is certain at either, and
                between them `after` may win and lose again
    `context_tokens` is the one number to print, None unless the zone is narrow enough for one.
    `indifferent_*` bound the measured lengths at which the two differ by less than the tie, with
    `indifferent_except` inside; `contradictions` are certain lengths against the order (jags).
    `step` is the change of a provider that may have made the crossing.
    """

    before: str
    after: str
    kind: CrossingKind
    low_tokens: int | None
    high_tokens: int | None
    why: Why
    context_tokens: int | None = None
    indifferent_low_tokens: int | None = None
    indifferent_high_tokens: int | None = None
    indifferent_except: tuple[int, ...] = ()
    contradictions: tuple[int, ...] = ()
    cost_to_resolve_s: float | None = None
    step: str | None = None


class ClockCheck(Finding, frozen=True, kw_only=True):
    """Two contenders' latencies in seconds against the same in SM cycles.

    agree              both name the same winners, and switches within each other's intervals
    depends-on-clocks  they do not: at `contexts` (none where only the switch moves), and `text`
                       holds both figures
    unknown            the clock of some samples is not known; `text` says why
    `cycles` holds the ratio `block` over `other` in cycles, by context.
    """

    verdict: Literal["agree", "depends-on-clocks", "unknown"]
    text: str = ""
    contexts: tuple[int, ...] = ()
    cycles: dict[int, float] = {}


class Pair(Finding, frozen=True, kw_only=True):
    """Two contenders by themselves: their ratio at each common length, and their own crossings.

    `modes` holds the processes of each mode where they ran in several (a bistable choice).
    """

    block: str
    other: str
    points: tuple[RatioPoint, ...]
    segments: tuple[Segment, ...]
    crossings: tuple[Crossing, ...]
    modes: tuple[tuple[int, ...], ...] = ()
    clocks: ClockCheck | None = None

    def at(self, context: int) -> RatioPoint | None:
        """The pair at a measured length."""
        return next((one for one in self.points if one.context == context), None)


class Sustained(Finding, frozen=True, kw_only=True):
    """The same question under sustained load, each contender at its own clock.

    `agrees` is False where a sign at the ends or the middle of the zone is certainly opposite;
    `low_tokens` and `high_tokens` are the lengths looked at.
    """

    agrees: bool
    low_tokens: int
    high_tokens: int


class Standing(Finding, frozen=True, kw_only=True):
    """Who may be best at one measured length: one winner, equal ones, or those not resolved.

    `lead` is the runner-up over the best, with its interval.
    """

    context: int
    winners: tuple[str, ...]
    equal: bool
    absent: tuple[str, ...] = ()
    runner_up: str | None = None
    lead: RatioPoint | None = None


class Limit(Finding, frozen=True, kw_only=True):
    """One fact that limits an answer, in one sentence, with how to improve it."""

    kind: LimitKind
    grade: Grade
    text: str
    fix: str | None = None
    points: int = 0


class Answer(Finding, frozen=True, kw_only=True, gc=True, dict=True):
    """Who wins where, for one metric under one set of conditions: everything a page may say.

    `alone` names the one contender that fits at the longest lengths, and the last length at which
    another one does. `least_context` is the length below which nothing is decided (published runs).
    `pairs` are all of few contenders; of many, those that may decide (`pairs.deciding`).
    """

    conditions: Conditions
    metric: Metric
    tie: float
    contenders: tuple[str, ...]
    curves: tuple[CurvePoint, ...]
    standings: tuple[Standing, ...]
    segments: tuple[Segment, ...]
    crossings: tuple[Crossing, ...]
    pairs: tuple[Pair, ...]
    alone: tuple[str, int] | None = None
    failures: dict[str, dict[int, str]] = {}
    dominance: tuple[Dominance, ...] = ()
    sustained: Sustained | None = None
    least_context: int = 0
    grade: Grade = "A"
    limits: tuple[Limit, ...] = ()

    @property
    def key(self) -> tuple[Conditions, Metric]:
        """What tells one answer of a run from another."""
        return self.conditions, self.metric

    @property
    def withheld(self) -> Limit | None:
        """Why no verdict is given; None where one is."""
        return next((one for one in self.limits if one.grade == "D"), None)

    def point(self, block: str, context: int) -> CurvePoint | None:
        """One contender at one measured length."""
        return self._points.get((block, context))

    @cached_property
    def _points(self) -> dict[tuple[str, int], CurvePoint]:
        return {(one.block, one.context): one for one in self.curves}

    def pair(self, block: str, other: str) -> Pair | None:
        """Two contenders, in the order of the scenario."""
        wanted = {block, other}
        return next((one for one in self.pairs if {one.block, one.other} == wanted), None)

    def standing(self, context: int) -> Standing | None:
        """Who may be best at a measured length."""
        return self._standings.get(context)

    @cached_property
    def _standings(self) -> dict[int, Standing]:
        return {one.context: one for one in self.standings}

    @cached_property
    def contexts(self) -> list[int]:
        """Every length at which something was measured."""
        return sorted({one.context for one in self.curves})

    @cached_property
    def tried(self) -> list[int]:
        """Every length with an outcome, failures included."""
        failed = {context for found in self.failures.values() for context in found}
        return sorted(failed.union(self.contexts))
