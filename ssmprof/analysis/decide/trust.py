"""How far an answer can be believed: its grade, and the few facts that limit it.

Grades: A nothing to note · B noted, without measurable effect · C effects that widen the zones or
move them · D verdict withheld. `RULES` says which fact has which grade and what mends it; a fact is
found once per set of conditions, and the same for page, terminal and JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ssmprof import limits
from ssmprof.analysis.compare.answer import Limit, LimitKind, Pair
from ssmprof.analysis.findings import Grade
from ssmprof.records import (
    Conditions,
    Environment,
    Failure,
    FailureReason,
    Measurement,
    NoteKind,
    Outcome,
    Run,
)

SHOWN = 3  # facts told in one breath
_MAKES_CLOCKS_FREE = "lock the clocks: ssmprof doctor prints the command"


class Rule(NamedTuple):
    """Grade of a kind of fact, when it holds (for the documents), and what mends it."""

    grade: Grade
    when: str
    fix: str | None = None


RULES: dict[LimitKind, Rule] = {
    "never-examined": Rule(
        "D", "the machine was never examined", "ssmprof sweep without --no-doctor"
    ),
    "throttled": Rule(
        "C",
        f"a point ran below {limits.THROTTLED_CLOCK:.0%} of the highest clock; D above "
        f"{limits.THROTTLED_WITHHOLDS:.0%} of the points",
        "improve cooling or lock the clocks: ssmprof doctor prints the command",
    ),
    "process-noise": Rule(
        "C",
        f"equal calls in two processes differ by more than {limits.PROCESS_NOISE:.0%}; D above "
        f"{limits.PROCESS_NOISE_WITHHOLDS:.0%}",
        "stop what else runs on this machine, then sweep again",
    ),
    "depends-on-clocks": Rule(
        "C", "a comparison comes out otherwise in SM cycles", f"{_MAKES_CLOCKS_FREE}, then sweep"
    ),
    "two-modes": Rule(
        "C", "processes of one contender ran in two modes", "ssmprof sweep --resume RUN"
    ),
    "power-cap": Rule("C", "points ran at the power limit", _MAKES_CLOCKS_FREE),
    "few-processes": Rule(
        "C", f"fewer than {limits.LEAST_PROCESSES} processes", "ssmprof sweep --rounds 5"
    ),
    "noisy": Rule(
        "C",
        f"more than {limits.NOISY_POINTS:.0%} of the points stayed noisy; B below",
        "ssmprof sweep --resume RUN --rerun-noisy",
    ),
    "published": Rule("C", "numbers published by others"),
    "mixed-software": Rule("C", "points come from different software"),
    "examination-error": Rule("C", "the examination found an error", "ssmprof doctor"),
    "closure": Rule(
        "B",
        "parts of some points miss the whole by more than their target; C above "
        f"{limits.CLOSURE_WITHHOLDS:.0%}: their shares are left out",
        "ssmprof doctor; whole times are not affected",
    ),
    "clocks-unknown": Rule("B", "no SM clock was read beside the samples of some comparisons"),
    "providers-disagree": Rule("B", "two processes chose different implementations"),
    "clock-pin": Rule("B", "clocks were unpinned during a block", "pin them again and sweep"),
    "swapped": Rule("B", "the board swapped during a timing that was taken again"),
    "unsettled": Rule("B", "calls had not settled when warm-up ended", "a longer time budget"),
    "unnamed": Rule(
        "B", f"kernels without a family took more than {limits.UNNAMED:.0%} of a point's time"
    ),
    "below-timer": Rule("B", "points took less time than can be measured"),
    "partial-pass": Rule("B", "a pass beside the latency failed at some points"),
    "crash": Rule("B", "points crashed"),
    "timeout": Rule("B", "points ran out of time"),
    "unsupported": Rule("B", "points are not supported here"),
    "torn-lines": Rule("B", "lines of the journal could not be read", "ssmprof sweep --resume RUN"),
    "examination-warning": Rule("B", "the examination found something to note", "ssmprof doctor"),
}
# Kind of a point's tag -> the limit it makes, what is said of so many points.
_TAGGED: dict[NoteKind, tuple[LimitKind, str]] = {
    "power-cap": ("power-cap", "ran at the power limit"),
    "warm-up": ("unsettled", "had not settled after warm-up"),
    "swapped": ("swapped", "swapped and were timed again"),
    "clock": ("clock-pin", "lost their pinned clocks"),
    "below-timer": ("below-timer", "took less time than can be measured"),
    "broken-pass": ("partial-pass", "lost a pass beside their latency"),
    "unnamed": ("unnamed", "spent time in kernels without a family"),
}


@dataclass(frozen=True)
class Evidence:
    """What the facts of one answer are looked up in."""

    run: Run
    conditions: Conditions
    outcomes: Sequence[Outcome]

    @cached_property
    def measured(self) -> list[Measurement]:
        """Points that were measured."""
        return [one for one in self.outcomes if isinstance(one, Measurement)]

    @cached_property
    def tagged(self) -> Counter[NoteKind]:
        """How many of them carry a tag of a kind."""
        found: Counter[NoteKind] = Counter()
        for one in self.measured:
            found.update({note.kind for note in one.notes})
        return found

    @cached_property
    def limits(self) -> list[Limit]:
        """What they say by themselves, the same for every metric."""
        return [limit for find in _OF_OUTCOMES for limit in find(self)]

    @cached_property
    def machines(self) -> list[Environment]:
        """The machines the outcomes belong to, each once."""
        names = dict.fromkeys(one.environment for one in self.outcomes)
        found = self.run.environments
        return [found[name] for name in names if name in found]


def limits_of(evidence: Evidence, pairs: Sequence[Pair]) -> tuple[Grade, tuple[Limit, ...]]:
    """The grade of one metric and every fact behind it, the most limiting first."""
    found = [*evidence.limits, *_modes(pairs), *_clocks(evidence, pairs)]
    order = list(RULES)
    found.sort(key=lambda one: (-ord(one.grade), order.index(one.kind)))
    return found[0].grade if found else "A", tuple(found)


def _limit(kind: LimitKind, text: str, points: int = 0, grade: Grade | None = None) -> Limit:
    rule = RULES[kind]
    return Limit(kind=kind, grade=grade or rule.grade, text=text, fix=rule.fix, points=points)


def _origin(evidence: Evidence) -> Iterable[Limit]:
    if evidence.run.origin == "published":
        yield _limit("published", "Others published these numbers; ssmprof did not measure them.")
    stacks = {(one.torch, one.triton, one.driver) for one in evidence.machines}
    if len(stacks) > 1:
        yield _limit("mixed-software", f"Points come from {len(stacks)} versions of software.")
    if lines := evidence.run.dropped_lines:
        yield _limit(
            "torn-lines", f"{_many(lines, 'line')} of the journal could not be read.", lines
        )


def _examination(evidence: Evidence) -> Iterable[Limit]:
    if evidence.run.origin == "published":
        return
    for machine in evidence.machines:
        calibration = machine.calibration
        if calibration is None:
            yield _limit("never-examined", "This machine was never examined.")
            continue
        noise = calibration.repeat_noise
        if noise is not None and noise > limits.PROCESS_NOISE:
            grade: Grade = "D" if noise > limits.PROCESS_NOISE_WITHHOLDS else "C"
            text = f"Equal calls in two processes differ by {noise:.1%}."
            yield _limit("process-noise", text, grade=grade)
        for level, kind in (("error", "examination-error"), ("warn", "examination-warning")):
            names = [check.name for check in calibration.checks if check.level == level]
            if names:
                what = "an error" if level == "error" else "something to note"
                text = f"The examination found {what}: {_listed(names)}."
                yield _limit(kind, text, len(names))  # type: ignore[arg-type]


def _throttled(evidence: Evidence) -> Iterable[Limit]:
    if evidence.tagged["throttled"]:
        mine = [one for one in evidence.measured if _has(one, "throttled")]
        share = len(mine) / len(evidence.measured)
        low = min((value for one in mine if (value := _value(one, "throttled"))), default=None)
        clock = f", down to {low:.0%} of the highest clock" if low is not None else ""
        grade: Grade = "D" if share > limits.THROTTLED_WITHHOLDS else "C"
        text = f"{share:.0%} of the points were measured while throttled{clock}."
        yield _limit("throttled", text, len(mine), grade)


def _processes(evidence: Evidence) -> Iterable[Limit]:
    measured = evidence.measured
    processes = len({one.round for one in measured})
    if measured and processes < limits.LEAST_PROCESSES and evidence.run.origin == "measured":
        yield _limit("few-processes", f"Only {_many(processes, 'process')} measured each point.")
    if noisy := evidence.tagged["noisy"]:
        share = noisy / len(measured)
        grade: Grade = "C" if share > limits.NOISY_POINTS else "B"
        text = f"{share:.0%} of the points stayed above their noise limit."
        yield _limit("noisy", text, noisy, grade)


def _modes(pairs: Sequence[Pair]) -> Iterable[Limit]:
    for pair in pairs:
        if len(pair.modes) > 1:
            sizes = " and ".join(str(len(mode)) for mode in pair.modes)
            text = f"{pair.block} against {pair.other} ran in two modes ({sizes} processes)."
            yield _limit("two-modes", text)


def _clocks(evidence: Evidence, pairs: Sequence[Pair]) -> Iterable[Limit]:
    if evidence.run.origin != "measured":
        return
    checked = [pair for pair in pairs if pair.clocks is not None]
    for verdict, kind, what in (
        ("depends-on-clocks", "depends-on-clocks", "depends on clocks"),
        ("unknown", "clocks-unknown", "stands in seconds alone"),
    ):
        mine = [pair for pair in checked if pair.clocks and pair.clocks.verdict == verdict]
        if mine:
            which = "" if len(mine) == len(checked) == 1 else f" ({len(mine)} of {len(checked)})"
            text = f"{mine[0].block} against {mine[0].other} {what}{which}."
            yield _limit(kind, text, len(mine))  # type: ignore[arg-type]


def _tags(evidence: Evidence) -> Iterable[Limit]:
    for kind, (limit, what) in _TAGGED.items():
        if count := evidence.tagged[kind]:
            text = f"{_many(count, 'point')} of {len(evidence.measured)} {what}."
            yield _limit(limit, text, count)


def _closure(evidence: Evidence) -> Iterable[Limit]:
    parts = [one.attribution for one in evidence.measured if one.attribution is not None]
    missed = [one.closure for one in parts if one.closure > limits.closure_target(one.route)]
    if missed:
        far = sum(one > limits.CLOSURE_WITHHOLDS for one in missed)
        left = f"; {far} are left out of the shares" if far else ""
        text = f"Parts of {len(missed)} of {len(parts)} points miss the whole, by up to "
        yield _limit("closure", f"{text}{max(missed):.0%}{left}.", len(missed), "C" if far else "B")


def _failures(evidence: Evidence) -> Iterable[Limit]:
    reasons: tuple[FailureReason, ...] = ("crash", "timeout", "unsupported")
    words = {"crash": "crashed", "timeout": "ran out of time", "unsupported": "are not supported"}
    measured = {one.point for one in evidence.measured}
    for reason in reasons:
        points = {
            one.point
            for one in evidence.outcomes
            if isinstance(one, Failure) and one.reason == reason and one.point not in measured
        }
        if points:
            yield _limit(reason, f"{_many(len(points), 'point')} {words[reason]}.", len(points))  # type: ignore[arg-type]


_OF_OUTCOMES: tuple[Callable[[Evidence], Iterable[Limit]], ...] = (
    _origin, _examination, _throttled, _processes, _tags, _closure, _failures,
)  # fmt: skip


def _has(one: Measurement, kind: NoteKind) -> bool:
    return any(note.kind == kind for note in one.notes)


def _value(one: Measurement, kind: NoteKind) -> float | None:
    return next((note.value for note in one.notes if note.kind == kind), None)


def _many(count: int, what: str) -> str:
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{count} {what if count == 1 else plural}"


def _listed(names: Sequence[str], most: int = 4) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
