"""What do other devices say? Their answers side by side, and what certainly changes."""

from __future__ import annotations

from ssmprof.analysis import Analysis
from ssmprof.records import Run
from ssmprof.report import beside
from ssmprof.report.page import Listing, Section


def section(run: Run, analysis: Analysis) -> Section | None:
    """None where one device measured."""
    found = beside.table(run, analysis)
    if found is None:
        return None
    reading = (
        "Each device answers for itself; nothing is pooled over devices. What changes is what both "
        "are certain of, and say otherwise."
    )
    return Section(
        "devices", "Devices", "What changes from device to device?",
        (Listing(found, reading=reading, stacked=True),),
    )  # fmt: skip
