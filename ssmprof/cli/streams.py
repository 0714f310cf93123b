"""Standard streams that may be closed, full or unread: what is said never ends what is done.

Talk (stderr) that cannot be said is dropped from then on. Data (stdout) that cannot be written is
the caller's to judge.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import click


def ensure() -> None:
    """Give closed streams a place to go, so that no file of ours is opened in their stead."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest free number is taken, which is this one.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(fd, "r" if fd == 0 else "w", closefd=False))


def tell(text: str) -> None:
    """A line for people on stderr; silence where it cannot be said."""
    try:
        click.echo(text, err=True)
    except (OSError, ValueError):
        mute(2)


def mute(fd: int) -> None:
    """Send what is still to be written to a stream nowhere: its end must not be a fault, too."""
    stream = sys.stdout if fd == 1 else sys.stderr
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
