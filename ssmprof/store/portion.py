"""One device's part of a run in which several devices answer for themselves."""

from __future__ import annotations

from ssmprof.records import Environment, Failure, Outcome
from ssmprof.store.folder import RunFolder


class Portion:
    """The outcomes of one device in an open run folder, and what it need not measure again.

    As `Journal`, of that device alone: what another one measured is not done here. `device` is the
    name in its environments.
    """

    def __init__(self, folder: RunFolder, device: str) -> None:
        self._folder = folder
        self._device = device
        self.outcomes: list[Outcome] = []
        self.done: set[str] = set()
        self._failed: set[str] = set()
        for outcome in folder.journal.outcomes:
            if folder.environments[outcome.environment].device == device:
                self._learn(outcome)

    @property
    def environments(self) -> dict[str, Environment]:
        """The machines with this device, by fingerprint."""
        every = dict(self._folder.environments)  # another thread may meet one
        return {name: one for name, one in every.items() if one.device == self._device}

    def append(self, outcome: Outcome) -> None:
        """Keep an outcome: it is on the disk when this returns. Raises StoreError otherwise."""
        self._folder.journal.append(outcome)
        self._learn(self._folder.journal.outcomes[-1])

    def _learn(self, outcome: Outcome) -> None:
        if outcome.key in self._failed:
            self.outcomes = [one for one in self.outcomes if one.key != outcome.key]
            self._failed.discard(outcome.key)
        self.outcomes.append(outcome)
        if isinstance(outcome, Failure) and outcome.transient:
            self._failed.add(outcome.key)
        else:
            self.done.add(outcome.key)
