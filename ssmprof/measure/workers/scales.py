"""Memory of points, each weighed in a worker that has run nothing else, before it is timed."""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import structs

from ssmprof.measure.workers import wire
from ssmprof.measure.workers.process import LostError
from ssmprof.measure.workers.retry import persistently
from ssmprof.records import Job, Measurement, Note


class Scales:
    """What points weigh; `weigh` asks a fresh worker and raises LostError."""

    def __init__(self, weigh: Callable[[Job], wire.Reply]) -> None:
        self._weigh = weigh
        self._weighed: dict[str, wire.Weighed] = {}

    def lacks(self, job: Job) -> bool:
        """Whether the job asks for its memory in a fresh process, and has none yet."""
        return job.passes.memory == "fresh" and job.point.key not in self._weighed

    def weigh(self, job: Job) -> None:
        """Weigh a job's point; whatever happens is remembered."""
        clock = time.monotonic()
        try:
            reply = persistently(lambda: self._weigh(job))
        except LostError as lost:
            reply = wire.Weighed(key=job.key, missing=f"{lost.reason}: {lost.detail}")
        if not isinstance(reply, wire.Weighed):
            reply = wire.Weighed(key=job.key, missing="crash: gave no valid answer")
        wall_s = time.monotonic() - clock
        self._weighed[job.point.key] = structs.replace(reply, wall_s=wall_s)

    def joined(self, measured: Measurement, job: Job) -> Measurement:
        """The measurement with the memory of its point."""
        weighed = self._weighed.get(job.point.key)
        if job.passes.memory != "fresh" or weighed is None:
            return measured
        notes = measured.notes
        if weighed.memory is None:
            notes += (Note(kind="memory", text=weighed.missing or "no reason was given"),)
        if weighed.compilations:
            text = f"{weighed.compilations} kernels were compiled in the first call"
            notes += (Note(kind="compiled", text=text),)
        return structs.replace(
            measured,
            memory=weighed.memory,
            cold_s=measured.cold_s if weighed.cold_s is None else weighed.cold_s,
            notes=notes,
            wall_s=measured.wall_s + weighed.wall_s,
            measuring_s=measured.measuring_s + weighed.measuring_s,
        )
