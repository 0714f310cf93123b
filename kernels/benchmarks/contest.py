"""One cell measured: every provider on the same inputs, as rows of the benchmark.

Promises: outputs are compared before anything is timed; all providers of a cell run in one process,
in random order within each round, cold L2; a provider that is missing or fails is a row without a
time and with its reason. `Clock` says where the seconds of a run went.
"""

from __future__ import annotations

import collections
import contextlib
import json
import random
import time
from collections.abc import Iterator
from typing import Any

import ceilings
import peers
import timing
import torch
import verdicts
from cases import Call, Case, build
from exact import error
from plan import Cell
from record import COLUMNS, Row
from ssmprof_kernels import launch


class Clock:
    """Seconds by stage; a stage ends when the device is idle."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = collections.defaultdict(float)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            torch.cuda.synchronize()
            self.seconds[name] += time.perf_counter() - start


def cell(
    chosen: Cell, limits: ceilings.Ceilings, clock: Clock, *, rounds: int, eager: bool
) -> list[Row]:
    """One graph row per provider, and with `eager` one wall-time row per provider that ran."""
    launch.forget()
    with clock.stage("inputs"):
        case, providers = _providers(chosen)
    notes: dict[str, str] = {}
    outputs: dict[str, torch.Tensor] = {}
    timers: dict[str, timing.ColdTimer | timing.RotatedTimer] = {}
    first: dict[str, float] = {}
    for name, calls in providers.items():
        if isinstance(calls, peers.Missing):
            notes[name] = calls.reason
            continue
        try:
            with clock.stage("first calls"):
                case.restore()
                start = time.perf_counter()
                result = calls[0]()
                torch.cuda.synchronize()
                first[name] = time.perf_counter() - start
                outputs[name] = result.clone()
            with clock.stage("captures"):
                timers[name] = (
                    timing.RotatedTimer(calls) if case.rotated else timing.ColdTimer(calls[0])
                )
        except Exception as failure:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            lines = str(failure).splitlines() or [""]
            notes[name] = f"{type(failure).__name__}: {lines[0][:160]}"
    with clock.stage("exact results"):
        errors = _errors(case, outputs)
        outputs.clear()
    samples: dict[str, list[float]] = {name: [] for name in timers}
    with clock.stage("samples"):
        for _ in range(rounds):
            for name in random.sample(list(timers), len(timers)):
                samples[name].append(timers[name].sample_ms())
        timers.clear()
    config = {f"{op}:{bucket}": c for (op, bucket), c in launch.chosen().items()}
    same = {
        "op": case.op, "shape": case.shape, "length": case.length, "batch": case.batch,
        "device": torch.cuda.get_device_name(), "width": case.width,
    }  # fmt: skip
    rows = []
    for name, calls in providers.items():
        note = notes.get(name) or peers.NOTES.get((case.op, name))
        early = peers.EARLY.get((case.op, name))
        mine = same | {"provider": name, "early": early}
        row = dict.fromkeys(COLUMNS) | mine | {"mode": "graph", "note": note}
        if samples.get(name):
            row |= _times(case, limits, samples, name) | {
                "error": errors.get(name), "first_s": first[name],
            }  # fmt: skip
        if name == verdicts.OWN:
            row["config"] = json.dumps({k: c.meta for k, c in config.items()})
            row["tuned"] = all(c.tuned for c in config.values())
        rows.append(row)
        if eager and samples.get(name) and not isinstance(calls, peers.Missing):
            with clock.stage("eager"):
                ms = timing.eager_ms(calls[0], seconds=0.02)
            rows.append(dict.fromkeys(COLUMNS) | mine | {"mode": "eager", "ms": ms})
    return rows


def _providers(chosen: Cell) -> tuple[Case, dict[str, list[Call] | peers.Missing]]:
    case = build(chosen)
    providers: dict[str, list[Call] | peers.Missing] = {verdicts.OWN: case.calls, **case.others}
    try:
        providers |= peers.calls(case)
    except torch.OutOfMemoryError:
        providers |= {"peers": peers.Missing("out-of-memory while preparing the peers' inputs")}
    return case, providers


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


def errors(chosen: Cell) -> dict[str, float]:
    """The error of every provider of a cell, by one call each; nothing is timed."""
    case, providers = _providers(chosen)
    outputs: dict[str, torch.Tensor] = {}
    for name, calls in providers.items():
        if isinstance(calls, peers.Missing):
            continue
        # One that fails has its reason in the table.
        with contextlib.suppress(Exception):
            case.restore()
            outputs[name] = calls[0]().clone()
    return _errors(case, outputs)


def _errors(case: Case, outputs: dict[str, torch.Tensor]) -> dict[str, float]:
    """Relative RMS distance of each output to the exact one, where there is one."""
    if case.exact is None:
        return {}
    try:
        case.restore()
        truth = case.exact()
        return {name: error(found, truth) for name, found in outputs.items()}
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return {}
