"""Kernel times beside every importable peer: `python kernels/benchmarks/run.py [OP ...]`.

Promises: all providers of a cell run in one process, in random order within each round, cold L2;
outputs are compared before anything is timed; a peer that is missing or fails is a row without a
time and with its reason. Writes bench.csv, bench.json and totals.json; prints the cells as they
come and the totals against floor and aim at the end. Needs a CUDA device.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import pathlib
import random
import sys
import time
from typing import Any

import ceilings
import peers
import timing
import torch
import triton
import verdicts
from cases import BUILDERS, Call, Case, cells
from ssmprof_kernels import launch

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

COLUMNS = (
    "op", "shape", "length", "batch", "provider", "mode", "ms", "device", "width",
    "ms_low", "ms_high", "ratio", "ratio_low", "ratio_high", "gb_per_s", "tflop_per_s",
    "share_bandwidth", "share_matrix", "share_exponentials", "share_launch", "error", "first_s",
    "config", "tuned", "note",
)  # fmt: skip


def main() -> int:
    """Parse the command line, measure, write, print; 0 unless nothing can be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Plain)
    parser.add_argument("ops", nargs="*", metavar="OP", help=f"of {', '.join(BUILDERS)}; all")
    parser.add_argument("--out", type=pathlib.Path, help="folder; runs/kernels-<device>")
    parser.add_argument("--rounds", type=int, default=30, help="samples per provider and cell")
    parser.add_argument("--seconds", type=float, default=0, help="stop after; 0 is never")
    parser.add_argument("--shapes", help="only models of these names, comma-separated")
    parser.add_argument("--no-eager", action="store_true", help="graph times only")
    args = parser.parse_args()
    unknown = [op for op in args.ops if op not in BUILDERS]
    if unknown:
        parser.error(f"unknown OP {', '.join(unknown)}; known are {', '.join(BUILDERS)}")
    if not torch.cuda.is_available():
        print("The kernel benchmark needs a CUDA device; this machine has none.", file=sys.stderr)
        return 2
    table = tomllib.loads(pathlib.Path(__file__).with_name("shapes.toml").read_text("utf-8"))
    if args.shapes:
        for op in BUILDERS:
            for grid in table[op]:
                wanted = args.shapes.split(",")
                grid["models"] = [m for m in grid["models"] if m["name"] in wanted]
    device = torch.cuda.get_device_name()
    out = args.out or pathlib.Path("runs") / f"kernels-{device.lower().replace(' ', '-')}"
    out.mkdir(parents=True, exist_ok=True)
    random.seed(0)
    torch.manual_seed(0)
    limits = ceilings.measure()
    print(
        f"{device}: copy {limits.bytes_per_s / 1e9:.0f} GB/s, "
        f"bf16 matmul {limits.flops_per_s / 1e12:.0f} TFLOP/s, "
        f"exponentials {limits.exps_per_s / 1e12:.2f} T/s, launch {limits.launch_s * 1e6:.2f} us"
    )
    rows: list[dict[str, Any]] = []
    started = time.monotonic()
    todo = cells(args.ops or BUILDERS, table)
    for done, build in enumerate(todo):
        if args.seconds and time.monotonic() - started > args.seconds:
            print(f"stopped after {args.seconds:.0f} s: {done} of {len(todo)} cells measured")
            break
        fresh = _cell(build(), limits, device, args.rounds, not args.no_eager)
        rows += fresh
        _print(fresh)
        # The cell's tensors hang in reference cycles of its closures.
        gc.collect()
        if done % 20 == 0:
            _write(out, rows, table, limits, device)
    _write(out, rows, table, limits, device)
    _print_totals(verdicts.judge(rows, table))
    _print_missing(rows)
    print(f"written: {out}/bench.csv, bench.json, totals.json")
    return 0


class _Plain(argparse.RawDescriptionHelpFormatter):
    pass


def _cell(
    case: Case, limits: ceilings.Ceilings, device: str, rounds: int, eager: bool
) -> list[dict[str, Any]]:
    launch.forget()
    providers: dict[str, list[Call] | peers.Missing] = {verdicts.OWN: case.calls}
    try:
        providers |= peers.calls(case)
    except torch.OutOfMemoryError:
        providers |= {"peers": peers.Missing("out-of-memory while preparing the peers' inputs")}
    notes: dict[str, str] = {}
    outputs: dict[str, torch.Tensor] = {}
    timers: dict[str, timing.ColdTimer | timing.RotatedTimer] = {}
    first: dict[str, float] = {}
    for name, calls in providers.items():
        if isinstance(calls, peers.Missing):
            notes[name] = calls.reason
            continue
        try:
            case.restore()
            start = time.perf_counter()
            result = calls[0]()
            torch.cuda.synchronize()
            first[name] = time.perf_counter() - start
            outputs[name] = result.clone()
            timers[name] = (
                timing.RotatedTimer(calls) if case.rotated else timing.ColdTimer(calls[0])
            )
        except Exception as error:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            notes[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
    errors = _errors(case, outputs)
    outputs.clear()
    samples: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(rounds):
        for name in random.sample(list(timers), len(timers)):
            samples[name].append(timers[name].sample_ms())
    timers.clear()
    config = {f"{op}:{bucket}": c for (op, bucket, _), c in launch._choices.items()}
    rows = []
    for name, calls in providers.items():
        row = dict.fromkeys(COLUMNS) | {
            "op": case.op, "shape": case.shape, "length": case.length, "batch": case.batch,
            "provider": name, "mode": "graph", "device": device, "width": case.width,
            "note": notes.get(name) or peers.NOTES.get((case.op, name)),
        }  # fmt: skip
        if samples.get(name):
            row |= _times(case, limits, samples, name) | {
                "error": errors.get(name), "first_s": first[name],
            }  # fmt: skip
        if name == verdicts.OWN:
            row["config"] = json.dumps({k: c.meta for k, c in config.items()})
            row["tuned"] = all(c.tuned for c in config.values())
        rows.append(row)
        if eager and samples.get(name) and not isinstance(calls, peers.Missing):
            ms = timing.eager_ms(calls[0], seconds=0.02)
            same = {k: row[k] for k in ("op", "shape", "length", "batch", "provider", "width")}
            rows.append(
                dict.fromkeys(COLUMNS) | same | {"mode": "eager", "ms": ms, "device": device}
            )
    return rows


def _times(
    case: Case, limits: ceilings.Ceilings, samples: dict[str, list[float]], name: str
) -> dict[str, Any]:
    ms, low, high = verdicts.median_interval(samples[name])
    shares = ceilings.shares(limits, ms, case.moved_bytes, case.flops, case.exps)
    found: dict[str, Any] = {
        "ms": ms, "ms_low": low, "ms_high": high,
        "gb_per_s": case.moved_bytes / ms / 1e6, "tflop_per_s": case.flops / ms / 1e9,
    } | {f"share_{k}": v for k, v in shares.items()}  # fmt: skip
    if name != verdicts.OWN and samples.get(verdicts.OWN):
        per_round = [p / o for p, o in zip(samples[name], samples[verdicts.OWN], strict=True)]
        ratio, ratio_low, ratio_high = verdicts.median_interval(per_round)
        found |= {"ratio": ratio, "ratio_low": ratio_low, "ratio_high": ratio_high}
    return found


def _errors(case: Case, outputs: dict[str, torch.Tensor]) -> dict[str, float]:
    """Relative RMS distance to the plain form, or to another provider where that is too large."""
    try:
        case.restore()
        if case.plain is not None:
            truth = case.plain().float()
        else:
            others = [n for n in outputs if n != verdicts.OWN]
            truth = outputs[others[0]].float() if others else None
        if truth is None:
            return {}
        scale = truth.norm()
        return {
            n: ((o.float().reshape(truth.shape) - truth).norm() / scale).item()
            for n, o in outputs.items()
        }
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return {}


def _write(
    out: pathlib.Path,
    rows: list[dict[str, Any]],
    table: dict[str, Any],
    limits: ceilings.Ceilings,
    device: str,
) -> None:
    with (out / "bench.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(COLUMNS)
        writer.writerows([_short(row[c]) for c in COLUMNS] for row in rows)
    environment = {
        "device": device,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "peers": {name: peers.version(name) for name in peers.INSTALL},
        "tables": launch.digest(),
        "ceilings": vars(limits),
    }
    (out / "bench.json").write_text(
        json.dumps({"environment": environment, "rows": rows}, indent=1), encoding="utf-8"
    )
    totals = verdicts.judge(rows, table)
    (out / "totals.json").write_text(json.dumps(totals, indent=1), encoding="utf-8")


def _short(value: Any) -> Any:
    return f"{value:.5g}" if isinstance(value, float) else value


def _print(rows: list[dict[str, Any]]) -> None:
    eager = {r["provider"]: r["ms"] for r in rows if r["mode"] == "eager"}
    for r in rows:
        if r["mode"] != "graph":
            continue
        cell = f"{r['op']:<23}{r['shape']:<12}{r['length']:>7} x{r['batch']:<3}{r['provider']:<14}"
        if r["ms"] is None:
            print(f"{cell}{'-':>10}  {r['note']}", flush=True)
            continue
        best = max((n for n in r if n.startswith("share_")), key=lambda n: r[n])
        ratio = "" if r["ratio"] is None else f"{r['ratio']:6.2f}x"
        wall = eager.get(r["provider"])
        print(
            f"{cell}{r['ms']:10.4f} ms {'' if wall is None else f'{wall:8.3f} eager'} {ratio:>8}"
            f"{r['gb_per_s']:8.0f} GB/s{r['tflop_per_s']:8.1f} TFLOP/s"
            f"{r[best]:6.0%} of {best.removeprefix('share_')}"
            f"{'' if r['error'] is None else '  error {:.1e}'.format(r['error'])}",
            flush=True,
        )


def _print_totals(lines: list[dict[str, Any]]) -> None:
    print("\ngeometric mean of peer time / own time (or share of a ceiling), against the bars")
    for t in lines:
        where = ", ".join(f"{k} {v}" for k, v in t["where"].items()) or "all"
        state = "aim met" if t["aim_met"] else "floor met" if t["floor_met"] else "BELOW FLOOR"
        print(
            f"{t['op']:<23}{t['against']:<20}{t['mode']:<6}{t['cells']:>4} cells"
            f"{t['reached']:8.2f} (worst {t['worst']:.2f}; floor {t['floor']}, aim {t['aim']})"
            f"  {state}  [{where}]"
        )


def _print_missing(rows: list[dict[str, Any]]) -> None:
    reasons = {r["note"] for r in rows if r["note"] and "pip install" in r["note"]}
    for reason in sorted(reasons):
        print(f"missing peer: {reason}")


if __name__ == "__main__":
    sys.exit(main())
