"""A run as one SQLite file: points, samples, kernels, decisions, telemetry; `run` is its header.

For questions that no command asks, in SQL and without a dependency. Units are in the names of the
columns; what is unknown is NULL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from ssmprof.records import Failure, Run, content_hash, encode
from ssmprof.report.tables import Table

_TYPES: dict[type, str] = {bool: "INTEGER", int: "INTEGER", float: "REAL", str: "TEXT"}


def write(run: Run, tables: Mapping[str, Table], path: Path) -> None:
    """Create the file with these tables and more; one that is there is replaced. Raises OSError."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as base, base:
        _table(base, "run", [_header(run)])
        for name, table in tables.items():
            _table(base, name, table.rows)
        _table(base, "samples", list(_samples(run)))
        _table(base, "telemetry", [_flat(to_builtins(one)) for one in run.telemetry])


def _header(run: Run) -> dict[str, Any]:
    return {
        "scenario": run.scenario.name,
        "question": run.scenario.question,
        "created_unix_s": run.created_unix_s,
        "command": run.command,
        "origin": run.origin,
        "source": run.source,
        "sha256": content_hash(encode(run)),
    }


def _samples(run: Run) -> Iterator[dict[str, Any]]:
    """One row per raw sample; `point` is the row id that its outcome has in `points`."""
    for number, outcome in enumerate(run.outcomes, start=1):
        if isinstance(outcome, Failure):
            continue
        for cache, values in (("cold", outcome.times_s), ("hot", outcome.hot_times_s)):
            for at, value in enumerate(values):
                yield {"point": number, "cache": cache, "sample": at, "time_s": value}


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: " ".join(map(str, value)) if isinstance(value, list | tuple) else value
        for key, value in row.items()
    }


def _table(base: sqlite3.Connection, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table with the columns that the rows have, typed by their values; none without rows."""
    kinds: dict[str, str] = {}
    for row in rows:
        for key, value in row.items():
            if value is not None:
                kinds[key] = _wider(kinds.get(key), _TYPES[type(value)])
            else:
                kinds.setdefault(key, "INTEGER")
    if not kinds:
        return
    columns = ", ".join(f'"{key}" {kind}' for key, kind in kinds.items())
    base.execute(f'CREATE TABLE "{name}" ({columns})')
    base.executemany(
        f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(kinds))})',
        ([row.get(key) for key in kinds] for row in rows),
    )


def _wider(known: str | None, found: str) -> str:
    """A column of whole numbers and others is REAL, one with any text is TEXT."""
    order = ("INTEGER", "REAL", "TEXT")
    return max(known or found, found, key=order.index)
