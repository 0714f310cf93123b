"""Accuracy of memory and energy, and what sampling them costs."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from time import perf_counter, sleep
from typing import Any

import torch

from ssmprof.devices import detect
from ssmprof.doctor.accuracy.bench import Bench, Quantity, keep, point
from ssmprof.doctor.processes import variation
from ssmprof.measure.passes import energy as energy_pass
from ssmprof.measure.passes.memory import CLOSURE_BYTES, CLOSURE_SHARE, weigh
from ssmprof.measure.passes.telemetry import Telemetry
from ssmprof.measure.timing.stopping import median_interval
from ssmprof.models.build import build, workload
from ssmprof.models.footprint import footprint
from ssmprof.records import Energy, median

_WINDOW_S = 3.0
_WINDOWS = 5
_SAMPLER_HZ = 10.0
# Short turns, many pairs: what the clocks do in a second is more than what is looked for.
_TURN_S = 0.1
_PAIRS = 48


def memory(bench: Bench) -> list[Quantity]:
    """Predicted peak against the allocator's, at every point of the bench."""
    device = detect("cuda")
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    for spec in bench.blocks:
        model = build(spec, "cuda")
        for phase in bench.memory_phases:
            for context in bench.memory_contexts:
                at = point(spec, context, phase)
                predicted = footprint(spec, at).peak_bytes
                try:
                    load = workload(model, at)
                    with torch.inference_mode():
                        load.call()
                    peak = weigh(load, device=device).allocator_peak_bytes
                    load.release()
                except torch.OutOfMemoryError:
                    skipped.append(at.label())
                    continue
                allowed = max(CLOSURE_BYTES, CLOSURE_SHARE * peak)
                rows.append(
                    {
                        "point": at.label(),
                        "predicted_bytes": predicted,
                        "peak_bytes": peak,
                        "allowance_used": abs(predicted - peak) / allowed,
                    }
                )
        del model
    device.close()
    keep(bench, "memory.json", rows)
    worst = max(rows, key=lambda row: row["allowance_used"])
    return [
        Quantity(
            name="memory prediction against allocator peak",
            value=worst["allowance_used"],
            bar=1.0,
            unit="of the allowance (64 MiB or 2 %, the larger), worst point",
            how=f"{len(rows)} points of {len(bench.blocks)} blocks; worst {worst['point']}",
            reason=f"out of memory at {', '.join(skipped)}" if skipped else None,
        )
    ]


def energy(bench: Bench) -> list[Quantity]:
    """The same window again and again: variation of the joules per call."""
    device = detect("cuda")
    a, b = (torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product = torch.empty_like(a)
    found = energy_pass.measure(
        lambda: torch.mm(a, b, out=product),
        device=device,
        call_s=0.25e-3,
        synchronize=torch.cuda.synchronize,
        window_s=_WINDOW_S,
        windows=_WINDOWS,
    )
    device.close()
    if not isinstance(found, Energy):
        raise RuntimeError(found.text)
    keep(bench, "energy.json", found)
    gap = None if found.integral_j is None else found.integral_j / found.energy_j - 1
    return [
        Quantity(
            name="energy of the same window",
            value=variation(found.windows_j),
            bar=0.01,
            unit="coefficient of variation",
            how=f"{_WINDOWS} windows of {_WINDOW_S:.0f} s of a 4096^3 bf16 matmul, {found.source}; "
            + ("no integral" if gap is None else f"integrated power differs by {gap:+.1%}"),
        )
    ]


def sampler(bench: Bench) -> list[Quantity]:
    """A/B: calls back to back while a process beside samples the device, and while it does not.

    The call moves memory: a matmul would run into the power limit, whose clocks move by more than
    the bar.
    """
    words = torch.ones(2**24, device="cuda", dtype=torch.bfloat16)

    def timed() -> float:
        """Seconds per call of a turn's worth of eager calls."""
        torch.cuda.synchronize()
        calls, began = 0, perf_counter()
        while perf_counter() - began < _TURN_S:
            for _ in range(200):
                words.mul_(1.0)
            torch.cuda.synchronize()
            calls += 200
        return (perf_counter() - began) / calls

    context = multiprocessing.get_context("spawn")
    ready, sampling, stop = context.Event(), context.Event(), context.Event()
    beside = context.Process(target=sample_while, args=(ready, sampling, stop, _SAMPLER_HZ))
    beside.start()
    if not ready.wait(60):
        beside.kill()
        raise TimeoutError("the process that samples beside does not start within 60 s")
    for _ in range(3):
        timed()
    off: list[float] = []
    on: list[float] = []
    for pair in range(_PAIRS):
        # Off first and on first in turn, so that a drift of clocks favours neither.
        for kept in (off, on) if pair % 2 else (on, off):
            if kept is on:
                sampling.set()
            else:
                sampling.clear()
            kept.append(timed())
    sampling.set()
    stop.set()
    beside.join(10)
    if beside.is_alive():
        beside.kill()
    keep(bench, "sampler.json", {"off_s": off, "on_s": on})
    signed, (low, high) = overhead(off, on)
    return [
        Quantity(
            name="sampler overhead",
            value=max(0.0, high),
            bar=0.01,
            unit="of wall time, at most (upper end of a 95 % interval)",
            how=f"{_PAIRS} pairs of {_TURN_S:g} s with and without a process that samples the "
            f"device at {_SAMPLER_HZ:.0f} Hz; signed median {signed:+.2%}, 95 % interval "
            f"{low:+.2%} to {high:+.2%}",
        )
    ]


def overhead(off: Sequence[float], on: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Median of what each pair of turns took longer with sampling, and its 95 % interval."""
    longer = [with_s / without_s - 1 for with_s, without_s in zip(on, off, strict=True)]
    return median(longer), median_interval(longer)


def sample_while(ready: Any, sampling: Any, stop: Any, hz: float) -> None:
    """Sample the CUDA device while `sampling` is set, until `stop` is; in a process of its own."""
    device = detect("cuda")
    ready.set()
    while not stop.is_set():
        sampling.wait()
        with Telemetry(device, lambda _: None, hz) as beside:
            while sampling.is_set() and not stop.is_set():
                sleep(0.01)
        if beside.error is not None:
            raise beside.error  # what is timed meanwhile has no sampling beside it
