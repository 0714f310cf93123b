"""Runs that come along under `reports/`, and their pages as today's code writes them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ssmprof.report import to_html
from ssmprof.store import folder

REPORTS = Path(__file__).parents[2] / "reports"
COMMITTED = {file.parent.name: file.parent for file in sorted(REPORTS.glob("*/run.json"))}


@cache
def page_of(name: str) -> str:
    """A run's page: rendered once, since that takes seconds and several tests look at it."""
    return to_html(folder.load(COMMITTED[name]))
