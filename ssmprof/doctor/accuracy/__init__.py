"""`doctor --accuracy`: how far each kind of number can be trusted on this machine, as numbers.

Each quantity has a value, a bar it should stay below and a sentence that says how it was obtained;
smaller is better. Raw data are written beside them, so that a value can be re-derived. A quantity
that cannot be measured here keeps its place, with the reason instead of a value.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from time import perf_counter

import msgspec
import torch

from ssmprof.doctor.accuracy import resources, timing
from ssmprof.doctor.accuracy.bench import LENGTHS, Bench, Quantity, Report

# Memory first: what the other measurements leave in the allocator would count as the call's.
QUANTITIES: dict[str, Callable[[Bench], Sequence[Quantity]]] = {
    "memory": resources.memory,
    "spin": timing.spin,
    "copy": timing.copy,
    "between-processes": timing.between_processes,
    "sampler": resources.sampler,
    "per-op": timing.per_op,
    "energy": resources.energy,
}


def run(bench: Bench, say: Callable[[str], object] = print) -> Report:
    """Measure every quantity on the CUDA device and write accuracy.json with the raw data.

    A quantity that fails keeps its place with the reason; accuracy.json is written after each one.
    Raises OSError if the folder cannot be written.
    """
    bench.folder.mkdir(parents=True, exist_ok=True)
    began = perf_counter()
    found: list[Quantity] = []
    for name, measure in QUANTITIES.items():
        started = perf_counter()
        try:
            results = measure(bench)
        except Exception as error:
            (bench.folder / f"{name}.error.txt").write_text(traceback.format_exc())
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            results = [
                Quantity(name=name, value=None, bar=0.0, unit="", how="failed", reason=reason)
            ]
        found += results
        torch.cuda.empty_cache()
        for one in results:
            value = "n/a" if one.value is None else f"{one.value:.4g}"
            say(
                f"{one.name}: {value} {one.unit} (bar {one.bar:g}) "
                f"[{perf_counter() - started:.1f} s]" + (f" {one.reason}" if one.reason else "")
            )
        report = Report(
            device=torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
            torch=str(torch.__version__),
            seconds=perf_counter() - began,
            quantities=tuple(found),
        )
        text = msgspec.json.format(msgspec.json.encode(report), indent=2)
        (bench.folder / "accuracy.json").write_bytes(text + b"\n")
    return report


__all__ = ["LENGTHS", "QUANTITIES", "Bench", "Quantity", "Report", "run"]
