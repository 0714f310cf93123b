"""The passes beside latency, each apart from it and from the others: PASSES, in their order.

A pass takes the measurement so far and returns it with what it found. Where it fails the latency
stands, with the reason beside it.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from msgspec import structs

from ssmprof import limits
from ssmprof.devices.base import Device
from ssmprof.errors import SsmprofError
from ssmprof.measure import attribution
from ssmprof.measure.passes import energy, host, memory
from ssmprof.measure.workers.worker import BROKEN, Stage
from ssmprof.models.build.workloads import Workload
from ssmprof.records import Energy, Host, Job, Measurement, Note

_PARTS_S = 0.2  # device time of the marked replays: shares need no more, and long calls few
_SHORTEST_S = 1e-7  # no call of a device returns sooner
_FEWEST_REPLAYS, _MOST_REPLAYS = 3, 10


@dataclass(frozen=True)
class Scene:
    """A call that has been timed, and what a pass may use.

    `run` is the call in its own execution; `module` is a foreign model, whose submodules name the
    parts that our blocks name by scopes.
    """

    job: Job
    load: Workload
    run: Callable[[], Any]
    wait: Callable[[], Any]
    flush: Callable[[], Any]
    release: Callable[[], Any]
    device: Device
    module: torch.nn.Module | None
    predicted_bytes: int | None
    folder: Path | None


def parts(scene: Scene, measured: Measurement) -> Measurement:
    """Time per op, in a call of its own with marks; a note where it runs too many kernels."""
    if (measured.launches or 0) > limits.TRACED_LAUNCHES:
        text = f"{measured.launches:,} kernels; parts are taken of up to {limits.TRACED_LAUNCHES:,}"
        return structs.replace(measured, notes=(*measured.notes, Note(kind="route", text=text)))
    found = attribution.attribute(
        scene.load.call,
        device=scene.device.kind,
        replays=max(_FEWEST_REPLAYS, min(_MOST_REPLAYS, int(_PARTS_S / _call_s(measured)))),
        flush=scene.flush,
        names=scene.job.passes.cupti,
        providers=measured.providers,
        module=scene.module,
    )
    tags = attribution.notes(found)
    return structs.replace(measured, attribution=found, notes=measured.notes + tags)


def _call_s(measured: Measurement) -> float:
    """What a call takes, for planning how often to repeat it: above zero, whatever was timed."""
    return max(measured.time_s, _SHORTEST_S)


def powered(scene: Scene, measured: Measurement) -> Measurement:
    """Joules of one call, from windows of calls back to back."""
    found = energy.measure(
        scene.run, device=scene.device, call_s=_call_s(measured), synchronize=scene.wait
    )
    if isinstance(found, Energy):
        return structs.replace(measured, energy=found)
    return structs.replace(measured, notes=(*measured.notes, found))


def hosted(scene: Scene, measured: Measurement) -> Measurement:
    """Where the CPU is during the eager call; the stacks go to the run's folder."""
    stacks = None
    if scene.folder is not None:
        stacks = scene.folder / f"stacks-{scene.job.key}.txt"
    found = host.profile(scene.load.call, synchronize=scene.wait, stacks=stacks)
    if isinstance(found, Host):
        return structs.replace(measured, host=found)
    return structs.replace(measured, notes=(*measured.notes, found))


def weighed(scene: Scene, measured: Measurement) -> Measurement:
    """The allocated peak in a process with a history: reserved and device numbers stay None.

    What measuring itself holds is given back before: the flush's buffer, and the workspaces that
    cuBLAS keeps for every stream a graph was captured on.
    """
    if scene.device.kind == "cuda":
        scene.release()
        torch._C._cuda_clearCublasWorkspaces()
    found = memory.weigh(scene.load, device=scene.device, predicted_bytes=scene.predicted_bytes)
    return structs.replace(measured, memory=found)


# Memory last, since weighing gives back what the allocator keeps for the next call.
PASSES: dict[str, Callable[[Scene, Measurement], Measurement]] = {
    "parts": parts,
    "energy": powered,
    "host": hosted,
    "memory": weighed,
}


def run_all(scene: Scene, measured: Measurement, stage: Stage) -> Measurement:
    """Every pass the job asks for; their time counts as measuring."""
    wanted = scene.job.passes
    asked = {
        "parts": wanted.parts,
        "energy": wanted.energy,
        "host": wanted.host,
        "memory": wanted.memory == "block",
    }
    if any(asked.values()):
        stage.keep(measured)
    for name, run in PASSES.items():
        if asked[name]:
            stage(name)
            clock = time.perf_counter()
            measured = _apart(name, run, scene, measured)
            spent = time.perf_counter() - clock
            measured = structs.replace(measured, measuring_s=measured.measuring_s + spent)
    return measured


def _apart(
    name: str,
    run: Callable[[Scene, Measurement], Measurement],
    scene: Scene,
    measured: Measurement,
) -> Measurement:
    try:
        return run(scene, measured)
    except (RuntimeError, OSError, SsmprofError) as error:
        traceback.print_exc()
        text = f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return structs.replace(measured, notes=(*measured.notes, Note(kind=BROKEN, text=text)))
