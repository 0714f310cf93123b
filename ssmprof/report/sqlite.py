"""A run as one SQLite file: points, samples, kernels, decisions, telemetry; `run` is its header.

For questions that no command asks, in SQL and without a dependency. Units are in the names of the
columns; what is unknown is NULL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from ssmprof.records import Run
from ssmprof.report import flat
from ssmprof.report.flat import Flat, Row

_SAMPLES = {"point": "INTEGER", "cache": "TEXT", "sample": "INTEGER", "time_s": "REAL"}


def write(run: Run, path: Path) -> None:
    """Create the file; one that is there is replaced. Raises OSError."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("PRAGMA journal_mode = OFF")  # a file that is begun anew has nothing to keep
        _table(base, "run", flat.of_rows([_header(run)]))
        for name, table in flat.tables(run).items():
            _table(base, name, table)
        # One row per raw sample; `point` is the row id that its outcome has in `points`.
        _insert(base, "samples", _SAMPLES, flat.samples(run))
        telemetry = [_joined(to_builtins(one)) for one in run.telemetry]
        _table(base, "telemetry", flat.of_rows(telemetry))


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


def _table(base: sqlite3.Connection, name: str, table: Flat) -> None:
    """None is made of a table without columns."""
    if table.columns:
        _insert(base, name, table.columns, table.rows())


def _insert(
    base: sqlite3.Connection, name: str, columns: Mapping[str, str], rows: Iterable[Row]
) -> None:
    typed = ", ".join(f'"{key}" {kind}' for key, kind in columns.items())
    base.execute(f'CREATE TABLE "{name}" ({typed})')
    base.executemany(f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(columns))})', rows)
