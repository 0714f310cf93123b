"""A visit: contenders measured in turn, in one process, at several lengths."""

from __future__ import annotations

from collections.abc import Container
from typing import Annotated, Literal

from msgspec import Meta, structs

from ssmprof import limits
from ssmprof.records.base import Record
from ssmprof.records.outcomes import Job
from ssmprof.records.point import Point
from ssmprof.spec import Budget, Passes, Subject

Mode = Literal["cold", "sustained"]

_LATENCY_ONLY = Passes(parts=False, memory="off", energy=False, host=False, cupti=False)


class Sampling(Record, frozen=True, kw_only=True):
    """How contenders are measured in turn at one length.

    `cold`: single calls A B, B A, ..., each after a flush of the L2 cache, until `pairs` are taken,
    or six and the standard error of every mean log ratio is at most `target_error`, or `length_s`
    is spent (four pairs are always taken). Pairs are even in number, so that the order cancels.
    `sustained`: `windows` windows of at least `window_s` of calls back to back, in turn, each after
    a lead-in that lets the clock settle; with `energy` then as many windows of joules, in turn.
    """

    mode: Mode = "cold"
    pairs: Annotated[int, Meta(ge=2)] = 10
    target_error: Annotated[float, Meta(gt=0)] | None = None
    length_s: Annotated[float, Meta(gt=0)] = 2.0
    windows: Annotated[int, Meta(ge=1, le=limits.SAMPLES)] = 5
    window_s: Annotated[float, Meta(gt=0)] = 0.5
    energy: bool = False


class Visit(Record, frozen=True, kw_only=True):
    """Contenders to be measured in turn in one fresh process; travels to a worker as jobs.

    `points` has one entry per length: one point per subject, in the order of the subjects, equal
    but for the contender; entries may also differ in phase, batch and execution, since each is
    measured by itself. Every point gives one Measurement or Failure, whose key is that of the point
    in this round: so a visit needs a round number that no other outcome of its points has.
    """

    subjects: Annotated[tuple[Subject, ...], Meta(min_length=2)]
    points: Annotated[tuple[tuple[Point, ...], ...], Meta(min_length=1)]
    round: int
    budget: Budget
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        names = [subject.name for subject in self.subjects]
        if len(set(names)) != len(names):
            raise ValueError(f"contenders of a visit need names of their own, not {names}")
        if any([point.block for point in group] != names for group in self.points):
            raise ValueError(f"every length of a visit needs one point of each of {names}")

    def lengths(self) -> tuple[tuple[Job, ...], ...]:
        """The jobs of each length."""
        return tuple(
            tuple(
                Job(
                    point=point,
                    subject=subject,
                    round=self.round,
                    budget=self.budget,
                    passes=_LATENCY_ONLY,
                )
                for subject, point in zip(self.subjects, group, strict=True)
            )
            for group in self.points
        )

    def jobs(self) -> tuple[Job, ...]:
        """Everything that is asked for, one outcome each."""
        return tuple(job for jobs in self.lengths() for job in jobs)

    def remaining(self, done: Container[str]) -> Visit | None:
        """What is left of it: lengths of which every outcome is there are left out.

        A length that was cut in half is measured again whole, since pairs belong together.
        """
        left = tuple(
            group
            for group, jobs in zip(self.points, self.lengths(), strict=True)
            if any(job.key not in done for job in jobs)
        )
        return structs.replace(self, points=left) if left else None
