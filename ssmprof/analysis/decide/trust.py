"""How far an answer can be believed: its grade, and the few facts that limit it.

Grades: A nothing to note · B noted, without measurable effect · C effects that widen the zones or
move them · D verdict withheld. `rules` says which fact has which grade and what mends it; a fact is
found once per set of conditions, and the same for page, terminal and JSON
(docs/how-it-works/trust.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ssmprof import limits
from ssmprof.analysis.compare.answer import Limit, LimitKind, Pair
from ssmprof.analysis.decide.rules import RULES, SHOWN, fact
from ssmprof.analysis.decide.slices import unequal
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

# Kind of a point's tag -> the limit it makes, what is said of so many points.
_TAGGED: dict[NoteKind, tuple[LimitKind, str]] = {
    "power-cap": ("power-cap", "ran at the power limit"),
    "warm-up": ("unsettled", "had not settled after warm-up"),
    "swapped": ("swapped", "swapped and were timed again"),
    "clock": ("clock-pin", "lost their pinned clocks"),
    "below-timer": ("below-timer", "took less time than can be measured"),
    "broken-pass": ("partial-pass", "lost a pass beside their latency"),
    "apart": ("apart", "were measured without the others beside them, less precisely"),
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


def _origin(evidence: Evidence) -> Iterable[Limit]:
    if evidence.run.origin == "published":
        yield fact("published", "Others published these numbers; ssmprof did not measure them.")
    stacks = {(one.torch, one.triton, one.driver) for one in evidence.machines}
    if len(stacks) > 1:
        yield fact("mixed-software", f"Points come from {len(stacks)} versions of software.")
    if lines := evidence.run.dropped_lines:
        yield fact("torn-lines", f"{_many(lines, 'line')} of the journal could not be read.", lines)


def _slices(evidence: Evidence) -> Iterable[Limit]:
    here = {one.point.block for one in evidence.outcomes}
    blocks = [block for block in evidence.run.scenario.blocks if block.name in here]
    if text := unequal(blocks):
        yield fact("unequal-slices", text)


def _examination(evidence: Evidence) -> Iterable[Limit]:
    if evidence.run.origin == "published":
        return
    # A run has an environment per set of clocks and providers seen, most with one examination.
    known = [one.calibration for one in evidence.machines if one.calibration is not None]
    if len(known) < len(evidence.machines):
        yield fact("never-examined", "This machine was never examined.")
    noise = max((one.repeat_noise for one in known if one.repeat_noise is not None), default=0.0)
    if noise > limits.PROCESS_NOISE:
        grade: Grade = "D" if noise > limits.PROCESS_NOISE_WITHHOLDS else "C"
        text = f"Equal calls in two processes differ by {noise:.1%}."
        yield fact("process-noise", text, grade=grade)
    for level, kind in (("error", "examination-error"), ("warn", "examination-warning")):
        checks = (check for one in known for check in one.checks if check.level == level)
        names = list(dict.fromkeys(check.name for check in checks))
        if names:
            what = "an error" if level == "error" else "something to note"
            text = f"The examination found {what}: {_listed(names)}."
            yield fact(kind, text, len(names))  # type: ignore[arg-type]


def _throttled(evidence: Evidence) -> Iterable[Limit]:
    if evidence.tagged["throttled"]:
        mine = [one for one in evidence.measured if _has(one, "throttled")]
        share = len(mine) / len(evidence.measured)
        low = min((value for one in mine if (value := _value(one, "throttled"))), default=None)
        clock = f", down to {low:.0%} of the highest clock" if low is not None else ""
        grade: Grade = "D" if share > limits.THROTTLED_WITHHOLDS else "C"
        text = f"{_part(share)} of the points were measured while throttled{clock}."
        yield fact("throttled", text, len(mine), grade)


def _part(share: float) -> str:
    """A share that is never told as none of them."""
    return f"{share:.0%}" if share >= 0.01 else "Less than 1%"


def _processes(evidence: Evidence) -> Iterable[Limit]:
    measured = evidence.measured
    processes = len({one.round for one in measured})
    if measured and processes < limits.LEAST_PROCESSES and evidence.run.origin == "measured":
        yield fact("few-processes", f"Only {_many(processes, 'process')} measured each point.")
    if noisy := evidence.tagged["noisy"]:
        share = noisy / len(measured)
        grade: Grade = "C" if share > limits.NOISY_POINTS else "B"
        text = f"{_part(share)} of the points stayed above their noise limit."
        yield fact("noisy", text, noisy, grade)


def _modes(pairs: Sequence[Pair]) -> Iterable[Limit]:
    for pair in pairs:
        if len(pair.modes) > 1:
            sizes = " and ".join(str(len(mode)) for mode in pair.modes)
            text = f"{pair.block} against {pair.other} ran in two modes ({sizes} processes)."
            yield fact("two-modes", text)


def _providers(evidence: Evidence) -> Iterable[Limit]:
    here = {one.point.block_digest for one in evidence.outcomes}
    mine = [
        one
        for one in evidence.run.decisions
        if not one.agreed and one.block_digest in here and one.holds_under(evidence.conditions)
    ]
    if mine:
        what = _listed([f"{one.block} {one.op}" for one in mine], SHOWN)
        text = f"Two processes chose different implementations of {what}; there the first stays."
        yield fact("providers-disagree", text, sum(len(one.disagreed) for one in mine))


def _clocks(evidence: Evidence, pairs: Sequence[Pair]) -> Iterable[Limit]:
    if evidence.run.origin != "measured":
        return
    checked = [pair for pair in pairs if pair.clocks is not None]
    for verdict, kind, what in (
        ("depends-on-clocks", "depends-on-clocks", "SM cycles say otherwise than seconds for"),
        ("unknown", "clocks-unknown", "No SM clock was read for"),
    ):
        mine = [pair for pair in checked if pair.clocks and pair.clocks.verdict == verdict]
        if mine:
            which = f"{mine[0].block} against {mine[0].other}"
            if len(checked) > 1:
                which = f"{len(mine)} of {len(checked)} comparisons, {which} among them"
            then = ": clocks may have made the difference" if verdict == "unknown" else ""
            yield fact(kind, f"{what} {which}{then}.", len(mine))  # type: ignore[arg-type]


def _tags(evidence: Evidence) -> Iterable[Limit]:
    for kind, (limit, what) in _TAGGED.items():
        if count := evidence.tagged[kind]:
            text = f"{_many(count, 'point')} of {len(evidence.measured)} {what}."
            yield fact(limit, text, count)


def _closure(evidence: Evidence) -> Iterable[Limit]:
    parts = [one.attribution for one in evidence.measured if one.attribution is not None]
    missed = [one.closure for one in parts if one.closure > limits.closure_target(one.route)]
    if missed:
        far = sum(one > limits.CLOSURE_WITHHOLDS for one in missed)
        left = f"; {far} {'is' if far == 1 else 'are'} left out of the shares" if far else ""
        text = f"Parts of {len(missed)} of {len(parts)} points miss the whole, by up to "
        yield fact("closure", f"{text}{max(missed):.0%}{left}.", len(missed), "C" if far else "B")


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
            yield fact(reason, f"{_many(len(points), 'point')} {words[reason]}.", len(points))  # type: ignore[arg-type]


_OF_OUTCOMES: tuple[Callable[[Evidence], Iterable[Limit]], ...] = (
    _origin, _slices, _examination, _throttled, _processes, _providers, _tags, _closure, _failures,
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
