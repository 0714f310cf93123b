"""What a session tells while it works: events, for whoever wants to hear them.

`Progress` says nothing; the command line says lines and draws a bar, a notebook draws its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ssmprof.records import Job, Outcome, Visit
from ssmprof.scalars import Strategy

if TYPE_CHECKING:
    from ssmprof.analysis.compare.answer import Answer
    from ssmprof.measure.workers.decisions import Decided
    from ssmprof.planning.feasible import Machine
    from ssmprof.records import Calibration
    from ssmprof.spec import Scenario

Asked = TypeVar("Asked", bound=Job | Visit)


@dataclass(frozen=True)
class Planned:
    """What a session begins with: so many points, those `missing` to be measured on `device`.

    A `strategy` other than the grid asks for more where the answer needs them.
    """

    points: int
    missing: int
    strategy: Strategy
    device: str
    folder: Path


class Progress:
    """Told how a sweep goes, in this order; override what is to be heard.

    Used as a context manager around what is measured.
    """

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begins(self, scenario: Scenario, machine: Machine) -> None:
        """That is asked, of such a machine."""

    def planned(self, plan: Planned) -> None:
        """It is known what to begin with."""

    def examined(self, found: Calibration | None) -> None:
        """The machine was examined; None: it is not, and no verdict will be given."""

    def decided(self, found: Decided, seconds: float) -> None:
        """Who runs which op was looked into, for so many seconds."""

    def expect(self, jobs: Sequence[Asked]) -> None:
        """More is to be measured."""

    def skip(self, done: Iterable[str]) -> None:
        """Jobs (by key) that an earlier session answered."""

    def started(self) -> None:
        """Measuring begins now."""

    def outcome(self, outcome: Outcome) -> None:
        """One more is measured, and kept."""

    def narrowed(self, answers: Sequence[Answer]) -> None:
        """What is known so far of who wins where."""

    def warned(self, text: str) -> None:
        """Something that ends nothing, and that one should know."""
