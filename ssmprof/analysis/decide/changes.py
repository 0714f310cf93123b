"""Two runs, point by point: slower, faster, unchanged or ambiguous.

Rounds of different runs are not paired, so the ratio of geometric means has Welch's interval on the
logarithms. A difference counts beyond the gate only if its whole interval does, and a latency that
is judged otherwise in SM cycles depends on the clocks of that day: it is ambiguous, with a note.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from ssmprof.analysis.compare.clocks import sm_hz
from ssmprof.analysis.compare.curve import samples
from ssmprof.analysis.compare.estimate import student
from ssmprof.analysis.compare.logs import number_of, ratio_of
from ssmprof.analysis.explain.dominance import family_times
from ssmprof.analysis.findings import Estimate, Interval, Metric
from ssmprof.errors import ConfigError
from ssmprof.limits import LEAST_PROCESSES
from ssmprof.records import Measurement, Point, Run, median
from ssmprof.units import format_ratio

Verdict = Literal["slower", "faster", "unchanged", "ambiguous"]


class Change(Struct, frozen=True, kw_only=True):
    """One point in both runs; `ratio` is after / before, `blame` the family that changed most.

    `cycles_ratio` is the same in SM cycles, where the clocks are known.
    """

    point: Point
    before: float
    after: float
    ratio: float
    interval: Interval | None
    verdict: Verdict
    blame: str | None = None
    cycles_ratio: float | None = None
    note: str | None = None


class Comparison(Struct, frozen=True, kw_only=True):
    """All common points, and the keys' labels only one of the runs holds."""

    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    noise_floor: float | None
    same_stack: bool

    def count(self, verdict: Verdict) -> int:
        """How many points have this verdict."""
        return sum(change.verdict == verdict for change in self.changes)


def compare(
    before: Run, after: Run, *, gate: float = 0.05, metric: Metric = "latency"
) -> Comparison:
    """Differences beyond `gate` (a ratio). Raises ConfigError where the runs share no point.

    Points are matched by name and conditions, not by digest: a changed block is what is compared.
    """
    ours, theirs = _medians(before, metric), _medians(after, metric)
    common = [name for name in ours if name in theirs]
    if not common:
        raise ConfigError(
            "these runs have no point in common",
            fix="compare runs of the same scenario, or of blocks of the same name",
        )
    floors = [
        machine.calibration.repeat_noise
        for run in (before, after)
        for machine in run.environments.values()
        if machine.calibration and machine.calibration.repeat_noise is not None
    ]
    floor = max(floors, default=None)
    stacks = [_stack(run) for run in (before, after)]
    return Comparison(
        changes=tuple(_change(ours[name], theirs[name], gate, metric) for name in common),
        only_before=tuple(name for name in ours if name not in theirs),
        only_after=tuple(name for name in theirs if name not in ours),
        noise_floor=floor,
        same_stack=stacks[0] == stacks[1],
    )


class _Rounds(Struct):
    point: Point
    values: list[float]
    measurements: list[Measurement]


def _medians(run: Run, metric: Metric) -> dict[str, _Rounds]:
    found: dict[str, _Rounds] = {}
    for one in run.measurements():
        values = samples(one, metric)
        if values and one.mode == "cold":
            point = one.point
            name = f"{point.label()} {point.dtype} logits {point.logits}"
            rounds = found.setdefault(name, _Rounds(point, [], []))
            rounds.values.append(median(values))
            rounds.measurements.append(one)
    return found


def _change(before: _Rounds, after: _Rounds, gate: float, metric: Metric) -> Change:
    found = _estimate(before.values, after.values)
    ours, theirs = _cycles(before, metric), _cycles(after, metric)
    cycles = _estimate(ours, theirs) if ours and theirs else None
    verdict, note = _judged(found, gate), None
    if cycles and _depends_on_clocks(found, cycles, gate):
        said = _judged(cycles, gate)
        note = (
            f"depends on clocks: {format_ratio(found.value)} in seconds ({verdict}), "
            f"{format_ratio(cycles.value)} in SM cycles ({said})"
        )
        verdict = "ambiguous"
    changed = verdict in ("slower", "faster")
    return Change(
        point=after.point,
        before=_geometric(before.values),
        after=_geometric(after.values),
        ratio=found.value,
        interval=found.interval,
        verdict=verdict,
        blame=_blame(before.measurements, after.measurements) if changed else None,
        cycles_ratio=cycles.value if cycles else None,
        note=note,
    )


def _depends_on_clocks(seconds: Estimate, cycles: Estimate, gate: float) -> bool:
    """Whether seconds and cycles are judged differently, each outside of the other's interval."""
    if _judged(seconds, gate) == _judged(cycles, gate):
        return False
    pairs = ((seconds, cycles), (cycles, seconds))
    spans = [(one.interval or one.spread, other.value) for one, other in pairs]
    return not any(low <= value <= high for (low, high), value in spans)


def _judged(ratio: Estimate, gate: float) -> Verdict:
    """What a ratio says of a gate: only its whole interval says anything."""
    if ratio.interval is None:
        return "ambiguous"
    limit = 1 + gate
    low, high = ratio.interval
    if low > limit:
        return "slower"
    if high < 1 / limit:
        return "faster"
    return "unchanged" if 1 / limit <= low and high <= limit else "ambiguous"


def _cycles(rounds: _Rounds, metric: Metric) -> list[float]:
    """Medians in SM cycles, one per round; none where the clock of a round is not known."""
    clocks = [hertz for one in rounds.measurements if (hertz := sm_hz(one))]
    if metric != "latency" or len(clocks) < len(rounds.values):
        return []
    return [value * hertz for value, hertz in zip(rounds.values, clocks, strict=True)]


def _estimate(before: Sequence[float], after: Sequence[float]) -> Estimate:
    """after / before with Welch's interval; the range of all pairs beside it."""
    mean, interval = _welch(before, after)
    return Estimate(
        value=ratio_of(mean),
        rounds=min(len(before), len(after)),
        interval=interval,
        spread=(min(after) / max(before), max(after) / min(before)),
        method="Welch's t on log medians of rounds" if interval else "range of rounds",
    )


def _welch(before: Sequence[float], after: Sequence[float]) -> tuple[float, Interval | None]:
    """Difference of mean logarithms and its 95 % interval (None for fewer than three rounds)."""
    logs = [[math.log(value) for value in values] for values in (before, after)]
    means = [math.fsum(values) / len(values) for values in logs]
    difference = means[1] - means[0]
    if min(len(values) for values in logs) < LEAST_PROCESSES:
        return difference, None
    errors = [
        math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values)
        for values, mean in zip(logs, means, strict=True)
    ]
    total = sum(errors)
    if total == 0:
        return difference, (ratio_of(difference), ratio_of(difference))
    degrees = total**2 / sum(
        error**2 / (len(values) - 1) for error, values in zip(errors, logs, strict=True)
    )
    half = student(max(1, math.floor(degrees))) * math.sqrt(total)
    return difference, (ratio_of(difference - half), ratio_of(difference + half))


def _geometric(values: Sequence[float]) -> float:
    return number_of(math.fsum(math.log(value) for value in values) / len(values))


def _blame(before: Sequence[Measurement], after: Sequence[Measurement]) -> str | None:
    """`scan +4.2e-03 s`: the family whose time changed most."""
    ours, theirs = _families(before), _families(after)
    if not ours or not theirs:
        return None
    changes = {
        family: theirs.get(family, 0.0) - ours.get(family, 0.0)
        for family in (*ours, *(name for name in theirs if name not in ours))
    }
    family = max(changes, key=lambda name: abs(changes[name]))
    return f"{family} {changes[family]:+.2g} s"


def _families(measurements: Sequence[Measurement]) -> Mapping[str, float]:
    tables = [family_times(one.attribution) for one in measurements if one.attribution is not None]
    names = {family for table in tables for family in table}
    return {name: median(table.get(name, 0.0) for table in tables) for name in names}


def _stack(run: Run) -> set[tuple[str | None, ...]]:
    return {(m.device, m.torch, m.triton, m.driver) for m in run.environments.values()}
