"""Findings to pages: the verdict, the figures, one offline HTML file, and exports.

Needs no torch: a run recorded on a board is read on a laptop. `write_report(run, path)` writes the
decision report.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssmprof.analysis import Analysis
    from ssmprof.records import Run

__all__ = ["to_html", "write_report"]


def to_html(run: Run, analysis: Analysis | None = None, *, identifiers: bool = False) -> str:
    """The report of a run as one HTML document; the same run gives the same bytes.

    `analysis` is what `analyze(run)` gave, for those who have it.
    """
    from ssmprof import __version__
    from ssmprof.report.build import build
    from ssmprof.report.html import render

    return render(build(run, analysis, identifiers=identifiers), __version__)


def write_report(run: Run, path: Path, *, identifiers: bool = False) -> int:
    """Write the report of a run to `path`; returns its size in bytes. Raises OSError."""
    data = to_html(run, identifiers=identifiers).encode()
    path.write_bytes(data)
    return len(data)
