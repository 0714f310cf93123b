"""What ended from outside is tried again in a fresh process: a signal is not a property of a point.

A kill, a failed fork or a broken pipe says nothing about what was measured; running out of memory,
a time-out or a shape that is not supported does, and stays a result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ssmprof.measure.workers.process import LostError, Worker
from ssmprof.records import Job, Measurement

Result = TypeVar("Result")
RETRIES = 2
_PAUSE_S = 0.2  # whatever killed the process may still be at work


def persistently(attempt: Callable[[], Result]) -> Result:
    """The result of `attempt`, made again after a transient death, `RETRIES` times at most.

    Raises the LostError of the last attempt; one that is transient says how often it was tried.
    """
    for tried in range(1, RETRIES + 1):
        found = _once(attempt)
        if not isinstance(found, LostError):
            return found
        time.sleep(_PAUSE_S * (tried - 1))
    try:
        return attempt()
    except LostError as lost:
        if not lost.transient:
            raise
        text = f"{lost.detail}; tried {RETRIES + 1} times"
        raise LostError(lost.reason, text, transient=True) from lost


def _once(attempt: Callable[[], Result]) -> Result | LostError:
    try:
        return attempt()
    except LostError as lost:
        if not lost.transient:
            raise
        return lost


class Remains:
    """What workers that died over one job had kept of it, and the passes they died in."""

    def __init__(self) -> None:
        self.kept: Measurement | None = None
        self.stages: list[str] = []

    def add(self, worker: Worker | None, job: Job) -> None:
        """Note what a worker left behind; None is one that did not start."""
        if worker is not None and worker.kept is not None and worker.kept.key == job.key:
            self.kept = worker.kept
            self.stages.append(worker.stage)
