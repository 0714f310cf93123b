"""Findings to pages: the verdict, the figures, one offline HTML file, and exports.

Needs no torch: a run recorded on a board is read on a laptop. `write_report(run, path)` writes the
decision report.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssmprof.records import Run

__all__ = ["to_html", "write_report"]


def to_html(run: Run, *, identifiers: bool = False) -> str:
    """The report of a run as one HTML document; the same run gives the same bytes."""
    from ssmprof import __version__
    from ssmprof.report.build import build
    from ssmprof.report.html import render

    return render(build(run, identifiers=identifiers), __version__)


def write_report(run: Run, path: str | Path, *, identifiers: bool = False) -> int:
    """Write the report of a run to `path`; returns its size in bytes. Raises OSError."""
    data = to_html(run, identifiers=identifiers).encode()
    Path(path).write_bytes(data)
    return len(data)
