"""The machine's own error bars and ceilings, measured on it: marks, launches, copy, read, matmul.

Nothing here comes from a data sheet. What cannot be measured stays None. The whole takes a few
seconds, so that every sweep can carry its own calibration.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch
from msgspec import structs

from ssmprof.devices.base import Device
from ssmprof.measure.attribution import marks
from ssmprof.measure.attribution.intervals import Untraceable
from ssmprof.measure.attribution.mark_cost import mark_cost
from ssmprof.measure.attribution.stream_events import stream_mark_cost_s
from ssmprof.measure.attribution.wall_clock import tracer_cost
from ssmprof.measure.timing.timers import CudaTimer, GraphTimer, Timer, WallTimer, capture
from ssmprof.records import Calibration, median

_COPY_BYTES = 2**30
_MATMUL = 8192
_CPU_BYTES = 2**26
_CPU_MATMUL = 512
# exp alone moves no data worth counting if each element is exponentiated this often.
_EXP_DEPTH = 64
_LAUNCHES = 200
# The counter of joules moves ten times a second on datacentre cards; this sees it move.
_ENERGY_S = 1.2
_REPEATS = 12
_HALF = 100


def calibrate(device: Device, *, energy: bool = True) -> Calibration:
    """Measure every figure of `Calibration` that this device has (`checks` is `doctor`'s).

    `energy` watches the joule counter for 1.2 s. Needs the device to be otherwise idle.
    """
    with torch.inference_mode():
        found = _on_cuda() if device.kind == "cuda" else _on_cpu()
    if energy:
        found = structs.replace(found, energy_period_s=energy_period_s(device))
    return found


def _on_cuda() -> Calibration:
    cell = torch.ones(1, device="cuda")
    graphs = marks.external_events_work() is None
    cost = mark_cost() if graphs else None
    copied, read = _bandwidths()
    return Calibration(
        empty_pair_graph_s=None if cost is None else cost.empty_s,
        empty_pair_stream_s=_empty_pair_stream_s(),
        mark_cost_s=None if cost is None else cost.kernel_s,
        launch_eager_s=_launch_eager_s(cell),
        launch_graph_s=_launch_graph_s(cell),
        copy_bytes_per_s=copied,
        read_bytes_per_s=read,
        matmul_flops=matmul_flops(random=True),
        exps_per_s=_exps_per_s(),
        repeat_noise=repeat_halves(lambda: cell.mul_(1.0)),
    )


def _bandwidths() -> tuple[float, float]:
    """Bytes per second of a copy (read and written bytes counted) and of reading alone."""
    source = torch.empty(_COPY_BYTES // 2, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    words = source.view(torch.int32)
    # A copy node of a graph runs at 5/6 of what the same copy reaches in a stream (H100).
    copy_s = stream_seconds(lambda: target.copy_(source))
    # A reduction reads everything and writes next to nothing.
    read_s = seconds(lambda: torch.amax(words, 0))
    return _COPY_BYTES / copy_s, _COPY_BYTES / 2 / read_s


def matmul_flops(*, random: bool) -> float:
    """FLOP/s of a large bf16 matmul, on random data or on zeros, which draw less power."""
    make = torch.randn if random else torch.zeros
    a, b = (make(_MATMUL, _MATMUL, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product = torch.empty_like(a)
    return 2 * _MATMUL**3 / seconds(lambda: torch.mm(a, b, out=product))


def _on_cpu() -> Calibration:
    one = torch.ones(1)
    source = torch.rand(_CPU_BYTES // 4)
    target = torch.empty_like(source)
    copy_s = _wall_s(lambda: target.copy_(source))
    read_s = _wall_s(lambda: torch.sum(source))
    a, b = torch.randn(_CPU_MATMUL, _CPU_MATMUL), torch.randn(_CPU_MATMUL, _CPU_MATMUL)
    matmul_s = _wall_s(lambda: torch.mm(a, b))

    def launches() -> None:
        for _ in range(_LAUNCHES):
            one.add_(0.0)

    return Calibration(
        mark_cost_s=tracer_cost().op_s,
        launch_eager_s=_wall_s(launches) / _LAUNCHES,
        copy_bytes_per_s=2 * _CPU_BYTES / copy_s,
        read_bytes_per_s=_CPU_BYTES / read_s,
        matmul_flops=2 * _CPU_MATMUL**3 / matmul_s,
        repeat_noise=_halves([WallTimer(lambda: torch.mm(a, b)) for _ in range(2)]),
    )


def seconds(call: Callable[[], Any], repeats: int = _REPEATS) -> float:
    """Device time of one call: replays of its graph, where it can be captured, on a held stream."""
    call()
    torch.cuda.synchronize()
    started = perf_counter()
    call()
    torch.cuda.synchronize()
    graph, _ = capture(call)
    timer = GraphTimer(graph, perf_counter() - started)
    return median(timer.sample() for _ in range(repeats))


def stream_seconds(call: Callable[[], Any], repeats: int = _REPEATS) -> float:
    """Device time of one call submitted to a held stream, without a graph."""
    call()
    torch.cuda.synchronize()
    started = perf_counter()
    call()
    torch.cuda.synchronize()
    timer = CudaTimer(call, perf_counter() - started)
    return median(timer.sample() for _ in range(repeats))


def _wall_s(call: Callable[[], Any], repeats: int = _REPEATS) -> float:
    call()
    timer = WallTimer(call)
    return median(timer.sample() for _ in range(repeats))


def repeat_halves(call: Callable[[], Any]) -> float:
    """A/A: relative difference of two medians of the same call, measured in turns."""
    graph, _ = capture(call)
    return _halves([GraphTimer(graph, 2e-6) for _ in range(2)])


def _halves(timers: list[Timer]) -> float:
    samples: tuple[list[float], list[float]] = ([], [])
    for _ in range(_HALF):
        for timer, kept in zip(timers, samples, strict=True):
            kept.append(timer.sample())
    return abs(median(samples[0]) / median(samples[1]) - 1)


def _empty_pair_stream_s() -> float | None:
    """What a mark costs in a held stream, None if the stream cannot be held."""
    try:
        return stream_mark_cost_s()
    except Untraceable:
        return None


def _launch_eager_s(cell: torch.Tensor) -> float:
    """Host seconds per launch of a kernel that does nothing worth mentioning."""

    def many() -> None:
        for _ in range(_LAUNCHES):
            cell.add_(0.0)

    many()
    timer = WallTimer(many, torch.cuda.synchronize)
    return median(timer.sample() for _ in range(5)) / _LAUNCHES


def _launch_graph_s(cell: torch.Tensor) -> float:
    """Seconds per kernel of a graph of kernels that do nothing worth mentioning."""

    def many() -> None:
        for _ in range(_LAUNCHES):
            cell.add_(0.0)

    return seconds(many) / _LAUNCHES


def _exps_per_s() -> float | None:
    """Special-function results per second of a kernel that does little else; needs Triton."""
    try:
        from ssmprof.measure.timing.spin import Exponentials
    except ImportError:
        return None
    call = Exponentials(_EXP_DEPTH)
    return call.count / seconds(call)


def energy_period_s(device: Device, watch_s: float = _ENERGY_S) -> float | None:
    """How often the joule counter moves: median time between its changes; None without one."""
    began = perf_counter()
    changes: list[float] = []
    last = device.energy_j()
    if last is None:
        return None
    while (now := perf_counter()) - began < watch_s:
        value = device.energy_j()
        if value is None:
            return None
        if value != last:
            changes.append(now)
            last = value
    if len(changes) < 3:
        return None
    return median(after - before for before, after in pairwise(changes))
