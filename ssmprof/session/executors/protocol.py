"""What a session needs of whoever measures for it, and what it gives him.

An executor opens a bench for one run. Of what the bench yields every outcome answers one of the
jobs, none twice; whatever dies below it becomes a Failure. Only the session writes the run: a bench
tells it what it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from ssmprof.errors import ConfigError
from ssmprof.measure.workers.decisions import Decided
from ssmprof.records import (
    Calibration,
    Decision,
    DisabledPass,
    Environment,
    Job,
    Outcome,
    TelemetrySample,
    Trials,
    Visit,
)

Kind = Literal["cuda", "cpu"]


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What is known when a bench is opened, and whom it tells what it finds.

    `folder` may keep what is too big for a record, `examine` asks for an examination of the machine
    (it belongs into its environment), `predict` gives the bytes a job will need, where it can.
    `meet` is told a machine before the first outcome that refers to it.
    """

    folder: Path
    examine: bool
    outcomes: Sequence[Outcome]
    decisions: Sequence[Decision]
    disabled: Sequence[DisabledPass]
    predict: Callable[[Job], int | None]
    meet: Callable[[Environment], object]
    disable: Callable[[DisabledPass], object]
    telemetry: Callable[[TelemetrySample], object]
    examined: Callable[[Calibration], object]
    warned: Callable[[str], object]


class Bench(Protocol):
    """An executor at work on one run."""

    def decide(self, asked: Iterable[Trials], /) -> Decided:
        """Who runs which op; obeyed from now on. Raises nothing that a worker does."""
        ...

    def __call__(self, todo: Iterable[Job | Visit], /) -> Iterator[Outcome]:
        """Measure: one outcome per job, and per point of a visit."""
        ...

    def heed(
        self,
        outcomes: Iterable[Outcome],
        decisions: Iterable[Decision],
        disabled: Iterable[DisabledPass],
        /,
    ) -> None:
        """What other benches of the run found since this one was opened; obeyed from now on."""
        ...


class Executor(Protocol):
    """Where a sweep measures: a device by name and kind, with memory in bytes where it tells."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Kind: ...

    @property
    def memory_bytes(self) -> int | None: ...

    def open(self, desk: Desk) -> AbstractContextManager[Bench]:
        """A bench for one run, closed with all it started. Raises SsmprofError."""
        ...

    def close(self) -> None:
        """Give the device back; closing twice is allowed."""
        ...


@runtime_checkable
class Fleet(Protocol):
    """Devices of several names: a run asks each for its own answer, all at the same time."""

    @property
    def kinds(self) -> Sequence[Executor]: ...


class SideBySide:
    """Executors of several devices as one."""

    def __init__(self, kinds: Sequence[Executor]) -> None:
        self.kinds = kinds

    @property
    def name(self) -> str:
        return " and ".join(one.name for one in self.kinds)

    @property
    def kind(self) -> Kind:
        return self.kinds[0].kind

    @property
    def memory_bytes(self) -> int | None:
        sizes = [one.memory_bytes for one in self.kinds if one.memory_bytes is not None]
        return min(sizes, default=None)

    def open(self, desk: Desk) -> AbstractContextManager[Bench]:
        """The bench of the only device. Raises ConfigError where there are several."""
        if len(self.kinds) > 1:
            raise ConfigError(f"several devices: {self.name}", fix="open one of `kinds`")
        return self.kinds[0].open(desk)

    def close(self) -> None:
        """Give all devices back."""
        for one in self.kinds:
            one.close()


def devices_of(executor: Executor) -> Sequence[Executor]:
    """The devices that an executor measures on, each an executor of its own."""
    return executor.kinds if isinstance(executor, Fleet) else (executor,)
