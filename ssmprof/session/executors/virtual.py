"""A device that is a formula: every part of a session but the workers, without a GPU or a wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from ssmprof.measure.workers.decisions import Decided
from ssmprof.records import Environment, Job, Measurement, Outcome, Trials, Visit
from ssmprof.session.executors.protocol import Desk, Kind


class Virtual:
    """Answers each job by `formula`, as the machine `environment`.

    An outcome is given the machine's fingerprint; one of a visit says whom it was measured beside.
    """

    def __init__(self, formula: Callable[[Job], Outcome], environment: Environment) -> None:
        self.environment = environment
        self._formula = formula

    @property
    def name(self) -> str:
        return self.environment.device

    @property
    def kind(self) -> Kind:
        return self.environment.kind

    @property
    def memory_bytes(self) -> int | None:
        return self.environment.memory_bytes

    @contextmanager
    def open(self, desk: Desk) -> Iterator[Virtual]:
        """A formula needs no examination, and tells its machine at once."""
        desk.meet(self.environment)
        yield self

    def close(self) -> None:
        """Nothing was started."""

    def decide(self, asked: Iterable[Trials]) -> Decided:
        """A formula has no implementations to choose from."""
        return Decided(())

    def heed(self, *_: object) -> None:
        """A formula depends on nobody."""

    def __call__(self, todo: Iterable[Job | Visit]) -> Iterator[Outcome]:
        """By formula, in the order of the jobs."""
        for one in todo:
            for job in one.jobs():
                found = replace(self._formula(job), environment=self.environment.fingerprint)
                if isinstance(one, Visit) and isinstance(found, Measurement):
                    found = in_turn(found, one)
                yield found


def in_turn(measured: Measurement, visit: Visit) -> Measurement:
    """The measurement as a visit gives it: beside the other contenders, in the visit's mode."""
    names = [subject.name for subject in visit.subjects]
    others = ", ".join(name for name in names if name != measured.point.block)
    return replace(measured, beside=others, mode=visit.sampling.mode)
