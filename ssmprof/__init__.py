"""ssmprof: where a state-space model starts to beat attention on a GPU, and why.

    import ssmprof

    run = ssmprof.sweep("crossover", contexts="512-32K*2", output="runs/x")
    print(run)                      # who wins where, and how far that can be trusted
    run.points                      # a DataFrame, one row per point
    run.report()                    # runs/x/report.html

Public names are resolved on first use, so that importing the package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssmprof.analysis import analyze
    from ssmprof.report import write_report
    from ssmprof.session.result import Run, load
    from ssmprof.session.run import resume, sweep
    from ssmprof.store.folder import merge

__version__ = "0.1.0"

# Name -> module that has it.
_PUBLIC: dict[str, str] = {
    "Run": "ssmprof.session.result",
    "analyze": "ssmprof.analysis",
    "load": "ssmprof.session.result",
    "merge": "ssmprof.store.folder",
    "resume": "ssmprof.session.run",
    "sweep": "ssmprof.session.run",
    "write_report": "ssmprof.report",
}

__all__ = ["Run", "__version__", "analyze", "load", "merge", "resume", "sweep", "write_report"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ssmprof' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
