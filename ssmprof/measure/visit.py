"""The worker's half of a visit: contenders side by side on the device, measured in turn.

Each contender is built once for all lengths of the visit. Nobody listens while they are timed, and
no other pass runs here. What fails is the failure of the contender that was being worked on; what
does not fit beside the others is told, so that they can be measured apart.
"""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from ssmprof.errors import SsmprofError
from ssmprof.measure.board import loosened, unswapped
from ssmprof.measure.passes import energy
from ssmprof.measure.timing.bench import Bench, Run, model_key, submitted
from ssmprof.measure.timing.clocks import ClockWatch
from ssmprof.measure.timing.pairs import alternate, enough_for
from ssmprof.measure.timing.sampling import WarmUp, throttle_notes, warm_up
from ssmprof.measure.timing.sustained import Steady
from ssmprof.measure.timing.timers import TimerName
from ssmprof.measure.workers import wire
from ssmprof.measure.workers.worker import BROKEN, Stage, failure_of
from ssmprof.models.build import build, workload
from ssmprof.models.build.workloads import Workload
from ssmprof.models.cost import cost
from ssmprof.models.recipe import Recipe
from ssmprof.records import Clocks, Energy, Failure, Job, Measurement, Note, Sampling

_WARM_UP_SHARE = 0.5  # of the point's budget at most, compilation included
_ENERGY_WINDOW_S = 2.0  # between two moves of the counter: good to a per cent at ten moves a second

Look = Callable[[], object]


@dataclass
class _Ready:
    """A contender that has been built, warmed up and captured."""

    job: Job
    load: Workload
    warm: WarmUp
    run: Run
    launches: int | None
    began_unix_s: float


@dataclass(frozen=True)
class _Timed:
    """What one contender's samples are."""

    times_s: tuple[float, ...]
    timer: TimerName
    calls_per_sample: int = 1
    sm_clocks_hz: tuple[float, ...] = ()
    energy: Energy | Note | None = None


class _SampleError(Exception):
    """A contender failed while it was timed; the cause says how."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class Contenders:
    """The contenders of a visit on one device; built as they are asked for."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._models: dict[bytes, Any] = {}

    def measure(self, asked: wire.Pair, stage: Stage) -> wire.Paired:
        """Every contender at one length: one outcome each, unless the device had to be given up.

        Then `outcomes` holds what is known; those missing must be asked for again, in another
        process, and `apart` says so where they do not fit beside each other.
        """
        clock = time.perf_counter()
        ready: list[_Ready] = []
        outcomes: list[Measurement | Failure] = []
        try:
            self._keep_only(asked)
            for job, chosen in zip(asked.jobs, asked.chosen, strict=True):
                began = time.time()
                try:
                    ready.append(self._prepare(job, chosen, stage))
                except Exception as error:
                    failed = self._failed(job, error, began, clock)
                    if failed.reason == "out-of-memory" and len(asked.jobs) > 1:
                        return wire.Paired(apart=failed.detail)
                    outcomes.append(failed)
                    if failed.reason != "unsupported":
                        return wire.Paired(outcomes=tuple(outcomes))
            if ready:
                outcomes += self._timed_in_turn(ready, asked, stage, clock)
        except _SampleError as failure:
            job, cause = ready[failure.index].job, failure.__cause__
            assert isinstance(cause, Exception)
            failed = self._failed(job, cause, ready[failure.index].began_unix_s, clock)
            if failed.reason == "out-of-memory" and len(asked.jobs) > 1:
                return wire.Paired(apart=failed.detail)
            outcomes.append(failed)
        finally:
            for one in ready:
                one.load.release()
        return wire.Paired(outcomes=tuple(outcomes))

    def _failed(self, job: Job, error: Exception, began: float, clock: float) -> Failure:
        traceback.print_exception(error)
        spent = time.perf_counter() - clock
        return failure_of(job, error, self._bench.environment, began, spent)

    def _keep_only(self, asked: wire.Pair) -> None:
        """Give up models that are not asked for: their room may be needed."""
        wanted = {model_key(job.subject, job.point) for job in asked.jobs}
        for name in self._models.keys() - wanted:
            del self._models[name]

    def _prepare(self, job: Job, chosen: dict[str, str], stage: Stage) -> _Ready:
        began, bench, block = time.time(), self._bench, job.point.block
        stage(f"build of {block}")
        name = model_key(job.subject, job.point)
        if name not in self._models:
            point = job.point
            self._models[name] = build(
                job.subject, bench.kind, point.dtype, point.seed, point.logits
            )
        cell = structs.replace(job.point, execution="eager")
        load = workload(self._models[name], cell, chosen)
        stage(f"warm-up of {block}")
        limit_s = max(_WARM_UP_SHARE * job.budget.point_s, job.budget.min_time_s)
        warm = warm_up(load.call, bench.wait, bench.compilations, limit_s=limit_s)
        stage(f"capture of {block}")
        gc.collect()  # a graph takes memory of its own: what nobody needs goes first
        run, launches = bench.runnable(load, job.point.execution)
        submitted(run)()  # a first replay uploads the graph
        bench.wait()
        return _Ready(job, load, warm, run, launches, began)

    def _timed_in_turn(
        self, ready: list[_Ready], asked: wire.Pair, stage: Stage, clock: float
    ) -> list[Measurement]:
        bench = self._bench
        stage("samples")
        before, pinned = bench.device.sm_hz(), bench.device.pinned()
        start = time.perf_counter()
        watch = ClockWatch(bench.device)
        take = self._sustained if asked.sampling.mode == "sustained" else self._cold
        timed, swapped = unswapped(bench.device, lambda: take(ready, asked.sampling, watch.look))
        clocks = watch.clocks(before)
        notes = (
            *throttle_notes(clocks, bench.device.max_sm_hz()),
            *loosened(pinned, clocks.pinned),
            *swapped,
        )
        if asked.sampling.energy:
            stage("energy")
            timed = self._powered(ready, timed, asked.sampling)
        measuring_s = (time.perf_counter() - start) / len(ready)
        wall_s = (time.perf_counter() - clock) / len(ready)
        names = [one.job.point.block for one in ready]
        found: list[Measurement] = []
        for one, taken in zip(ready, timed, strict=True):
            others = ", ".join(name for name in names if name != one.job.point.block)
            measured = self._measurement(one, taken, clocks, notes)
            found.append(
                structs.replace(
                    measured,
                    beside=others or None,
                    mode=asked.sampling.mode,
                    wall_s=wall_s,
                    measuring_s=measuring_s,
                )
            )
        return found

    def _cold(self, ready: list[_Ready], asked: Sampling, look: Look) -> list[_Timed]:
        """Single calls in turn, the L2 cache flushed before each."""
        timers = [self._bench.cold_timer(one.run, one.warm.call_s) for one in ready]
        samples = [_blaming(index, timer.sample) for index, timer in enumerate(timers)]
        times = alternate(samples, enough_for(asked), between=look)
        return [
            _Timed(taken, timer.name, timer.calls_per_sample)
            for taken, timer in zip(times, timers, strict=True)
        ]

    def _sustained(self, ready: list[_Ready], asked: Sampling, look: Look) -> list[_Timed]:
        """Windows of calls back to back in turn, the clock read while they run."""
        steady = [
            Steady(one.run, self._bench, one.warm.call_s, least_s=asked.window_s) for one in ready
        ]
        samples = [_blaming(index, one.window) for index, one in enumerate(steady)]
        times = alternate(samples, lambda taken, _: len(taken[0]) >= asked.windows, between=look)
        return [
            _Timed(taken, one.timer, one.calls, one.clocks_hz())
            for taken, one in zip(times, steady, strict=True)
        ]

    def _powered(self, ready: list[_Ready], timed: list[_Timed], asked: Sampling) -> list[_Timed]:
        """The same with the joules of one call each, from windows in turn; or why there are none.

        The times stand where this fails.
        """
        calls = [
            (submitted(one.run), taken.times_s[0]) for one, taken in zip(ready, timed, strict=True)
        ]
        try:
            found = energy.measure_in_turn(
                calls,
                device=self._bench.device,
                synchronize=self._bench.wait,
                window_s=_ENERGY_WINDOW_S,
                windows=asked.windows,
            )
        except (RuntimeError, OSError, SsmprofError) as error:
            traceback.print_exc()
            text = f"energy: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            found = [Note(kind=BROKEN, text=text)] * len(ready)
        return [replace(taken, energy=one) for taken, one in zip(timed, found, strict=True)]

    def _measurement(
        self, one: _Ready, taken: _Timed, clocks: Clocks, notes: tuple[Note, ...]
    ) -> Measurement:
        job = one.job
        if not one.warm.settled:
            notes += (Note(kind="warm-up", text="calls had not settled"),)
        if isinstance(taken.energy, Note):
            notes += (taken.energy,)
        subject = job.subject
        return Measurement(
            point=job.point,
            round=job.round,
            environment=self._bench.environment,
            times_s=taken.times_s,
            timer=taken.timer,
            cold_s=one.warm.cold_s,
            calls_per_sample=taken.calls_per_sample,
            launches=one.launches,
            energy=taken.energy if isinstance(taken.energy, Energy) else None,
            cost=cost(subject, job.point) if isinstance(subject, Recipe) else None,
            clocks=clocks,
            providers=one.load.providers(),
            notes=notes + fallback_notes(one.load),
            started_unix_s=one.began_unix_s,
            sm_clocks_hz=taken.sm_clocks_hz,
        )


def fallback_notes(load: Workload) -> tuple[Note, ...]:
    """What the report must know of providers that gave way in this workload."""
    found = load.choice.fallbacks
    return tuple(Note(kind="provider", text=f"{op}: {text}") for op, text in sorted(found.items()))


def _blaming(index: int, sample: Callable[[], float]) -> Callable[[], float]:
    """The same sample, its failure told apart from that of the others."""

    def blamed() -> float:
        try:
            return sample()
        except Exception as error:
            raise _SampleError(index) from error

    return blamed
