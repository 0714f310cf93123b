"""A table on a screen of so many columns: aligned, wrapped, and never wider than the screen.

Where the columns do not fit beside each other, the first is repeated over several panels; where it
does not tell the rows apart, each row stands by itself, a line per column.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ssmprof.harmless import one_line

if TYPE_CHECKING:
    from ssmprof.report.tables import Column, Table

_GAP = 2
_MOST_WORDS = (24, 14)  # a longer word may be broken; the shorter only where that saves the table


def laid_out(table: Table, width: int) -> str:
    """The table as text of at most `width` columns, with a line break at its end."""
    cells = [[one_line(cell) for cell in row] for row in table.cells()]
    every = range(len(table.columns))
    for most in _MOST_WORDS:
        least = [
            _least(column, [column.heading, *(row[at] for row in cells)], min(most, width // 2))
            for at, column in enumerate(table.columns)
        ]
        if _needed(least, every) <= width:
            return _panel(table, cells, dict(zip(every, least, strict=True)), width)
    first = [row[0] for row in cells]
    if len(set(first)) < len(first):
        return _records(table, cells, width)
    panels: list[list[int]] = [[0]]
    for at in every[1:]:
        if len(panels[-1]) > 1 and _needed(least, [*panels[-1], at]) > width:
            panels.append([0])
        panels[-1].append(at)
    return "\n".join(
        _panel(table, cells, {at: least[at] for at in panel}, width) for panel in panels
    )


def wrapped(text: str, width: int) -> str:
    """Prose for a screen: lines that are too long go on below, indented as they began."""
    lines: list[str] = []
    for line in text.splitlines():
        blank = line[: len(line) - len(line.lstrip())]
        lines += textwrap.wrap(
            line, width, subsequent_indent=blank, break_on_hyphens=False
        ) or [""]  # fmt: skip
    return "\n".join(lines) + "\n"


def _least(column: Column, texts: Sequence[str], most: int) -> int:
    """Columns that a column of the table needs at least: numbers are not broken, words rarely."""
    from rich.cells import cell_len

    if column.numeric:
        return max(map(cell_len, texts))
    words = max((cell_len(word) for text in texts for word in text.split()), default=1)
    return min(words, most)


def _needed(least: Sequence[int], columns: Sequence[int]) -> int:
    return sum(least[at] for at in columns) + _GAP * (len(columns) - 1)


def _panel(table: Table, cells: list[list[str]], least: Mapping[int, int], width: int) -> str:
    """Columns beside each other, by their place in the table, each at least so wide."""
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), collapse_padding=True)
    widths = _shared(table, cells, least, width)
    for at in least:
        column = table.columns[at]
        grid.add_column(
            Text(one_line(column.heading)),
            justify="right" if column.numeric else "left",
            no_wrap=column.numeric,
            overflow="fold",
            width=widths[at],
        )
    for row in cells:
        grid.add_row(*(Text(row[at]) for at in least))
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, force_terminal=False).print(grid)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def _shared(
    table: Table, cells: list[list[str]], least: Mapping[int, int], width: int
) -> dict[int, int]:
    """Columns for each column of the table: what is left over goes to those that lack some, by how
    much. Left to the grid it would cut numbers at the screen's edge."""
    from rich.cells import cell_len

    heads = [one_line(column.heading) for column in table.columns]
    lacks = {
        at: max(cell_len(text) for text in (heads[at], *(row[at] for row in cells))) - narrow
        for at, narrow in least.items()
    }
    spare = max(0, width - sum(least.values()) - _GAP * (len(least) - 1))
    share = min(1.0, spare / max(1, sum(lacks.values())))
    return {at: narrow + int(share * lacks[at]) for at, narrow in least.items()}


def _records(table: Table, cells: list[list[str]], width: int) -> str:
    """Each row by itself: headings and values, a blank line between two rows."""
    heads = [one_line(column.heading) for column in table.columns]
    wide = min(max(map(len, heads)), width // 2)
    blank = " " * (wide + _GAP)
    parts: list[str] = []
    for row in cells:
        lines: list[str] = []
        for head, cell in zip(heads, row, strict=True):
            found = textwrap.wrap(cell, width - len(blank), break_on_hyphens=False) or [""]
            lines.append(f"{head[:wide]:{wide}}  {found[0]}".rstrip())
            lines += [f"{blank}{one}" for one in found[1:]]
        parts.append("".join(f"{line}\n" for line in lines))
    return "\n".join(parts)
