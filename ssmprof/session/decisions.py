"""What one process finds and all obey, kept in the run before anybody relies on it.

    providers         who runs which op, decided once, before the first point
    disabled passes   what killed its process on a machine, and is not tried there again
    limits            lengths that lacked room or time: they follow from the outcomes themselves

A resumed run starts with all of it, whoever found it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ssmprof.measure.workers.decisions import Decided
from ssmprof.planning.deciding import questions
from ssmprof.private import without_own
from ssmprof.records import Decision, DisabledPass, Environment, Outcome
from ssmprof.report.redact import cleaned
from ssmprof.session.executors.protocol import Bench, Kind
from ssmprof.spec import Scenario
from ssmprof.store.folder import RunFolder
from ssmprof.store.portion import Portion


class Decisions:
    """The findings of a run folder, and the way new ones get into it.

    With `portion` those of one device of several: none obeys what another one found.
    """

    def __init__(self, folder: RunFolder, portion: Portion | None = None) -> None:
        self._folder = folder
        self._portion = portion

    @property
    def outcomes(self) -> Sequence[Outcome]:
        """Everything measured so far: the limits follow from it."""
        return (self._portion or self._folder.journal).outcomes

    @property
    def providers(self) -> tuple[Decision, ...]:
        """Who runs which op, as far as it is decided."""
        if self._portion is None:
            return self._folder.decisions
        here = self._portion.environments
        return tuple(one for one in self._folder.decisions if one.environment in here)

    @property
    def disabled(self) -> tuple[DisabledPass, ...]:
        """Passes that are not tried again, each on its machine."""
        return self._folder.disabled

    def disable(self, found: DisabledPass) -> None:
        """Keep that a pass killed its process, without the names of this user, host and home."""
        self._folder.add_disabled(cleaned(found, without_own))

    def meet(self, found: Environment) -> None:
        """Keep a machine before the first outcome that refers to it."""
        calibration = cleaned(found.calibration, without_own)
        self._folder.add_environment(replace(found, calibration=calibration))

    def decide(self, scenario: Scenario, bench: Bench, device: Kind) -> Decided:
        """Let it be found who runs which op. Nothing is kept yet."""
        return bench.decide(questions(scenario, device=device, known=self.providers))

    def add(self, found: Decided) -> None:
        """Keep who runs which op, before the first point is measured."""
        if found.decisions:
            self._folder.add_decisions(found.decisions)
