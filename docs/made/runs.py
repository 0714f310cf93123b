"""The committed runs: found below reports/, each analysed once, as `ssmprof crossover` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

from ssmprof.analysis import Analysis, analyze
from ssmprof.records import Run
from ssmprof.report.verdict import Verdict
from ssmprof.report.verdicts import VERDICT_METRICS, Key, verdicts_of
from ssmprof.store.folder import load

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "reports"


@dataclass(frozen=True)
class Told:
    """A committed run and what is said of it."""

    path: Path
    run: Run
    analysis: Analysis
    verdicts: Mapping[Key, Verdict]

    @property
    def name(self) -> str:
        """Its folder's name."""
        return self.path.name

    @property
    def devices(self) -> list[str]:
        """Names of the devices it was measured on, as answers have them."""
        return list(dict.fromkeys(one.device for one in self.analysis.conditions))

    @property
    def date(self) -> str:
        """The day it was begun, in UTC: `22 November 2026`."""
        begun = datetime.fromtimestamp(self.run.created_unix_s, timezone.utc)
        return f"{begun.day} {begun:%B %Y}"


def told(path: Path, run: Run) -> Told:
    """A run with its answers: those of the page."""
    analysis = analyze(run, ("answers",), metrics=VERDICT_METRICS, shares_of=("device",))
    return Told(path, run, analysis, verdicts_of(run, analysis))


@cache
def read(path: Path) -> Told:
    """The run in a folder; read and analysed once."""
    return told(path, load(path))


def folders(reports: Path = REPORTS) -> list[Path]:
    """Folders of the runs that commands find: one level below reports/, by name."""
    return sorted(file.parent for file in reports.glob("*/run.json"))


def committed() -> list[Told]:
    """Every one of these runs."""
    return [read(path) for path in folders()]
