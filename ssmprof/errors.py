"""Errors a user can act on.

Every error carries what went wrong, where, and how to mend it, and knows its exit code. They are
caught in one place (`ssmprof.cli`); anything else that escapes is a bug of ours (exit code 70).
"""

from __future__ import annotations

import errno
import os
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
EXIT_INTERNAL = 70  # as sysexits.h has it: a bug of ours
EXIT_NOT_KEPT = 74  # as sysexits.h has it: an input/output error
EXIT_INTERRUPTED = 130

# What says that the medium refused, and not that the user named a wrong place.
_MEDIUM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE}


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


class NotKeptError(StoreError):
    """A result that cannot be kept: the disk is full or fails, or its file is not ours any more."""

    exit_code = EXIT_NOT_KEPT


class NoDeviceError(SsmprofError):
    """No usable device or driver."""

    exit_code = EXIT_NO_DEVICE


def cannot_write(
    file: object, error: OSError, *, cause: str | None = None, fix: str | None = None
) -> StoreError:
    """The error of a file that cannot be written: wrong use, or a full or failing disk."""
    kind = NotKeptError if error.errno in _MEDIUM else StoreError
    return kind(f"{file}: cannot be written: {reason(error)}", cause=cause, fix=fix)


def is_of_the_medium(error: OSError) -> bool:
    """Whether a disk is full or failing, which no option mends."""
    return error.errno in _MEDIUM


def reason(error: OSError) -> str:
    """What the system says of an error, in words."""
    return error.strerror or (os.strerror(error.errno) if error.errno else str(error))


_MOST_NAMED = 16  # names of one message; a list of a hundred helps nobody


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` for the known name closest to `name`, or for all that it begins.

    Without one the names that contain it, or else all of them where they are few.
    """
    names = sorted(known)
    begun = [one for one in names if len(name) > 3 and one.startswith(name.lower())]
    like = begun or [one for one in names if len(name) > 2 and name.lower() in one.lower()]
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    if close and len(begun) < 2:
        return f'; did you mean "{close[0]}"?'
    if len(like) == 1:
        return f'; did you mean "{like[0]}"?'
    if 1 < len(like) <= _MOST_NAMED:
        return f"; did you mean one of {', '.join(like)}?"
    return f"; known: {', '.join(names)}" if 0 < len(names) <= _MOST_NAMED else ""
