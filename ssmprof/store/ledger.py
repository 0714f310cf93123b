"""What is known of a run's jobs: the outcomes that stand, and which need not be measured again."""

from __future__ import annotations

from ssmprof.records import Failure, Outcome


class Ledger:
    """Outcomes as they come.

    `outcomes` lacks transient failures that a later outcome of their job replaced. `done` names the
    jobs that are not to be measured again: all but those whose failure was transient.
    """

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.done: set[str] = set()
        self._failed: set[str] = set()

    def learn(self, outcome: Outcome) -> None:
        """Note an outcome that is kept."""
        if outcome.key in self._failed:
            self.outcomes = [
                one for one in self.outcomes if one.key != outcome.key or not _in_passing(one)
            ]
            self._failed.discard(outcome.key)
        self.outcomes.append(outcome)
        if _in_passing(outcome):
            self._failed.add(outcome.key)
        else:
            self.done.add(outcome.key)


def _in_passing(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and outcome.transient
