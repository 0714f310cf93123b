"""ssmprof: where a state-space model starts to beat attention on a GPU, and why.

Public names are resolved on first use, so that importing the package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Name -> module that has it.
_PUBLIC: dict[str, str] = {
    "analyze": "ssmprof.analysis",
    "load": "ssmprof.store.folder",
    "merge": "ssmprof.store.folder",
    "write_report": "ssmprof.report",
}

__all__ = ["__version__", "analyze", "load", "merge", "write_report"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ssmprof' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
