"""Errors a user can act on.

Every error carries what went wrong, where, and how to mend it, and knows its exit code. They are
caught in one place (`ssmprof.cli`); anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

EXIT_DONE = 0
EXIT_FINDING = 1
EXIT_USAGE = 2
EXIT_NO_DEVICE = 3
EXIT_PARTIAL = 4
EXIT_WITHHELD = 5
EXIT_INTERRUPTED = 130


class SsmprofError(Exception):
    """A problem the user can mend: `what` happened, `cause` behind it, `fix` to `try`."""

    exit_code = EXIT_USAGE

    def __init__(self, what: str, *, cause: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.cause = cause
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.what]
        if self.cause:
            lines.append(f"  cause: {self.cause}")
        if self.fix:
            lines.append(f"  try:   {self.fix}")
        return "\n".join(lines)


class ConfigError(SsmprofError):
    """A scenario, option or run folder that cannot be used as it is."""


class StoreError(SsmprofError):
    """A run folder that cannot be read or written."""


class NoDeviceError(SsmprofError):
    """No usable device or driver."""

    exit_code = EXIT_NO_DEVICE


class WithheldError(SsmprofError):
    """The data cannot carry the verdict that was asked for."""

    exit_code = EXIT_WITHHELD


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean "x"?` for the known name closest to `name`, else the known names."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; known: {', '.join(names)}" if names else ""
