"""A run in other tools' formats: EXPORTS, name -> function(run, folder) -> files written.

Everything is computed from the run; nothing here is a second source of truth. Parquet needs the
extra `parquet` (pyarrow).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssmprof.errors import SsmprofError
from ssmprof.harmless import one_line
from ssmprof.records import Measurement, Run, encode, median
from ssmprof.report import decided, sqlite
from ssmprof.report.points import points
from ssmprof.report.redact import plain
from ssmprof.report.rows import place
from ssmprof.report.speedscope import speedscope
from ssmprof.report.tables import Column, Table, render
from ssmprof.report.trace import chrome_trace


def kernels(run: Run) -> Table:
    """One row per op of every measured point: the full table that a page abridges."""
    rows: list[dict[str, Any]] = []
    for one in run.measurements():
        if one.attribution is None:
            continue
        head = {
            "block": one.point.block,
            "phase": one.point.phase,
            "context": one.point.context,
            "batch": one.point.batch,
            "execution": one.point.execution,
            "round": one.round,
            "route": one.attribution.route,
            "whole_s": one.attribution.whole_s,
        }
        rows += [
            head
            | {
                "where": place(kernel),
                "op": kernel.op,
                "kernel": kernel.kernel,
                "family": kernel.family,
                "provider": kernel.provider,
                "calls": kernel.calls,
                "time_s": median(kernel.times_s),
                "cupti_s": kernel.cupti_s,
            }
            for kernel in one.attribution.kernels
        ]
    keys = dict.fromkeys(key for row in rows for key in row)
    return Table("Kernels", tuple(Column(key, key) for key in keys), tuple(rows))


def _tables(run: Run) -> dict[str, Table]:
    """Name -> table, the decisions only where the run has some."""
    found = {"points": points(run), "kernels": kernels(run)}
    return found | ({"decisions": decided.trials(run)} if run.decisions else {})


def _csv(run: Run, folder: Path) -> list[Path]:
    return [
        _write(folder / f"{name}.csv", render(table, "csv")) for name, table in _tables(run).items()
    ]


def _jsonl(run: Run, folder: Path) -> list[Path]:
    lines = "".join(f"{encode(outcome).decode()}\n" for outcome in run.outcomes)
    return [_write(folder / "outcomes.jsonl", lines)]


def _markdown(run: Run, folder: Path) -> list[Path]:
    from ssmprof.analysis import analyze
    from ssmprof.report.text import markdown

    run = plain(run)
    return [_write(folder / "summary.md", markdown(run, analyze(run)))]


def _answer(run: Run, folder: Path) -> list[Path]:
    from ssmprof.analysis import analyze
    from ssmprof.report.exchange import crossover, to_json

    analysis = analyze(run)
    found = crossover(run, analysis, analysis.latencies)
    return [_write(folder / "answer.json", to_json(found))]


def _chrome_trace(run: Run, folder: Path) -> list[Path]:
    return [_write(folder / "trace.json", json.dumps(chrome_trace(run), separators=(",", ":")))]


def _speedscope(run: Run, folder: Path) -> list[Path]:
    text = json.dumps(speedscope(run), separators=(",", ":"))
    return [_write(folder / "run.speedscope.json", text)]


def _sqlite(run: Run, folder: Path) -> list[Path]:
    path = folder / "run.sqlite"
    sqlite.write(run, _tables(run), path)
    return [path]


def _parquet(run: Run, folder: Path) -> list[Path]:
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]
        import pyarrow.parquet as parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise SsmprofError(
            "Parquet needs pyarrow, which is not installed", fix='pip install "ssmprof[parquet]"'
        ) from None
    written = []
    for name, table in _tables(run).items():
        rows = [{key: row.get(key) for key in table.keys} for row in table.rows]
        path = folder / f"{name}.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        written.append(path)
    return written


def _openmetrics(run: Run, folder: Path) -> list[Path]:
    lines = ["# TYPE ssmprof_time_seconds gauge", "# UNIT ssmprof_time_seconds seconds"]
    grouped: dict[str, list[Measurement]] = {}
    for one in run.measurements():
        grouped.setdefault(one.point.key, []).append(one)
    for members in grouped.values():
        point = members[0].point
        labels = {
            "block": point.block,
            "phase": point.phase,
            "context": point.context,
            "batch": point.batch,
            "execution": point.execution,
        }
        text = ",".join(f'{name}="{_label(str(value))}"' for name, value in labels.items())
        lines.append(f"ssmprof_time_seconds{{{text}}} {median(m.time_s for m in members):.9g}")
    return [_write(folder / "metrics.txt", "\n".join([*lines, "# EOF", ""]))]


def _figures(run: Run, folder: Path) -> list[Path]:
    from ssmprof.report.build import build
    from ssmprof.report.page import Picture
    from ssmprof.report.svg import standalone

    page = build(run)
    inline = {f"{hero.key}-{hero.label.replace(', ', '-')}": hero.svg for hero in page.heroes}
    inline |= {
        part.key: part.svg
        for section in page.sections
        for part in section.parts
        if isinstance(part, Picture)
    }
    safe = {re.sub(r"[^\w.-]+", "-", name): svg for name, svg in inline.items()}
    return [_write(folder / f"{name}.svg", standalone(svg)) for name, svg in safe.items()]


def _label(text: str) -> str:
    return one_line(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


EXPORTS: dict[str, Callable[[Run, Path], list[Path]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "markdown": _markdown,
    "answer": _answer,
    "chrome-trace": _chrome_trace,
    "speedscope": _speedscope,
    "sqlite": _sqlite,
    "figures": _figures,
    "parquet": _parquet,
    "openmetrics": _openmetrics,
}
