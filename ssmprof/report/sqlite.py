"""A run as one SQLite file: `points`, `samples`, `kernels`, `telemetry` and, in `run`, its header.

For questions that no command asks, in SQL and without a dependency. Units are in the names of the
columns; what is unknown is NULL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from ssmprof.records import Run
from ssmprof.report.flat import Flat, Row, kernels, points, samples

_TYPES: dict[type, str] = {bool: "INTEGER", int: "INTEGER", float: "REAL", str: "TEXT"}
_SAMPLES = {"point": "INTEGER", "cache": "TEXT", "sample": "INTEGER", "time_s": "REAL"}


def write(run: Run, path: Path) -> None:
    """Create the file; one that is there is replaced. Raises OSError."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("PRAGMA journal_mode = OFF")  # a file that is begun anew has nothing to keep
        _small(base, "run", [_header(run)])
        _flat(base, "points", points(run))
        # One row per raw sample; `point` is the row id that its outcome has in `points`.
        _insert(base, "samples", _SAMPLES, samples(run))
        _flat(base, "kernels", kernels(run))
        _small(base, "telemetry", [_joined(to_builtins(one)) for one in run.telemetry])


def _header(run: Run) -> dict[str, Any]:
    return {
        "scenario": run.scenario.name,
        "question": run.scenario.question,
        "created_unix_s": run.created_unix_s,
        "command": run.command,
        "origin": run.origin,
        "source": run.source,
        "sha256": run.sha256,
    }


def _joined(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: " ".join(map(str, value)) if isinstance(value, list | tuple) else value
        for key, value in row.items()
    }


def _flat(base: sqlite3.Connection, name: str, table: Flat) -> None:
    if table.columns:
        _insert(base, name, table.columns, table.rows())


def _small(base: sqlite3.Connection, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table with the columns that the rows have, typed by their values; none without rows."""
    kinds: dict[str, str] = {}
    for row in rows:
        for key, value in row.items():
            if value is not None:
                kinds[key] = _wider(kinds.get(key), _TYPES[type(value)])
            else:
                kinds.setdefault(key, "INTEGER")
    if kinds:
        _insert(base, name, kinds, (tuple(row.get(key) for key in kinds) for row in rows))


def _insert(
    base: sqlite3.Connection, name: str, columns: Mapping[str, str], rows: Iterable[Row]
) -> None:
    typed = ", ".join(f'"{key}" {kind}' for key, kind in columns.items())
    base.execute(f'CREATE TABLE "{name}" ({typed})')
    base.executemany(f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(columns))})', rows)


def _wider(known: str | None, found: str) -> str:
    """A column of whole numbers and others is REAL, one with any text is TEXT."""
    order = ("INTEGER", "REAL", "TEXT")
    return max(known or found, found, key=order.index)
