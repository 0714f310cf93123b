"""A table as data: rows of plain values, columns that know how a person reads them.

Text, Markdown and HTML show formatted cells; CSV and JSON carry the raw values under names with
their SI unit. None is an empty cell in CSV, null in JSON and a dash for people: never 0. Whatever a
run calls its parts, each format gets it through the function of `ssmprof.harmless` for its way out.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ssmprof.harmless import csv_cell, json_text, markdown_cell, one_line

Format = Literal["text", "json", "jsonl", "csv", "md"]
MISSING = "–"


@dataclass(frozen=True)
class Column:
    """One column: the key in a row (with its unit), its heading and how a value is shown."""

    key: str
    heading: str
    show: Callable[[Any], str] = str
    numeric: bool = False

    def cell(self, row: Mapping[str, Any]) -> str:
        """What a person reads."""
        value = row.get(self.key)
        return MISSING if value is None else self.show(value)


@dataclass(frozen=True)
class Table:
    """A caption, columns and rows. Keys of a row that no column shows stay in JSON and CSV."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Any], ...]

    def cells(self) -> list[list[str]]:
        """Formatted rows."""
        return [[column.cell(row) for column in self.columns] for row in self.rows]

    @property
    def right(self) -> str:
        """`r2 r3`: the columns of numbers, as classes that the style sheet sets to the right."""
        found = (f"r{at}" for at, column in enumerate(self.columns, start=1) if column.numeric)
        return " ".join(found)

    @property
    def keys(self) -> list[str]:
        """Columns first, then whatever else the rows carry."""
        names = dict.fromkeys(column.key for column in self.columns)
        for row in self.rows:
            names.update(dict.fromkeys(row))
        return list(names)


def width(text: str) -> int:
    """Columns a text takes on a terminal; combining marks take none, wide characters two."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def render(table: Table, form: Format, width: int | None = None) -> str:
    """The table in a format, with a line break at its end; text for a screen of `width` columns."""
    if form == "text" and width is not None:
        from ssmprof.report.terminal import laid_out

        return laid_out(table, width)
    return RENDERERS[form](table)


def _text(table: Table) -> str:
    heads = [column.heading for column in table.columns]
    rows = [[one_line(cell) for cell in row] for row in (heads, *table.cells())]
    widths = [max(width(row[index]) for row in rows) for index in range(len(table.columns))]
    lines = []
    for row in rows:
        parts = []
        for column, cell, wide in zip(table.columns, row, widths, strict=True):
            gap = " " * (wide - width(cell))
            parts.append(gap + cell if column.numeric else cell + gap)
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines) + "\n"


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(markdown_cell, cells)) + " |"

    rule = ["--:" if column.numeric else "---" for column in table.columns]
    rows = [[column.heading for column in table.columns], rule, *table.cells()]
    return "\n".join(line(row) for row in rows) + "\n"


def _csv(table: Table) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    keys = table.keys
    writer.writerow(map(csv_cell, keys))
    for row in table.rows:
        writer.writerow([_flat(row.get(key)) for key in keys])
    return out.getvalue()


def _flat(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return "" if value is None else csv_cell(value)
    return csv_cell(json.dumps(value, ensure_ascii=False))


def _json(table: Table) -> str:
    rows = [dict(row) for row in table.rows]
    return json_text(json.dumps(rows, ensure_ascii=False, indent=1)) + "\n"


def _jsonl(table: Table) -> str:
    lines = (json.dumps(dict(row), ensure_ascii=False) for row in table.rows)
    return "".join(f"{json_text(line)}\n" for line in lines)


RENDERERS: dict[Format, Callable[[Table], str]] = {
    "text": _text,
    "json": _json,
    "jsonl": _jsonl,
    "csv": _csv,
    "md": _markdown,
}
