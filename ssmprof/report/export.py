"""A run in other tools' formats: EXPORTS, name -> function(Source(run), folder) -> files written.

Everything is computed from the run; nothing here is a second source of truth. Parquet needs the
extra `parquet` (pyarrow).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ssmprof.errors import SsmprofError
from ssmprof.harmless import one_line
from ssmprof.records import Measurement, Point, Run, encode, median
from ssmprof.report import flat, sqlite
from ssmprof.report.redact import plain, redacted
from ssmprof.report.speedscope import speedscope
from ssmprof.report.trace import chrome_trace

if TYPE_CHECKING:
    from ssmprof.analysis import Analysis


class Source:
    """A run to be exported; whatever several formats need of it is made once."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def plain(self) -> Run:
        """The run as plain text, with its names."""
        return plain(self.run)

    @cached_property
    def analysis(self) -> Analysis:
        """What is found in it."""
        from ssmprof.analysis import analyze

        return analyze(self.plain)


def _csv(source: Source, folder: Path) -> list[Path]:
    tables = flat.tables(source.run)
    for name, table in tables.items():
        table.write_csv(folder / f"{name}.csv")
    return [folder / f"{name}.csv" for name in tables]


def _jsonl(source: Source, folder: Path) -> list[Path]:
    path = folder / "outcomes.jsonl"
    with path.open("wb") as lines:
        for outcome in source.run.outcomes:
            lines.write(encode(outcome) + b"\n")
    return [path]


def _markdown(source: Source, folder: Path) -> list[Path]:
    from ssmprof.report.text import markdown

    return [_write(folder / "summary.md", markdown(source.plain, source.analysis))]


def _answer(source: Source, folder: Path) -> list[Path]:
    from ssmprof.report.exchange import crossover, to_json

    analysis = source.analysis
    found = crossover(source.plain, analysis, analysis.latencies)
    return [_write(folder / "answer.json", to_json(found))]


def _chrome_trace(source: Source, folder: Path) -> list[Path]:
    text = json.dumps(chrome_trace(source.run), separators=(",", ":"))
    return [_write(folder / "trace.json", text)]


def _speedscope(source: Source, folder: Path) -> list[Path]:
    text = json.dumps(speedscope(source.run), separators=(",", ":"))
    return [_write(folder / "run.speedscope.json", text)]


def _sqlite(source: Source, folder: Path) -> list[Path]:
    path = folder / "run.sqlite"
    sqlite.write(source.run, path)
    return [path]


def _parquet(source: Source, folder: Path) -> list[Path]:
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]
        import pyarrow.parquet as parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise SsmprofError(
            "Parquet needs pyarrow, which is not installed", fix='pip install "ssmprof[parquet]"'
        ) from None
    written = []
    for name, table in flat.tables(source.run).items():
        rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows()]
        path = folder / f"{name}.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        written.append(path)
    return written


def _openmetrics(source: Source, folder: Path) -> list[Path]:
    lines = ["# TYPE ssmprof_time_seconds gauge", "# UNIT ssmprof_time_seconds seconds"]
    grouped: dict[Point, list[Measurement]] = {}
    for one in source.run.measurements():
        grouped.setdefault(one.point, []).append(one)
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


def _figures(source: Source, folder: Path) -> list[Path]:
    from ssmprof.report.build import build
    from ssmprof.report.page import Picture
    from ssmprof.report.svg import standalone

    shown = redacted(source.run)
    # Where nothing had to be taken out what is found is the same.
    page = build(shown, analysis=source.analysis if shown == source.plain else None)
    inline = {f"{hero.key}-{hero.label.replace(', ', '-')}": hero.svg for hero in page.heroes}
    inline |= {
        part.key: part.svg
        for section in page.sections
        for part in section.parts
        if isinstance(part, Picture)
    }
    safe = {re.sub(r"[^\w.-]+", "-", name): svg for name, svg in inline.items()}
    return [_write(folder / f"{name}.svg", standalone(svg)) for name, svg in safe.items()]


def _picture(source: Source, folder: Path) -> list[Path]:
    from ssmprof.analysis import analyze
    from ssmprof.report.poster import picture

    shown = redacted(source.run)
    same = shown == source.plain
    analysis = source.analysis if same else analyze(shown, ("answers",), metrics=("latency",))
    return [_write(folder / "picture.svg", picture(shown, analysis))]


def _label(text: str) -> str:
    return one_line(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


EXPORTS: dict[str, Callable[[Source, Path], list[Path]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "markdown": _markdown,
    "answer": _answer,
    "chrome-trace": _chrome_trace,
    "speedscope": _speedscope,
    "sqlite": _sqlite,
    "figures": _figures,
    "picture": _picture,
    "parquet": _parquet,
    "openmetrics": _openmetrics,
}
