"""Progress in a notebook: one bar that is drawn again, and what one should know below it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from ssmprof.measure.workers.decisions import Decided
from ssmprof.records import Calibration, Failure, Outcome
from ssmprof.session.progress import Asked, Planned, Progress
from ssmprof.units import format_duration

_REDRAW_S = 0.25
_MOST_NOTES = 10


class Bar(Progress):
    """Draws on `display`, a handle whose `update` takes an object with `_repr_html_`."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._head = ""
        self._notes: list[str] = []
        self._expected: set[str] = set()
        self._done = 0
        self._here = 0
        self._began = time.monotonic()
        self._drawn = float("-inf")

    def __exit__(self, *_: object) -> None:
        self._draw()

    def planned(self, plan: Planned) -> None:
        self._head = f"{plan.device}, {plan.folder}"
        self._draw()

    def examined(self, found: Calibration | None) -> None:
        if found is None:
            self.warned("machine not examined: this run can carry no verdict")
            return
        for check in found.checks:
            if check.level != "ok":
                self.warned(f"{check.name}: {check.text}")

    def decided(self, found: Decided, seconds: float) -> None:
        for problem in found.problems:
            self.warned(f"providers of {problem}")

    def expect(self, jobs: Sequence[Asked]) -> None:
        self._expected |= {job.key for one in jobs for job in one.jobs()}

    def skip(self, done: Iterable[str]) -> None:
        self._done += len(self._expected.intersection(done))

    def started(self) -> None:
        self._began = time.monotonic()
        self._draw()

    def outcome(self, outcome: Outcome) -> None:
        self._done += 1
        self._here += 1
        if isinstance(outcome, Failure) and outcome.reason != "skipped":
            self.warned(f"{outcome.point.label()}: {outcome.reason}: {outcome.detail}")
        elif time.monotonic() - self._drawn > _REDRAW_S:
            self._draw()

    def warned(self, text: str) -> None:
        self._notes.append(text)
        self._draw()

    def _repr_html_(self) -> str:
        total = len(self._expected)
        left = ""
        if self._here and self._done < total:
            each = (time.monotonic() - self._began) / self._here
            left = f", {format_duration((total - self._done) * each)} left"
        older = len(self._notes) - _MOST_NOTES
        notes = [f"{older} notes before"] * (older > 0) + self._notes[-_MOST_NOTES:]
        return (
            f'<div><progress value="{self._done}" max="{max(total, 1)}"></progress> '
            f"{self._done} of {total} points{left}, {escape(self._head)}</div>"
            + "".join(f"<div>! {escape(note)}</div>" for note in notes)
        )

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        self._display.update(self)


def progress_here() -> Progress:
    """A bar where a notebook runs this process, else silence: a library says nothing unasked."""
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    if running is None or not hasattr(running, "kernel"):
        return Progress()
    from IPython.display import display  # pyright: ignore[reportMissingImports]

    return Bar(display(_Blank(), display_id=True))


class _Blank:
    """What stands where the bar will be."""

    def _repr_html_(self) -> str:
        return ""
