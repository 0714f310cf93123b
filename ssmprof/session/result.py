"""A run in a person's hand: its answer, its tables and its page, each made when it is asked for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import asdict

from ssmprof import records
from ssmprof.analysis import Analysis, analyze
from ssmprof.analysis.compare.answer import Answer
from ssmprof.errors import ConfigError, cannot_write
from ssmprof.report import glance, write_report
from ssmprof.store import folder as store

if TYPE_CHECKING:
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs]


class Run(records.Run, frozen=True, kw_only=True, gc=True, dict=True):
    """A whole run: what was asked, where, every outcome, and what they mean.

    Its `repr` is the answer in a few lines; a notebook shows the figure as well. It is a value and
    does not follow the folder it was read from.

    Example:
        >>> run = ssmprof.load("reports/2026-11-30-crossover-h200")
        >>> run.points[["block", "context", "time_s"]]
    """

    @property
    def folder(self) -> Path | None:
        """Where it was read from; None for one that was put together or changed since."""
        return vars(self).get("folder_read")

    @property
    def answer(self) -> Answer | None:
        """Who wins where by latency, under the conditions of the heading; None without a time."""
        return next(iter(self._found.latencies), None)

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The answers in every metric and under every set of conditions, latency first."""
        return self._found.answers

    @cached_property
    def analysis(self) -> Analysis:
        """Everything that is found in a run: answers, shares, rooflines, memory, energy, advice."""
        return analyze(self)

    @property
    def points(self) -> pd.DataFrame:
        """One row per outcome: conditions, median time, memory, energy, cost, status. SI units."""
        from ssmprof.analysis import frame

        return frame.points(self)

    @property
    def samples(self) -> pd.DataFrame:
        """One row per timed call: `time_s` in seconds, and the state of the cache before it."""
        from ssmprof.analysis import frame

        return frame.samples(self)

    @property
    def kernels(self) -> pd.DataFrame:
        """One row per kernel of a measured call: where, family, calls, `time_s` in seconds."""
        from ssmprof.analysis import frame

        return frame.kernels(self)

    def report(self, path: str | Path | None = None, *, identifiers: bool = False) -> Path:
        """Write the decision report, one offline HTML file, and return where it is.

        Args:
            path: the file; report.html in the run's folder without one.
            identifiers: keep the names of host, user and paths.

        Raises:
            ConfigError: no path is given, and the run has no folder.
            StoreError: the file cannot be written.
        """
        if path is not None:
            file = Path(path).expanduser()
        elif self.folder is not None:
            file = self.folder / "report.html"
        else:
            raise ConfigError("this run has no folder", fix='run.report("report.html")')
        try:
            write_report(self, file, identifiers=identifiers)
        except OSError as error:
            raise cannot_write(file, error) from None
        return file

    def __repr__(self) -> str:
        return glance.text(self, self._found)

    def _repr_html_(self) -> str:
        return glance.html(self)

    @cached_property
    def _found(self) -> Analysis:
        """The answers alone: what most people look at first."""
        return analyze(self, ("answers",))


def load(path: str | Path) -> Run:
    """Read a run folder. Needs no GPU and no torch.

    Args:
        path: the folder, `~` allowed.

    Raises:
        StoreError: it is no run folder, or a file in it cannot be read.

    Example:
        >>> print(ssmprof.load("runs/x"))
    """
    found = Path(path).expanduser()
    run = Run(**asdict(store.load(found)))
    vars(run)["folder_read"] = found
    return run
