"""The rows of one or several runs in a folder: bench.csv, bench.json, totals.json.

Promises: pure, no torch. Rows of an earlier run are kept only if device, libraries and peers are
the same ones, and the tables of their operation; every row names its run, and every run has its
ceilings, its rounds and the digest of the kernels' sources, so that a reader sees what was measured
together. `early` says of an update whether it may start before the kernel before has ended
(programmatic launch); it is empty where nothing of the kind exists.
"""

from __future__ import annotations

import csv
import json
import pathlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from plan import Key

COLUMNS = (
    "op", "shape", "length", "batch", "provider", "mode", "ms", "device", "width",
    "ms_low", "ms_high", "ratio", "ratio_low", "ratio_high", "gb_per_s", "tflop_per_s",
    "share_bandwidth", "share_matrix", "share_exponentials", "share_launch", "error", "first_s",
    "config", "tuned", "note", "early", "run",
)  # fmt: skip

Row = dict[str, Any]


@dataclass
class Record:
    """Environment of all rows, the rows, and one entry per run, the latest last; and of which
    operations rows were left out, since their tables are others now."""

    environment: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    retuned: tuple[str, ...] = ()

    def measured(self, own: str, *, eager: bool) -> set[Key]:
        """Cells with a result or a failure of `own`; with `eager` only where that was timed too."""
        rows = [r for r in self.rows if r["provider"] == own]
        walls = {key(r) for r in rows if r["mode"] == "eager"}
        return {
            key(r)
            for r in rows
            if r["mode"] == "graph" and (not eager or r["ms"] is None or key(r) in walls)
        }

    def drop(self, cells: Collection[Key]) -> None:
        """Forget every row of these cells."""
        self.rows = [r for r in self.rows if key(r) not in cells]

    def write(self, folder: pathlib.Path, totals: list[Row]) -> None:
        """All three files; a file is replaced only when the new one is complete."""
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / "bench.csv.new"
        with fresh.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(COLUMNS)
            writer.writerows([_short(row.get(c)) for c in COLUMNS] for row in self.rows)
        fresh.replace(folder / "bench.csv")
        _replace(
            folder / "bench.json",
            {"environment": self.environment, "runs": self.runs, "rows": self.rows},
        )
        _replace(folder / "totals.json", totals)


def key(row: Row) -> Key:
    """The cell of a row."""
    return row["op"], row["shape"], row["length"], row["batch"]


def continued(folder: pathlib.Path, environment: dict[str, Any]) -> Record:
    """The record in `folder`, an empty one where there is none.

    Raises:
        ValueError: it was measured in another environment, or is not a record of runs.
    """
    path = folder / "bench.json"
    if not path.exists():
        return Record(environment)
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not {"environment", "runs", "rows"} <= set(found):
        raise ValueError(f"{path} is no record that can be continued; choose another --out")
    before = found["environment"]
    differ = ", ".join(
        f"{name} was {before.get(name)}, is {environment.get(name)}"
        for name in sorted({*before, *environment} - {"tables"})
        if before.get(name) != environment.get(name)
    )
    if differ:
        raise ValueError(f"{path} was measured elsewhere: {differ}; choose another --out")
    was, now = before["tables"], environment["tables"]
    retuned = tuple(sorted(op for op in {*was, *now} if was.get(op) != now.get(op)))
    rows = [row for row in found["rows"] if row["op"] not in retuned]
    return Record(environment, rows, found["runs"], retuned)


def _replace(path: pathlib.Path, value: Any) -> None:
    fresh = path.with_suffix(".json.new")
    fresh.write_text(json.dumps(value, indent=1), encoding="utf-8")
    fresh.replace(path)


def _short(value: Any) -> Any:
    return f"{value:.5g}" if isinstance(value, float) else value
