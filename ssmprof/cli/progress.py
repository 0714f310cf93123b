"""Progress on stderr: a line per point with the time left; a bar on a terminal only.

Without a terminal there is at most one line per ten seconds, besides failures, which are always
said: a log should not drown in points, and must not hide what did not work. Where nobody can be
told any more (a closed terminal, a full disk, a reader that left), the sweep goes on in silence.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ssmprof.cli.narrowing import Narrowing
from ssmprof.cli.options import say
from ssmprof.cli.streams import mute, tell
from ssmprof.harmless import one_line
from ssmprof.records import Decision, Failure, Measurement, Outcome, spans_text
from ssmprof.report.theme import MARKS
from ssmprof.session.progress import Asked, Planned, Progress
from ssmprof.units import format_bytes, format_context, format_duration, format_time

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from ssmprof.analysis.compare.answer import Answer
    from ssmprof.measure.workers.decisions import Decided
    from ssmprof.planning.feasible import Machine
    from ssmprof.planning.left import Left
    from ssmprof.records import Calibration
    from ssmprof.spec import Scenario

QUIET_S = 10.0
_MORE = {
    "decide": ", then until it is decided",
    "dense": ", then every length around a change of winner",
    "surface": ", then where they do not tell what lies between",
}
_WARN = {"noisy": "noisy", "throttled": "throttled", "power-cap": "power cap"}


class Reporter(Progress):
    """Told of jobs and outcomes; says where the sweep stands and how long it will take."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self._left: Left | None = None
        self._answers: Sequence[Answer] = ()
        self._quiet = quiet
        self._every = verbose or sys.stderr.isatty()
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._todo: set[str] = set()
        self._total = 0
        self._finished = 0
        self._last = time.monotonic()
        self._said = float("-inf")
        self._zones = Narrowing()

    def __enter__(self) -> Reporter:
        if sys.stderr.isatty() and not self._quiet:
            with self._heard():
                self._start()
        return self

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bar = Progress(
            BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"),
            console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self._bar.start()
        self._task = self._bar.add_task("starting", total=None)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            with self._heard():
                self._bar.stop()

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Say something; whoever cannot be told is not told again."""
        try:
            yield
        except (OSError, ValueError):
            self._quiet, self._bar = True, None
            mute(2)

    def begins(self, scenario: Scenario, machine: Machine) -> None:
        """The time left follows from what the machine would need for the scenario."""
        from ssmprof.planning.left import Left, any_compiled

        kind = "cuda" if machine.kind == "cuda" else "cpu"
        self._left = Left(scenario, kind, machine, compiled=any_compiled())

    def planned(self, plan: Planned) -> None:
        """What is measured, where, and how to go on with it."""
        more = _MORE.get(plan.strategy, "") if plan.missing else ""
        say(
            f"{plan.points} points on {plan.device}, {plan.missing} to measure{more}, run folder "
            f"{plan.folder} (Ctrl-C saves; go on with --resume {plan.folder})"
        )

    def examined(self, found: Calibration | None) -> None:
        """What to note of the machine: without an examination no verdict is given."""
        if found is None:
            say("! machine not examined: this run can carry no verdict")
            return
        doubtful = [check for check in found.checks if check.level != "ok"]
        for check in doubtful:
            say(f"{MARKS[check.level]} {check.name}: {check.text}")
        say(f"machine examined: {len(found.checks)} checks, {len(doubtful)} to note")

    def decided(self, found: Decided, seconds: float) -> None:
        """Who runs which op now, and what could not be decided."""
        for problem in found.problems:
            say(f"! providers of {problem}")
        if found.decisions:
            if self._left is not None:
                self._left.decided()
            say(f"{decided_text(found.decisions)} ({seconds:.0f} s)")

    def warned(self, text: str) -> None:
        """Something that ends nothing."""
        say(f"! {text}")

    def started(self) -> None:
        """Measuring begins now: what was before counts for no point."""
        self._last = time.monotonic()

    def expect(self, jobs: Sequence[Asked]) -> None:
        """Add jobs, or visits of several, to what is to be done."""
        if self._left is not None:
            self._left.expect(jobs, self._answers)
        for job in (job for asked in jobs for job in asked.jobs()):
            if job.key not in self._todo:
                self._todo.add(job.key)
                self._total += 1

    def skip(self, done: Iterable[str]) -> None:
        """Jobs that an earlier session answered."""
        done = list(done)
        if self._left is not None:
            self._left.skip(done)
        for key in done:
            if key in self._todo:
                self._todo.remove(key)
                self._finished += 1

    def outcome(self, outcome: Outcome) -> None:
        """One more is done."""
        now = time.monotonic()
        if self._left is not None:
            self._left.took(outcome.key, now - self._last)
        self._last = now
        self._todo.discard(outcome.key)
        self._finished += 1
        line = f"[{self._finished}/{self._total}] {describe(outcome)}"
        left = self._time_left()
        if self._quiet:
            return
        if self._bar is not None and self._task is not None:
            with self._heard():
                self._bar.update(
                    self._task,
                    completed=self._finished,
                    total=self._total,
                    description=left.strip(),
                )
                self._bar.console.print(line, highlight=False, markup=False)
        elif self._every or isinstance(outcome, Failure) or now - self._said >= QUIET_S:
            tell(line + left)
            self._said = now

    def narrowed(self, answers: Sequence[Answer]) -> None:
        """Say which zones changed, one line each; what is still to come depends on them."""
        self._answers = answers
        for line in self._zones.changed(answers):
            if self._quiet:
                continue
            if self._bar is not None:
                with self._heard():
                    self._bar.console.print(line, highlight=False, markup=False)
            else:
                tell(line)

    def _time_left(self) -> str:
        """`  4m 10s left`, or what it is at most where that is all that can be told yet."""
        if self._left is None or not self._todo:
            return ""
        seconds = self._left.left_s()
        if seconds is not None:
            return f"  {format_duration(seconds)} left"
        most = self._left.most_s()
        return f"  at most {format_duration(most)} left" if most < float("inf") else ""


def decided_text(decisions: Sequence[Decision]) -> str:
    """`providers of 24 ops decided: transformer decode rotary torch up to 2,896, ssmprof above`."""
    moved = [
        f"{one.block} {one.conditions.phase} {one.op} {spans_text(one.spans)}"
        for one in decisions
        if set(one.providers) != {one.incumbent}
    ]
    doubtful = [f"{one.block} {one.op}" for one in decisions if not one.agreed]
    text = f"providers of {len(decisions)} ops decided on the block: "
    text += "; ".join(moved) if moved else "the first of each stays"
    if doubtful:
        text += f"; two processes disagree on {', '.join(dict.fromkeys(doubtful))}: unchanged there"
    return text


def describe(outcome: Outcome) -> str:
    """`mamba2 prefill 32K b1 graph  246 ms ±0.7 %`, or why there is no time; always one line."""
    return one_line(_described(outcome))


def _described(outcome: Outcome) -> str:
    point = outcome.point
    where = f"{point.block} {point.phase} {format_context(point.context)} b{point.batch}"
    where = f"{where} {point.execution}, round {outcome.round + 1}"
    if isinstance(outcome, Measurement):
        tags = [_WARN[note.kind] for note in outcome.notes if note.kind in _WARN]
        return f"{where}  {format_time(outcome.time_s)}{_noise(outcome)} {' '.join(tags)}".rstrip()
    asked = f" (asked for {format_bytes(outcome.asked_bytes)})" if outcome.asked_bytes else ""
    detail = next(iter(outcome.detail.splitlines()), "")[:160]
    again = " (--resume measures it again)" if outcome.transient else ""
    return f"! {where}: {outcome.reason}{asked}: {detail}{again}"


def _noise(measured: Measurement) -> str:
    from ssmprof.analysis.compare.estimate import median_order_interval

    if len(measured.times_s) < 6 or measured.time_s <= 0:
        return ""
    low, high = median_order_interval(measured.times_s)
    return f" ±{(high - low) / 2 / measured.time_s * 100:.1f} %"
