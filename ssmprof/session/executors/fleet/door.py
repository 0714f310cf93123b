"""How a worker that is good for something gets its jobs: what runs in the scheduler for that.

A scheduler looks at waiting tasks when a worker joins, not when it is given a resource later. This
module travels by value, so that a scheduler needs no ssmprof: it imports nothing of it.
"""

from __future__ import annotations

from typing import Any

from distributed import SchedulerPlugin

ADMIT = "ssmprof_admit"


class Door(SchedulerPlugin):
    """Gives workers a resource, and them the tasks that waited for it."""

    name = "ssmprof-door"
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        """Listen for workers that ask to be admitted."""
        self._scheduler = scheduler
        scheduler.handlers[ADMIT] = self.admit

    def admit(self, worker: str, resource: str) -> str:
        """Note that the worker at this address has the resource, once."""
        scheduler = self._scheduler
        state = scheduler.workers[worker]
        if resource not in state.resources:
            state.resources[resource] = 1
            state.used_resources[resource] = 0
            scheduler.resources.setdefault(resource, {})[worker] = 1
            waiting = scheduler.bulk_schedule_unrunnable_after_adding_worker(state)
            scheduler.transitions(waiting, stimulus_id=f"{self.name}-{worker}")
        return "OK"


def stands(dask_scheduler: Any) -> bool:
    """Whether a scheduler has the door: one that was started again has not."""
    return Door.name in dask_scheduler.plugins
