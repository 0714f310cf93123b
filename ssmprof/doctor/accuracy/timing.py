"""Accuracy of times: ops against CUPTI, closure, processes, known durations, known copies."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import torch

from ssmprof.doctor import calibrate, processes
from ssmprof.doctor.accuracy.bench import Bench, Quantity, keep, point
from ssmprof.doctor.accuracy.eager import eager_closure
from ssmprof.doctor.device import spin_seen_s
from ssmprof.measure.attribution import compare_cupti
from ssmprof.measure.attribution.mark_cost import mark_cost
from ssmprof.measure.timing.timers import L2Flush
from ssmprof.models.build import build, workload
from ssmprof.records import median

_COPY_BYTES = 4 * 2**30
_BLOCKS = 4


def per_op(bench: Bench) -> list[Quantity]:
    """Events against CUPTI, and closure as a graph and eager, for every block and length."""
    cost = mark_cost()
    flush = L2Flush.of_device()
    found: list[compare_cupti.Comparison] = []
    eager: dict[str, float] = {}
    blocks = bench.blocks[:_BLOCKS]
    for spec in blocks:
        model = build(spec, "cuda")
        for length in bench.lengths:
            load = workload(model, point(spec, length))
            with torch.inference_mode():
                for _ in range(3):
                    load.call()
                torch.cuda.synchronize()
                found.append(
                    compare_cupti.compare(
                        load.call,
                        block=spec.name,
                        context=length,
                        flush=flush,
                    )
                )
                eager[f"{spec.name} {length}"] = eager_closure(load.call)
            load.release()
        del model
    compare_cupti.write_csv(found, bench.folder / "ops.csv")
    (bench.folder / "ops.txt").write_text(compare_cupti.table(found) + "\n", encoding="utf-8")
    keep(
        bench,
        "closure.json",
        {"graph": [(f.block, f.context, f.closure) for f in found], "eager": eager},
    )
    raw = ("block", "context", "kinds", "turns_ns")
    replays = [{name: getattr(f, name) for name in raw} for f in found]
    keep(bench, "turns.json", {"calibrated": vars(cost), "calls": replays})
    used = [row.allowance_used for row in compare_cupti.judged(found)]
    calls = f"{len(blocks)} blocks x {len(bench.lengths)} lengths"
    unmatched = [f"{f.block} {f.context}: {f.problem}" for f in found if f.problem]
    return [
        Quantity(
            name="per-op event time against CUPTI",
            value=compare_cupti.percentile(used, 0.95),
            bar=1.0,
            unit="of the allowance (1 us or 2 %, the larger), 95th percentile",
            how=f"{len(used)} ops of 5 us and more in {calls}, an early launched kernel from where "
            f"its predecessor ends; calibrated, a mark costs {cost.kernel_s * 1e6:.2f} us, two "
            f"empty pairs {2e6 * cost.empty_s:.2f} and a chain {cost.chain_s * 1e6:.2f}; "
            f"{_clocks(found)}; ops.csv has every op",
            reason="; ".join(unmatched) or None,
        ),
        Quantity(
            name="closure, graph",
            value=max(f.closure for f in found),
            bar=0.02,
            unit="of the whole, worst call",
            how="sum of intervals less their marks, each as costly as graphs without some "
            f"of them show, against a graph marked at its ends only, {calls}",
        ),
        Quantity(
            name="closure, eager",
            value=max(eager.values()),
            bar=0.05,
            unit="of the whole, worst call",
            how=f"ops and gaps between two events around the call, and an empty call's launch, "
            f"against the host's wall time, {calls}",
        ),
    ]


def _clocks(found: Sequence[compare_cupti.Comparison]) -> str:
    """How far the clocks of the two instruments were apart, where they could be read."""
    known = [(f.event_hz, f.cupti_hz) for f in found]
    apart = [abs(event / cupti - 1) for event, cupti in known if event and cupti]
    return f"their SM clocks differ by at most {max(apart):.2%}" if apart else "clocks not read"


def between_processes(bench: Bench) -> list[Quantity]:
    """Variation of the median between fresh processes, by the length of the call."""
    medians = processes.variations("cuda")
    keep(bench, "processes.json", medians)
    found: list[Quantity] = []
    for label, least, most, bar in (
        ("100 us and more", 100e-6, float("inf"), 0.01),
        ("10 to 100 us", 10e-6, 100e-6, 0.03),
    ):
        rows = [values for values in medians.values() if least <= median(values) < most]
        found.append(
            Quantity(
                name=f"variation of the median between processes, {label}",
                value=max((processes.variation(row) for row in rows), default=None),
                bar=bar,
                unit="coefficient of variation, worst size",
                how=f"{processes.PROCESSES} fresh processes, softmax of "
                + ", ".join(f"{median(row) * 1e6:.0f} us" for row in rows),
                reason=None if rows else "no call of this length was measured",
            )
        )
    return found


def spin(bench: Bench) -> list[Quantity]:
    """A kernel that spins for 1 ms by the device's own timer."""
    seen_s, spun_s = spin_seen_s(1e-3)
    keep(bench, "spin.json", {"seen_s": seen_s, "spun_s": spun_s})
    return [
        Quantity(
            name="1 ms spin kernel",
            value=abs(seen_s / spun_s - 1),
            bar=0.005,
            unit="of its duration",
            how="graph timer against the nanoseconds that the kernel counted by the global timer",
        )
    ]


def copy(bench: Bench) -> list[Quantity]:
    """A copy of 4 GiB by our timer, against the host clock around plain copies."""
    source = torch.empty(_COPY_BYTES, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)

    def call() -> None:
        target.copy_(source)

    plain: list[float] = []
    for _ in range(10):
        torch.cuda.synchronize()
        began = perf_counter()
        call()
        torch.cuda.synchronize()
        plain.append(perf_counter() - began)
    ours_s = calibrate.stream_seconds(call)
    keep(bench, "copy.json", {"plain_s": plain, "ours_s": ours_s})
    return [
        Quantity(
            name="copy of 4 GiB",
            value=abs(ours_s / median(plain) - 1),
            bar=0.03,
            unit="of a plain timed copy",
            how=f"{2 * _COPY_BYTES / ours_s / 1e9:,.0f} GB/s read and written, by events in a held "
            "stream",
        )
    ]
