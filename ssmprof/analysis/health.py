"""How far a run can be believed: warnings, and the grade that gates the verdict.

Grades: A all checks pass · B warnings without measurable effect · C effects that widen the
intervals · D verdict withheld. The limits are printed beside the grade.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ssmprof.analysis.clocks import DEPENDS, sm_hz
from ssmprof.analysis.findings import ClockCheck, Grade, Trust, Warning
from ssmprof.analysis.stats import LEAST_ROUNDS
from ssmprof.analysis.tags import tags
from ssmprof.records import Environment, Failure, Measurement, Run

CLOSURE_GRAPH = 0.02
CLOSURE_EAGER = 0.05
CLOSURE_WITHHOLDS = 0.10  # above, who dominates is not said for the point
REPEAT_NOISE = 0.01  # A/A difference between processes
REPEAT_NOISE_WITHHOLDS = 0.25  # the intervals cover less: rounds are separate processes, too
THROTTLED_WITHHOLDS = 0.25  # share of points
NOISY = 0.10  # share of points above their noise limit
OTHER_TIME = 0.02  # share of time in kernels no family claims

LIMITS = (
    f"D: more than {THROTTLED_WITHHOLDS:.0%} of the points throttled, equal runs differing by more "
    f"than {REPEAT_NOISE_WITHHOLDS:.0%}, or a machine that was never checked",
    f"C: any point throttled or at the power limit, more than {NOISY:.0%} of the points noisy, "
    f"equal runs differing by more than {REPEAT_NOISE:.0%}, fewer than {LEAST_ROUNDS} rounds, a "
    "comparison that depends on clocks, or mixed software",
    f"B: any other warning; parts missing the whole by more than {CLOSURE_GRAPH:.0%} (graph) or "
    f"{CLOSURE_EAGER:.0%} (eager)",
)
_FIXES = {
    "throttled": "lock the clocks or improve cooling (ssmprof doctor prints the command)",
    "noisy": "ssmprof sweep --rerun-noisy, or lock the clocks",
    "closure": "ssmprof doctor; the times of the whole call are not affected",
    DEPENDS: "lock the clocks (ssmprof doctor prints the command) and sweep again",
}


def warnings(run: Run, clocks: Sequence[ClockCheck] = ()) -> list[Warning]:
    """What a reader must know, most consequential first."""
    measured, failed = list(run.measurements()), list(run.failures())
    found = [*_clocks(clocks)] if run.origin == "measured" else []
    found += [*_noted(measured), *_closure(measured), *_unnamed(measured), *_failures(failed)]
    if run.dropped_lines:
        lost = run.dropped_lines
        text = f"{lost} line(s) of the journal could not be read; their points are missing"
        fix = "ssmprof sweep --resume"
        found.append(Warning(kind="torn-line", text=text, points=lost, fix=fix))
    for machine in run.environments.values():
        found.extend(_machine(machine))
    return found


def trust(run: Run, found: Sequence[Warning]) -> Trust:
    """The grade of a run, from its warnings and the machine's own error bars."""
    measured = list(run.measurements())
    total = max(len(measured), 1)
    counts = {warning.kind: warning.points for warning in found}
    reasons: list[tuple[Grade, str]] = [
        ("C" if warning.kind == DEPENDS else "B", warning.text) for warning in found
    ]
    if capped := counts.get("power-cap", 0) / total:
        text = f"{capped:.0%} of the points met the power limit"
        reasons.append(("C", f"{text}; their SM clock fell as low as {_slowest(measured):.0%}"))
    throttled = counts.get("throttled", 0) / total
    if throttled > THROTTLED_WITHHOLDS:
        text = f"{throttled:.0%} of the points were measured while the clock was throttled"
        reasons.append(("D", text))
    elif throttled:
        reasons.append(("C", f"{counts['throttled']} of {total} points were throttled"))
    if counts.get("noisy", 0) / total > NOISY:
        reasons.append(("C", f"{counts['noisy'] / total:.0%} of the points stayed noisy"))
    rounds = len({one.round for one in measured})
    if rounds < LEAST_ROUNDS:
        reasons.append(("C", f"{rounds} round(s): ranges instead of intervals"))
    if run.origin == "published":
        reasons.append(("C", "published numbers, not measured by ssmprof"))
    else:
        for machine in run.environments.values():
            reasons.extend(_calibrated(machine))
    if len({(m.device, m.torch, m.triton, m.driver) for m in run.environments.values()}) > 1:
        reasons.append(("C", "points come from different machines or software"))
    grade: Grade = "A"
    for level, _ in reasons:
        grade = max(grade, level)
    ordered = tuple(dict.fromkeys(text for _, text in sorted(reasons, key=lambda r: -ord(r[0]))))
    withheld = next((text for level, text in reasons if level == "D"), None)
    return Trust(grade=grade, reasons=ordered, limits=LIMITS, withheld=withheld)


def _clocks(checks: Sequence[ClockCheck]) -> Iterable[Warning]:
    """Comparisons that the clock may have decided, and those of which that is not known."""
    total = len(checks)
    mine = [one for one in checks if one.verdict == DEPENDS]
    if mine:
        text = f"{len(mine)} of {total} comparisons depend on clocks: {mine[0].text}"
        yield Warning(kind=DEPENDS, text=text, points=len(mine), fix=_FIXES[DEPENDS])
    mine = [one for one in checks if one.verdict == "unknown"]
    if mine:
        text = f"{len(mine)} of {total} comparisons stand in seconds alone: {mine[0].text}"
        yield Warning(kind="clocks-unknown", text=text, points=len(mine))


def _slowest(measured: Sequence[Measurement]) -> float:
    """Lowest SM clock of the points at the power limit, over the highest of the run."""
    seen = [
        (hz, "power-cap" in tags(one))
        for one in measured
        for hz in (one.clocks.sm_before_hz, one.clocks.sm_after_hz, sm_hz(one))
        if hz
    ]
    capped = [hz for hz, mine in seen if mine]
    return min(capped) / max(hz for hz, _ in seen) if capped else 1.0


def _noted(measured: Sequence[Measurement]) -> Iterable[Warning]:
    """One warning per kind of note, with the number of points; closure is told by its numbers."""
    kinds: dict[str, list[str]] = {}
    for one in measured:
        texts = {note.kind: note.text for note in one.notes}
        for kind in tags(one):
            if kind != "closure":
                kinds.setdefault(kind, []).append(texts.get(kind, "; ".join(one.clocks.throttle)))
    for kind, texts in kinds.items():
        text = f"{len(texts)} of {len(measured)} points: {kind} ({texts[0]})"
        yield Warning(kind=kind, text=text, points=len(texts), fix=_FIXES.get(kind))


def _closure(measured: Sequence[Measurement]) -> Iterable[Warning]:
    beyond = [
        one.attribution.closure
        for one in measured
        if one.attribution is not None
        and one.attribution.closure
        > (CLOSURE_GRAPH if one.point.execution == "graph" else CLOSURE_EAGER)
    ]
    if beyond:
        text = f"parts miss the whole by up to {max(beyond):.1%} at {len(beyond)} points"
        yield Warning(kind="closure", text=text, points=len(beyond), fix=_FIXES["closure"])


def _unnamed(measured: Sequence[Measurement]) -> Iterable[Warning]:
    names: dict[str, None] = {}
    points = 0
    for one in measured:
        if one.attribution is None:
            continue
        total = sum(sum(k.times_s) / len(k.times_s) for k in one.attribution.kernels if k.times_s)
        other = [k for k in one.attribution.kernels if k.family == "other" and k.times_s]
        spent = sum(sum(k.times_s) / len(k.times_s) for k in other)
        if total and spent / total > OTHER_TIME:
            points += 1
            names.update(dict.fromkeys(kernel.kernel or kernel.op for kernel in other))
    if points:
        text = f"kernels without a family take more than {OTHER_TIME:.0%}: {', '.join(names)}"
        yield Warning(kind="other", text=text, points=points)


def _failures(failed: Sequence[Failure]) -> Iterable[Warning]:
    for reason in ("crash", "timeout", "unsupported"):
        mine = [failure for failure in failed if failure.reason == reason]
        if mine:
            text = (
                f"{len(mine)} points ended in {reason}: {mine[0].point.label()}: {mine[0].detail}"
            )
            yield Warning(kind=reason, text=text, points=len(mine))


def _machine(machine: Environment) -> Iterable[Warning]:
    for check in machine.calibration.checks if machine.calibration else ():
        if check.level != "ok":
            yield Warning(
                kind=f"doctor-{check.level}", text=f"{check.name}: {check.text}", fix=check.fix
            )


def _calibrated(machine: Environment) -> Iterable[tuple[Grade, str]]:
    calibration = machine.calibration
    if calibration is None:
        yield "D", "this machine was never checked; run ssmprof doctor before the sweep"
        return
    if any(check.level == "error" for check in calibration.checks):
        yield "C", "ssmprof doctor found an error on this machine"
    noise = calibration.repeat_noise
    if noise is not None and noise > REPEAT_NOISE:
        grade: Grade = "D" if noise > REPEAT_NOISE_WITHHOLDS else "C"
        yield grade, f"equal runs in separate processes differ by {noise:.1%}"
