"""Quantities of the table from run folders: what the sweeps say, held against the references."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import ssmprof
from ssmprof import limits
from ssmprof.analysis.compare.answer import Answer, Crossing
from ssmprof.records import Measurement, Outcome
from ssmprof.session.result import Run
from truth.items import EQUALS, FIRST, OTHERS, SWEEPS, Item

PHASES = ("prefill", "decode")
# A sign is taken as decided where its mean lies so many standard errors from 0.
CERTAIN = 2.0


@dataclass(frozen=True)
class Quantity:
    """One line of the table; met when `value <= bar`."""

    name: str
    value: float
    bar: float
    unit: str
    how: str
    reason: str = ""

    def row(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Shot:
    """One sweep's answer for one pair and phase beside the reference's."""

    answer: Answer
    reference: Answer
    outcomes: Sequence[Outcome]
    dense: Sequence[Outcome]

    @property
    def misses(self) -> bool:
        """A zone of either that no zone of the other touches."""
        ours, theirs = zones(self.answer), zones(self.reference)
        return any(not _touched(one, theirs) for one in ours) or any(
            not _touched(one, ours) for one in theirs
        )

    @property
    def is_open(self) -> bool:
        """An end that is not certain, or lengths that nobody wins and that are not equal."""
        return any(one.kind == "unresolved" or one.why == "noisy" for one in self.answer.crossings)

    @property
    def is_wide(self) -> bool:
        """A zone too wide for one number where the reference's is not."""
        narrow = [one for one in zones(self.reference) if not _wide(one)]
        return any(
            _wide(one) and _touched(one, narrow) and not _touched(one, _all_wide(self.reference))
            for one in zones(self.answer)
        )

    @property
    def device_s(self) -> float:
        """Seconds of the device for one zone, pilot, building and capturing in it."""
        return spent_s(self.outcomes) / max(1, len(self.answer.crossings))

    @property
    def share(self) -> float:
        """Of the seconds that the reference would take with the fewest samples that decide."""
        return spent_s(self.outcomes) / fewest_s(self.dense)


def zones(answer: Answer) -> list[tuple[int, int]]:
    """(low, high) of every zone with both ends."""
    return [
        (one.low_tokens, one.high_tokens)
        for one in answer.crossings
        if one.kind == "zone" and one.low_tokens is not None and one.high_tokens is not None
    ]


def _touched(one: tuple[int, int], others: Iterable[tuple[int, int]]) -> bool:
    return any(low <= one[1] and one[0] <= high for low, high in others)


def _wide(one: tuple[int, int]) -> bool:
    return one[1] > one[0] * limits.ONE_NUMBER


def _all_wide(answer: Answer) -> list[tuple[int, int]]:
    return [one for one in zones(answer) if _wide(one)]


def spent_s(outcomes: Iterable[Outcome]) -> float:
    """What the visits took; the grid for figures and parts, round 0, is no part of an answer."""
    return math.fsum(one.wall_s for one in outcomes if one.round > 0)


def fewest_s(dense: Sequence[Outcome]) -> float:
    """What a reference takes if each visit of a length ends once its sign is decided.

    Building and capturing are counted whole; of the pairs as many as bring the mean log ratio
    `CERTAIN` standard errors from 0, or all.
    """
    total = 0.0
    for one, other in _beside(dense):
        logs = [
            math.log(a / b) for a, b in zip(one.times_s, other.times_s, strict=False) if a > 0 < b
        ]
        share = 1.0
        if len(logs) > 2 and (mean := abs(fmean(logs))) > 0:
            needed = max(4.0, (CERTAIN * stdev(logs) / mean) ** 2)
            share = min(1.0, needed / len(logs))
        for each in (one, other):
            total += each.wall_s - each.measuring_s * (1 - share)
    return total


def _beside(outcomes: Sequence[Outcome]) -> Iterator[tuple[Measurement, Measurement]]:
    found: dict[tuple[Any, ...], list[Measurement]] = {}
    for one in outcomes:
        if isinstance(one, Measurement):
            found.setdefault((one.point.phase, one.point.context, one.round), []).append(one)
    for several in found.values():
        yield from combinations(several[:2], 2)


def of_phase(run: Run, phase: str) -> Answer:
    """The latency answer of one phase."""
    return next(
        one for one in run.answers if one.metric == "latency" and one.conditions.phase == phase
    )


def shots(table: Path, done: Iterable[Item]) -> list[Shot]:
    """Every sweep whose reference is there, by phase."""
    names = {one.name for one in done}
    found: list[Shot] = []
    for other in OTHERS:
        if f"reference/{other}" not in names:
            continue
        reference = ssmprof.load(table / "reference" / other)
        for turn in range(SWEEPS):
            if f"sweep/{other}/{turn}" not in names:
                continue
            run = ssmprof.load(table / "sweep" / other / str(turn))
            found += [_shot(run, reference, phase) for phase in PHASES]
    return found


def _shot(run: Run, reference: Run, phase: str) -> Shot:
    mine, dense = (
        [one for one in each.outcomes if one.point.phase == phase] for each in (run, reference)
    )
    return Shot(of_phase(run, phase), of_phase(reference, phase), mine, dense)


def of_answers(found: Sequence[Shot]) -> Iterator[Quantity]:
    """What the sweeps are worth, out of so many."""
    many = len(found)
    if not many:
        return
    how = f"{many} answers of independent sweeps, each against its dense reference"
    allowed = many / (len(OTHERS) * len(PHASES) * SWEEPS)
    yield Quantity("answers whose zone misses the reference's",
                   sum(one.misses for one in found), 0, "answers", how)  # fmt: skip
    yield Quantity("zones wider than 1.04 where the reference's is not",
                   sum(one.is_wide for one in found), 3 * allowed, "answers", how)  # fmt: skip
    yield Quantity("not resolved within the budget",
                   sum(one.is_open for one in found), 2 * allowed, "answers", how)  # fmt: skip
    with_zone = [one for one in found if one.answer.crossings]
    if with_zone:
        yield Quantity("device seconds per zone, median",
                       median(one.device_s for one in with_zone), 25, "s",
                       "building, warming up, capturing and sampling of every visit")  # fmt: skip
    yield Quantity("device seconds of the answer over those of its reference, median",
                   median(one.share for one in found), 0.25, "1",
                   "the reference with the fewest samples that decide each length")  # fmt: skip


def of_equals(table: Path, done: Iterable[Item]) -> Iterator[Quantity]:
    """Sweeps of one block under two names."""
    names = {one.name for one in done}
    runs = [
        ssmprof.load(table / f"equal/{turn}") for turn in range(EQUALS) if f"equal/{turn}" in names
    ]
    if not runs:
        return
    told = [one.answers[0] for one in runs]
    how = f"{len(runs)} sweeps of one block under two names"
    yield Quantity("false crossings", sum(bool(one.crossings) for one in told), 0, "sweeps",
                   how)  # fmt: skip
    unequal = sum(not (len(one.segments) == 1 and one.segments[0].equal) for one in told)
    yield Quantity('sweeps of equals that do not end in "equal"', unequal,
                   len(runs) / EQUALS, "sweeps", how, _open(told))  # fmt: skip


def _open(told: Sequence[Answer]) -> str:
    """How many lengths are not equal yet, and how wide their intervals are."""
    open_ = [sum(not at.equal for at in one.standings) for one in told]
    if not any(open_):
        return ""
    widths = [
        max(point.interval[1], 1 / point.interval[0]) - 1
        for one in told
        for point in one.pairs[0].points
        if (standing := one.standing(point.context)) is not None and not standing.equal
    ]
    lengths = len(told[0].standings)
    return (
        f"{min(open_)} to {max(open_)} of {lengths} lengths are open: their intervals reach "
        f"{median(widths):.1%} from 1 (median), and {told[0].tie:.0%} is equal"
    )


def of_providers(table: Path, done: Iterable[Item]) -> Iterator[Quantity]:
    """How far a block's time moves because another sweep chose other implementations for it."""
    names = {one.name for one in done}
    moved: list[float] = []
    for other in OTHERS:
        runs = [
            ssmprof.load(table / f"sweep/{other}/{turn}")
            for turn in range(SWEEPS)
            if f"sweep/{other}/{turn}" in names
        ]
        moved += _moved(runs) if len(runs) > 1 else []
    if moved:
        yield Quantity(
            "block time over sweeps moved by provider choice", 100 * max(moved), 0.5, "%",
            "largest and smallest median of a block at a length, by what ran it",
        )  # fmt: skip


def _moved(runs: Sequence[Run]) -> list[float]:
    by_place: dict[tuple[Any, ...], dict[str, list[float]]] = {}
    for run in runs:
        for one in run.outcomes:
            if isinstance(one, Measurement) and one.mode == "cold" and one.time_s > 0:
                place = one.point.block, one.point.phase, one.point.context
                who = " ".join(f"{op}={name}" for op, name in sorted(one.providers.items()))
                by_place.setdefault(place, {}).setdefault(who, []).append(one.time_s)
    found = [0.0]
    for several in by_place.values():
        middles = [median(times) for times in several.values()]
        found.append(max(middles) / min(middles) - 1)
    return found


def of_commands(table: Path, done: Sequence[Item]) -> Iterator[Quantity]:
    """From the shell to the sentence."""
    walls = {one.name: one.done(table) or {} for one in done}
    if "models/warm" in walls:
        yield Quantity("two models named on the command line, 512 to 32K, seconds to the sentence",
                       walls["models/warm"]["wall_s"], 60, "s",
                       "prefill and decode, compiled kernels in the cache")  # fmt: skip
    if "crossover" in walls:
        run = ssmprof.load(table / "crossover")
        opened = sum(
            one.why in ("noisy", "budget") for each in run.answers for one in each.crossings
        )
        yield Quantity("wall seconds of `ssmprof sweep crossover`", walls["crossover"]["wall_s"],
                       240, "s", "a fresh machine, so that kernels compile in it",
                       f"{opened} crossings left open" if opened else "")  # fmt: skip
    sweeps = [name for name in walls if name.startswith("quickstart/")]
    if sweeps:
        told = [ssmprof.load(table / name).answers for name in sweeps]
        silent = sum(not any(_says(one) for one in answers[:1]) for answers in told)
        yield Quantity("`make sweep` runs without a sentence that decides", silent, 0, "runs",
                       f"{len(sweeps)} runs on this machine's CPU")  # fmt: skip


def _says(answer: Answer) -> bool:
    """A crossing with both ends, one winner throughout, or "equal"."""
    if answer.withheld:
        return False
    crossed: list[Crossing] = [one for one in answer.crossings if one.kind != "unresolved"]
    if crossed:
        return len(crossed) == len(answer.crossings)
    return len(answer.segments) == 1 and (
        answer.segments[0].equal or len(answer.segments[0].winners) == 1
    )


def quantities(table: Path, items: Iterable[Item]) -> list[Quantity]:
    """Everything that the folders found so far can tell."""
    done = [one for one in items if one.done(table) is not None]
    return [
        *of_answers(shots(table, done)),
        *of_commands(table, done),
        *of_equals(table, done),
        *of_providers(table, done),
    ]


__all__ = ["FIRST", "Quantity", "Shot", "quantities", "shots"]
