"""One point in passes: build, warm up, time, attribute, weigh, power, host.

Instruments disturb each other, so each has its own pass and latency is timed while nobody listens.
A runner serves one worker: it keeps the block for all contexts and phases, and the call for all
executions of a point.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from msgspec import structs

from ssmprof.devices import Card, NullDevice, detect
from ssmprof.devices.base import Device
from ssmprof.errors import NoDeviceError
from ssmprof.measure import environment
from ssmprof.measure.board import assembler, unswapped
from ssmprof.measure.deciding import Decider
from ssmprof.measure.passes import memory
from ssmprof.measure.passes.beside import Scene, run_all
from ssmprof.measure.passes.compilations import count_compilations
from ssmprof.measure.timing import latency
from ssmprof.measure.timing.bench import Bench, captured, model_key
from ssmprof.measure.timing.sampling import WarmUp, warm_up
from ssmprof.measure.timing.timers import L2Flush
from ssmprof.measure.visit import Contenders, fallback_notes
from ssmprof.measure.workers import wire
from ssmprof.measure.workers.preload import preload
from ssmprof.measure.workers.worker import Stage, UnsupportedError
from ssmprof.models.build import build, workload
from ssmprof.models.build.foreign import ForeignModel
from ssmprof.models.build.workloads import Workload
from ssmprof.models.cost import cost
from ssmprof.models.footprint import footprint
from ssmprof.models.recipe import Recipe
from ssmprof.records import Environment, Job, Measurement, Note, Point

_WARM_UP_SHARE = 0.5  # of the point's budget at most, compilation included


class PointRunner:
    """The production runner (`worker.Runner`): real blocks on a real device."""

    def __init__(self, kind: Literal["cuda", "cpu"]) -> None:
        self.kind: Literal["cuda", "cpu"] = kind
        try:
            self.device: Device = detect(kind, measured_card() if kind == "cuda" else None)
        except NoDeviceError as error:
            # Torch may see a device that no library can read, and timing needs torch alone.
            self.device = NullDevice(kind, str(error.cause or error), kind)
        if kind == "cpu":
            # One core stays free for the parent and the system: a thread that waits its turn holds
            # up all the others at the end of every op.
            torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - 1))
        assembled = assembler(self.device)
        found = environment.probe(self.device, kind)
        self._environment = structs.replace(found, providers=found.providers | assembled)
        self._model: tuple[bytes, Any] | None = None
        self._loaded: tuple[Point, Workload] | None = None
        self._flush: L2Flush | None = None
        self._launches: int | None = None
        self._warm: WarmUp | None = None
        self._wait = torch.cuda.synchronize if kind == "cuda" else _nothing
        self._compilations = count_compilations()
        self._contenders: Contenders | None = None
        self._decider: Decider | None = None

    @staticmethod
    def prepare() -> None:
        """What a launcher may do before it forks."""
        preload()

    def environment(self) -> Environment:
        """The machine and the software."""
        return self._environment

    def measure(self, asked: wire.Measure, stage: Stage) -> Measurement:
        """All passes the job asks for. Raises what the device or a library raises."""
        job = asked.job
        began, clock = time.time(), time.perf_counter()
        if job.point.execution == "graph" and self.kind == "cpu":
            raise UnsupportedError("a CPU has no CUDA graphs; ask for eager execution")
        stage("build")
        load = self._load(job, asked.chosen)
        stage("warm-up")
        warm = self._warm_up(job, load)
        run = load.call
        if job.point.execution == "graph":
            stage("capture")
            gc.collect()  # the graph takes memory of its own: what nobody needs goes first
            run, self._launches = captured(load)
        stage("latency")
        timed, swapped = unswapped(self.device, lambda: self._latency(job, run, warm))
        settling = () if warm.settled else (Note(kind="warm-up", text="calls had not settled"),)
        measured = Measurement(
            point=job.point,
            round=job.round,
            environment=self._environment.fingerprint,
            times_s=timed.times_s,
            hot_times_s=timed.hot_times_s,
            timer=timed.timer,
            calls_per_sample=timed.calls_per_sample,
            cold_s=warm.cold_s,
            clocks=timed.clocks,
            providers=load.providers(),
            notes=timed.notes + settling + swapped + fallback_notes(load),
            launches=self._launches,
            cost=cost(job.subject, job.point) if isinstance(job.subject, Recipe) else None,
            started_unix_s=began,
            measuring_s=timed.measuring_s,
        )
        model = self._model[1] if self._model is not None else None
        scene = Scene(
            job=job,
            load=load,
            run=run.replay if isinstance(run, torch.cuda.CUDAGraph) else run,
            wait=self._wait,
            flush=self._flush if self._flush is not None else _nothing,
            release=self._flush.release if self._flush is not None else _nothing,
            device=self.device,
            module=model.module if isinstance(model, ForeignModel) else None,
            predicted_bytes=self._predicted(job),
            folder=None if asked.folder is None else Path(asked.folder),
        )
        measured = run_all(scene, measured, stage)
        return structs.replace(measured, wall_s=time.perf_counter() - clock)

    def weigh(self, asked: wire.Weigh, stage: Stage) -> wire.Weighed:
        """Memory and cold start of the job's call, in a process that has run nothing else."""
        job, clock = asked.job, time.perf_counter()
        stage("build")
        load = self._load(job, asked.chosen)
        stage("cold start")
        before, start = self._compilations(), time.perf_counter()
        load.call()
        self._wait()
        cold_s = time.perf_counter() - start
        stage("memory")
        weighed = memory.weigh(
            load,
            device=self.device,
            fresh=True,
            predicted_bytes=self._predicted(job),
        )
        return wire.Weighed(
            key=job.key,
            memory=weighed,
            cold_s=cold_s,
            compilations=self._compilations() - before,
            measuring_s=time.perf_counter() - clock,
        )

    def pair(self, asked: wire.Pair, stage: Stage) -> wire.Paired:
        """Contenders in turn at one length: see `visit.Contenders`."""
        self._contenders = self._contenders or Contenders(self._bench())
        return self._contenders.measure(asked, stage)

    def decide(self, asked: wire.Decide, stage: Stage) -> wire.Decided:
        """Who runs which op of a block: see `deciding.Decider`."""
        self._decider = self._decider or Decider(self._bench())
        return self._decider.decide(asked, stage)

    def _bench(self) -> Bench:
        fingerprint = self._environment.fingerprint
        return Bench(self.kind, self.device, fingerprint, self._compilations)

    def _predicted(self, job: Job) -> int | None:
        """Predicted peak of torch's allocator on a GPU, for blocks whose shapes are known."""
        if self.kind == "cpu" or not isinstance(job.subject, Recipe):
            return None
        major = int((self._environment.compute_capability or "0").split(".")[0])
        return footprint(job.subject, job.point, hopper=major >= 9).peak_bytes

    def _load(self, job: Job, chosen: Mapping[str, str]) -> Workload:
        """The call of the job's point; kept while only the execution changes."""
        if job.passes.cap_bytes is not None and self.kind == "cuda":
            memory.cap(job.passes.cap_bytes)
        cell = structs.replace(job.point, execution="eager")
        if self._loaded is not None:
            if self._loaded[0] == cell:
                return self._loaded[1]
            self._loaded[1].release()
            self._loaded = self._launches = self._warm = None
        name = model_key(job.subject, cell)
        if self._model is None or self._model[0] != name:
            self._model = None
            model = build(job.subject, self.kind, cell.dtype, cell.seed, cell.logits)
            self._model = (name, model)
        self._loaded = (cell, workload(self._model[1], cell, chosen))
        return self._loaded[1]

    def _warm_up(self, job: Job, load: Workload) -> WarmUp:
        """Until settled; a call that was measured in another execution is warm already."""
        if self._warm is not None:
            load.call()  # capturing gives the allocator's reserve back, and this takes it again
            self._wait()
            return self._warm
        limit_s = max(_WARM_UP_SHARE * job.budget.point_s, job.budget.min_time_s)
        self._warm = warm_up(load.call, self._wait, self._compilations, limit_s=limit_s)
        return self._warm

    def _latency(
        self, job: Job, run: Callable[[], Any] | torch.cuda.CUDAGraph, warm: WarmUp
    ) -> latency.Latency:
        if self.kind == "cuda":
            self._flush = self._flush or L2Flush.of_device()
            return latency.on_cuda(run, warm, job.budget, self.device, self._flush)
        assert callable(run)
        return latency.on_cpu(run, job.budget, self.device)


def measured_card() -> Card | None:
    """The card that torch measures, by the names NVML knows it under; None where it tells none."""
    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    uuid = getattr(properties, "uuid", None)
    bus = getattr(properties, "pci_bus_id", None)
    address = None
    if bus is not None:
        domain = getattr(properties, "pci_domain_id", 0)
        slot = getattr(properties, "pci_device_id", 0)
        address = f"{domain:08x}:{bus:02x}:{slot:02x}.0"
    return None if uuid is None and address is None else Card(uuid and f"GPU-{uuid}", address)


def _nothing() -> None:
    """A CPU's call is done when it returns."""
