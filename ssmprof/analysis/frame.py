"""Outcomes -> tidy tables: one row per outcome, per sample, per kernel. For export and notebooks.

Columns carry their unit; a column `status` says ok, or why there is no measurement. What a device
could not give is missing (NaN or None), never 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from ssmprof.records import Failure, Measurement, Outcome, Run, Violations, median

if TYPE_CHECKING:
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

_POINT = ("block", "phase", "context", "batch", "dtype", "execution", "logits", "seed")


def points(run: Run) -> pd.DataFrame:
    """One row per outcome: conditions, median time, memory, energy, cost, status."""
    return _frame(_point_row(run, outcome) for outcome in run.outcomes)


def samples(run: Run) -> pd.DataFrame:
    """One row per sample: `time_s`, and whether the L2 cache was `cold` or `hot`."""
    return _frame(
        {**_conditions(run, one), "cache": cache, "sample": index, "time_s": value}
        for one in run.measurements()
        for cache, values in (("cold", one.times_s), ("hot", one.hot_times_s))
        for index, value in enumerate(values)
    )


def kernels(run: Run) -> pd.DataFrame:
    """One row per kernel of a call: scope, op, family, calls, median time, CUPTI's time."""
    return _frame(
        {
            **_conditions(run, one),
            "route": one.attribution.route,
            "closure": one.attribution.closure,
            "scope": kernel.scope,
            "op": kernel.op,
            "kernel": kernel.kernel,
            "family": kernel.family,
            "provider": kernel.provider,
            "calls": kernel.calls,
            "time_s": median(kernel.times_s) if kernel.times_s else None,
            "cupti_s": kernel.cupti_s,
        }
        for one in run.measurements()
        if one.attribution is not None
        for kernel in one.attribution.kernels
    )


def _frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

    return pd.DataFrame(list(rows))


def _conditions(run: Run, outcome: Outcome) -> dict[str, Any]:
    machine = run.environments.get(outcome.environment)
    return {
        "key": outcome.key,
        "device": machine.device if machine else None,
        "environment": outcome.environment,
        **{name: getattr(outcome.point, name) for name in _POINT},
        "round": outcome.round,
    }


def _point_row(run: Run, outcome: Outcome) -> dict[str, Any]:
    row = _conditions(run, outcome)
    if isinstance(outcome, Failure):
        return {
            **row,
            "status": outcome.reason,
            "detail": outcome.detail,
            "asked_bytes": outcome.asked_bytes,
            "predicted_bytes": outcome.predicted_bytes,
        }
    return {**row, "status": "ok", **_measured(outcome)}


def _clocks(one: Measurement) -> dict[str, Any]:
    """The SM clock of the samples, and the seconds of the pass in which a limit held it down."""
    spread, violations = one.clocks.sm_clock_hz, one.clocks.violations
    row: dict[str, Any] = {
        "sm_clock_hz": spread.median if spread else None,
        "sm_clock_min_hz": spread.min if spread else None,
        "sm_clock_max_hz": spread.max if spread else None,
        "sm_clock_after_hz": one.clocks.sm_after_hz,
    }
    for name in Violations.__struct_fields__:
        row[f"violation_{name}"] = getattr(violations, name) if violations else None
    return row


def _measured(one: Measurement) -> dict[str, Any]:
    row: dict[str, Any] = {
        "time_s": one.time_s,
        "min_s": min(one.times_s),
        "max_s": max(one.times_s),
        "samples": len(one.times_s),
        "hot_time_s": median(one.hot_times_s) if one.hot_times_s else None,
        "cold_start_s": one.cold_s,
        "timer": one.timer,
        "launches": one.launches,
        "providers": "; ".join(f"{op}={name}" for op, name in sorted(one.providers.items())),
        "notes": "; ".join(dict.fromkeys(note.kind for note in one.notes)),
        "closure": one.attribution.closure if one.attribution else None,
        **_clocks(one),
        "temperature_c": one.clocks.temperature_c,
        "power_w": one.clocks.power_w,
    }
    if one.memory is not None:
        memory = msgspec.structs.asdict(one.memory)
        row |= {name: value for name, value in memory.items() if name.endswith("_bytes")}
    if one.energy is not None:
        row |= {
            "energy_j": one.energy.energy_j,
            "above_idle_j": one.energy.above_idle_j,
            "energy_source": one.energy.source,
        }
    if one.cost is not None:
        row |= msgspec.structs.asdict(one.cost)
    return row
