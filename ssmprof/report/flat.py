"""Flat tables of a run, a row at a time: every outcome, every op of every outcome, who is compared.

What a spreadsheet, a data frame or a database reads. A run of 100,000 points has a million ops, so
rows are made as they are written and never held.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ssmprof.harmless import csv_cell
from ssmprof.records import Failure, KernelTime, Measurement, Outcome, Run, median
from ssmprof.report.contenders import facts
from ssmprof.report.decided import trials
from ssmprof.report.kernels import place
from ssmprof.spec import Subject

Row = tuple[Any, ...]

_TEXT, _WHOLE, _REAL = "TEXT", "INTEGER", "REAL"
_TYPES: dict[type, str] = {bool: _WHOLE, int: _WHOLE, float: _REAL, str: _TEXT}
_POINT = {
    "block": _TEXT, "phase": _TEXT, "context": _WHOLE, "batch": _WHOLE, "dtype": _TEXT,
    "execution": _TEXT, "logits": _TEXT, "round": _WHOLE, "device": _TEXT, "status": _TEXT,
}  # fmt: skip
_MEASURED = {
    "time_s": _REAL, "samples": _WHOLE, "timer": _TEXT, "cold_s": _REAL, "peak_bytes": _WHOLE,
    "weights_bytes": _WHOLE, "cache_bytes": _WHOLE, "energy_j": _REAL, "flops": _REAL,
    "moved_bytes": _REAL, "closure": _REAL, "route": _TEXT, "providers": _TEXT, "notes": _TEXT,
}  # fmt: skip
_FAILED = {"detail": _TEXT}
_KERNEL = {
    "block": _TEXT, "phase": _TEXT, "context": _WHOLE, "batch": _WHOLE, "execution": _TEXT,
    "round": _WHOLE, "route": _TEXT, "whole_s": _REAL, "where": _TEXT, "op": _TEXT,
    "kernel": _TEXT, "family": _TEXT, "provider": _TEXT, "calls": _WHOLE, "time_s": _REAL,
    "cupti_s": _REAL,
}  # fmt: skip
_CONTENDER = {
    "block": _TEXT, "layer_count": _WHOLE, "params": _WHOLE, "slice_of": _TEXT,
    "slice_layers": _WHOLE, "slice_whole": _WHOLE,
}  # fmt: skip


@dataclass(frozen=True)
class Flat:
    """Column -> its SQL type, and the rows, which can be made again; None is unknown."""

    columns: Mapping[str, str]
    rows: Callable[[], Iterator[Row]]

    def write_csv(self, file: Path) -> None:
        """As CSV; cells are harmless in a spreadsheet. Raises OSError."""
        with file.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(map(csv_cell, self.columns))
            writer.writerows(map(_cells, self.rows()))


def tables(run: Run) -> dict[str, Flat]:
    """Name -> table, the decisions only where the run has some."""
    found = {"points": points(run), "kernels": kernels(run), "contenders": contenders(run)}
    return found | ({"decisions": of_rows(trials(run).rows)} if run.decisions else {})


def of_rows(rows: Sequence[Mapping[str, Any]]) -> Flat:
    """Few rows at hand: columns that any of them has, typed by their values; unknown is whole."""
    kinds: dict[str, str] = {}
    for row in rows:
        for key, value in row.items():
            found = _WHOLE if value is None else _TYPES[type(value)]
            kinds[key] = max(kinds.get(key, found), found, key=(_WHOLE, _REAL, _TEXT).index)
    return Flat(kinds, lambda: (tuple([row.get(key) for key in kinds]) for row in rows))


def points(run: Run) -> Flat:
    """One row per outcome; a failure has a status and no numbers."""
    kinds = dict.fromkeys(type(outcome) for outcome in run.outcomes)
    columns = dict(_POINT) if kinds else {}
    for kind in kinds:
        columns |= _FAILED if kind is Failure else _MEASURED

    def rows() -> Iterator[Row]:
        for outcome in run.outcomes:
            row = _point(run, outcome)
            yield tuple([row.get(name) for name in columns])

    return Flat(columns, rows)


def kernels(run: Run) -> Flat:
    """One row per op of every measured point: the full table that a page abridges."""
    some = any(one.attribution and one.attribution.kernels for one in run.measurements())
    return Flat(_KERNEL if some else {}, lambda: _kernels(run.measurements()))


def contenders(run: Run) -> Flat:
    """One row per contender; `slice_*` are empty where it is no slice of a model."""
    return Flat(_CONTENDER, lambda: map(_contender, run.scenario.blocks))


def samples(run: Run) -> Iterator[Row]:
    """(point, cache, sample, seconds) of every raw sample; points are numbered from 1."""
    for number, outcome in enumerate(run.outcomes, start=1):
        if isinstance(outcome, Measurement):
            for cache, values in (("cold", outcome.times_s), ("hot", outcome.hot_times_s)):
                for at, value in enumerate(values):
                    yield number, cache, at, value


def _cells(row: Row) -> list[Any]:
    return [_cell(value) if type(value) is str else value for value in row]


_cell = lru_cache(maxsize=65_536)(csv_cell)


def _point(run: Run, outcome: Outcome) -> dict[str, Any]:
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
        "chunk": point.chunk,
        "round": outcome.round,
        "device": machine.device if machine else None,
    }
    if isinstance(outcome, Failure):
        return row | {"status": outcome.reason, "detail": outcome.detail}
    memory, energy, cost = outcome.memory, outcome.energy, outcome.cost
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
        "flops": cost.flops if cost else None,
        "moved_bytes": cost.read_bytes + cost.written_bytes if cost else None,
        "closure": outcome.attribution.closure if outcome.attribution else None,
        "route": outcome.attribution.route if outcome.attribution else None,
        "providers": " ".join(f"{op}={name}" for op, name in sorted(outcome.providers.items())),
        "notes": " ".join(note.kind for note in outcome.notes),
    }


def _contender(subject: Subject) -> Row:
    found = facts(subject)
    piece = found["slice"] or dict.fromkeys(("of", "layers", "whole"))
    return (subject.name, found["layer_count"], found["params"], *piece.values())


def _kernels(measured: Iterable[Measurement]) -> Iterator[Row]:
    for one in measured:
        parts, point = one.attribution, one.point
        if parts is None:
            continue
        head = (
            point.block, point.phase, point.context, point.batch, point.execution, one.round,
            parts.route, parts.whole_s,
        )  # fmt: skip
        for kernel in parts.kernels:
            yield (*head, *_kernel(kernel))


def _kernel(kernel: KernelTime) -> Row:
    return (
        place(kernel), kernel.op, kernel.kernel, kernel.family, kernel.provider, kernel.calls,
        median(kernel.times_s), kernel.cupti_s,
    )  # fmt: skip
