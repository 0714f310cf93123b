"""Markdown: tables, and parts of a page that are written by the script."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_PART = re.compile(r"(<!-- made: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def cell(value: object) -> str:
    """One cell of a table: on one line, a bar inside it escaped, a dash for nothing."""
    return " ".join(str(value).split()).replace("|", "\\|") or "–"


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Heads and rows as a table."""
    heads = tuple(heads)
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "".join(f"| {' | '.join(cell(one) for one in row)} |\n" for row in lines)


def filled(text: str, parts: Mapping[str, str]) -> str:
    """A page with its parts written anew. Raises KeyError for a marker that nobody fills."""
    return _PART.sub(lambda found: f"{found[1]}{parts[found[2]].strip()}\n{found[3]}", text)


def without_parts(text: str) -> str:
    """A page without what the script writes into it."""
    return _PART.sub("", text)
