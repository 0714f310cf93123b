"""Fit the time model of `ssd_scan` on this GPU: `python kernels/benchmarks/tune_ssd.py [--ship]`.

Promises: measures every shape at several numbers of segments (cold L2, CUDA graph), fits the model
of `ssmprof_kernels.ssd.plan` to the times, prints what the fitted model would choose beside the
best measured choice, and only with `--ship` writes the entries into the shipped table. A call of
`ssd_scan` itself never tunes.
"""

from __future__ import annotations

import argparse
import math
import os
import pathlib
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from ssmprof_kernels import launch
from ssmprof_kernels.ssd import plan as ssd_plan

#: batch, tokens, heads, groups; P = 64, N = 128.
Shape = tuple[int, int, int, int]
#: Measured microseconds by number of segments.
Observed = Mapping[Shape, Mapping[int, float]]

CANDIDATES: dict[Shape, tuple[int, ...]] = {
    (1, 512, 24, 1): (1, 2, 4, 8),
    (1, 512, 128, 8): (1, 2, 4),
    (1, 1024, 80, 1): (1, 2, 3, 4),
    (1, 2048, 24, 1): (4, 8, 11, 16),
    (1, 2048, 128, 8): (1, 2, 4),
    (1, 4096, 24, 1): (5, 8, 11, 16),
    (1, 4096, 80, 1): (1, 2, 3, 6),
    (1, 16384, 24, 1): (5, 11, 22),
    (1, 16384, 64, 1): (1, 2, 4),
    (1, 16384, 80, 1): (1, 2, 3),
    (1, 16384, 128, 8): (1, 2, 4),
    (1, 65536, 24, 1): (5, 11),
    (8, 512, 24, 1): (1, 2, 4),
    (8, 2048, 64, 1): (1, 2),
    (8, 16384, 24, 1): (1, 2, 4),
}
#: A miss of the best choice weighs more than a wrong absolute time.
REGRET_WEIGHT = 4.0
STEPS = (0.5, 0.7, 0.85, 0.95, 1.05, 1.2, 1.4, 2.0)


def modelled(shape: Shape, count: int, chunk: int, sm_count: int, t: ssd_plan.Times) -> float:
    """Modelled microseconds of a shape cut into about `count` segments."""
    batch, length, heads, _ = shape
    chunks = -(-length // chunk)
    per_segment = -(-chunks // count)
    cut = -(-chunks // per_segment)
    return ssd_plan.modelled_us(batch * heads, cut, per_segment, sm_count, t)


def chosen(shape: Shape, seen: Mapping[int, float], chunk: int, sms: int, t: ssd_plan.Times) -> int:
    """The measured candidate that the model takes for the fastest."""
    return min(seen, key=lambda count: modelled(shape, count, chunk, sms, t))


def badness(observed: Observed, chunk: int, sm_count: int, t: ssd_plan.Times) -> float:
    """Sum over shapes of the regret and the mean error of the model, both as natural logarithms."""
    total = 0.0
    for shape, seen in observed.items():
        pick = chosen(shape, seen, chunk, sm_count, t)
        total += REGRET_WEIGHT * math.log(seen[pick] / min(seen.values()))
        errors = [abs(math.log(modelled(shape, s, chunk, sm_count, t) / seen[s])) for s in seen]
        total += sum(errors) / len(errors)
    return total


def fit(observed: Observed, chunk: int, sm_count: int, start: ssd_plan.Times) -> ssd_plan.Times:
    """Coordinate descent on `badness` from `start`; the resident counts stay as they are."""
    best, least = start, badness(observed, chunk, sm_count, start)
    improved = True
    while improved:
        improved = False
        for name in (f for f in start._fields if f.endswith("_us")):
            for step in STEPS:
                trial = best._replace(**{name: round(getattr(best, name) * step, 4)})
                score = badness(observed, chunk, sm_count, trial)
                if score < least - 1e-6:
                    best, least, improved = trial, score, True
    return best


def bucket(shape: Shape) -> str:
    return f"bfloat16,P64,N128,{launch.length_bucket(shape[1])}"


def present(shape: Shape) -> dict[str, Any]:
    """Meta-parameters in force on the current device, tiles and times, without a forced cut."""
    batch, length, heads, _ = shape
    device = torch.device("cuda", torch.cuda.current_device())
    meta = ssd_plan.choose((batch, length, heads, 64), 128, torch.bfloat16, device).meta
    return {name: value for name, value in meta.items() if name != "S"}


def measure(shape: Shape, counts: tuple[int, ...]) -> dict[int, float]:
    """Microseconds per number of segments, forced through a table that only this process reads."""
    from ssmprof_kernels import ssd_scan
    from timing import graph_ms

    batch, length, heads, groups = shape
    given = {
        "x": torch.randn(batch, length, heads, 64, device="cuda", dtype=torch.bfloat16),
        "dt": torch.randn(batch, length, heads, device="cuda", dtype=torch.bfloat16) - 3,
        "A": -8 * torch.rand(heads, device="cuda") - 0.1,
        "B": torch.randn(batch, length, groups, 128, device="cuda", dtype=torch.bfloat16),
        "C": torch.randn(batch, length, groups, 128, device="cuda", dtype=torch.bfloat16),
    }
    rest = {"D": torch.randn(heads, device="cuda"), "dt_softplus": True}
    found = {}
    meta = present(shape)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SSMPROF_KERNELS_CONFIGS"] = folder
        try:
            for count in counts:
                forced = {**meta, "S": count}
                launch.write("ssd_scan", bucket(shape), forced, 0.0, folder=pathlib.Path(folder))
                found[count] = 1e3 * graph_ms(lambda: ssd_scan(**given, **rest))
        finally:
            del os.environ["SSMPROF_KERNELS_CONFIGS"]
            launch.forget()
    return found


def main() -> int:
    """Command line; 0 if a model was fitted, 2 where nothing can be measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ship", action="store_true", help="write the shipped table")
    parser.add_argument("--limit", type=int, help="first N shapes only")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("Tuning needs a CUDA device; this machine has none.", file=sys.stderr)
        return 2
    facts = launch.facts(torch.device("cuda", torch.cuda.current_device()))
    asked = list(CANDIDATES.items())[: args.limit]
    observed = {shape: measure(shape, counts) for shape, counts in asked}
    meta = present(asked[0][0])
    chunk = int(meta["Q"])
    start = ssd_plan.Times(*(meta[name] for name in ssd_plan.Times._fields))
    t = fit(observed, chunk, facts.sm_count, start)
    print(t)
    for shape, seen in observed.items():
        pick = chosen(shape, seen, chunk, facts.sm_count, t)
        print(f"{shape}: {pick} segments, {seen[pick]:.1f} us; best {min(seen.values()):.1f} us")
        if args.ship:
            fitted = {**present(shape), **t._asdict()}
            launch.write("ssd_scan", bucket(shape), fitted, seen[pick] / 1e3, shape=str(shape))
    return 0


if __name__ == "__main__":
    sys.exit(main())
