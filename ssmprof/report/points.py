"""Every outcome as one flat row: what a spreadsheet, a data frame or another tool reads."""

from __future__ import annotations

from typing import Any

from ssmprof.records import Failure, Outcome, Run
from ssmprof.report.tables import Column, Table


def points(run: Run) -> Table:
    """One row per outcome; a failure has a status and no numbers."""
    rows = tuple(_row(run, outcome) for outcome in run.outcomes)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return Table("Points", tuple(Column(key, key) for key in keys), rows)


def _row(run: Run, outcome: Outcome) -> dict[str, Any]:
    point = outcome.point
    machine = run.environments.get(outcome.environment)
    row: dict[str, Any] = {
        "block": point.block,
        "phase": point.phase,
        "context": point.context,
        "batch": point.batch,
        "dtype": point.dtype,
        "execution": point.execution,
        "logits": point.logits,
        "round": outcome.round,
        "device": machine.device if machine else None,
    }
    if isinstance(outcome, Failure):
        return row | {"status": outcome.reason, "detail": outcome.detail}
    memory, energy = outcome.memory, outcome.energy
    return row | {
        "status": "ok",
        "time_s": outcome.time_s,
        "samples": len(outcome.times_s),
        "timer": outcome.timer,
        "cold_s": outcome.cold_s,
        "peak_bytes": memory.allocator_peak_bytes if memory else None,
        "weights_bytes": memory.weights_bytes if memory else None,
        "cache_bytes": memory.cache_bytes if memory else None,
        "energy_j": energy.energy_j if energy else None,
        "flops": outcome.cost.flops if outcome.cost else None,
        "moved_bytes": (
            outcome.cost.read_bytes + outcome.cost.written_bytes if outcome.cost else None
        ),
        "closure": outcome.attribution.closure if outcome.attribution else None,
        "route": outcome.attribution.route if outcome.attribution else None,
        "providers": " ".join(f"{op}={name}" for op, name in sorted(outcome.providers.items())),
        "notes": " ".join(note.kind for note in outcome.notes),
    }
