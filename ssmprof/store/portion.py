"""One device's part of a run in which several devices answer for themselves."""

from __future__ import annotations

from ssmprof.records import Environment, Outcome
from ssmprof.store.folder import RunFolder
from ssmprof.store.ledger import Ledger


class Portion(Ledger):
    """The outcomes of one device in an open run folder, and what it need not measure again.

    As `Journal`, of that device alone: what another one measured is not done here. `device` is the
    name in its environments.
    """

    def __init__(self, folder: RunFolder, device: str) -> None:
        super().__init__()
        self._folder = folder
        self._device = device
        for outcome in folder.journal.outcomes:
            if folder.environments[outcome.environment].device == device:
                self.learn(outcome)

    @property
    def environments(self) -> dict[str, Environment]:
        """The machines with this device, by fingerprint."""
        every = dict(self._folder.environments)  # another thread may meet one
        return {name: one for name, one in every.items() if one.device == self._device}

    def append(self, outcome: Outcome) -> None:
        """Keep an outcome: it is on the disk when this returns. Raises StoreError otherwise."""
        self._folder.journal.append(outcome)
        self.learn(self._folder.journal.outcomes[-1])
