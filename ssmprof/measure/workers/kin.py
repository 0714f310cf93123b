"""Processes of a session: what a launcher that died may leave, found in /proc and ended.

A launcher leads a session of its own, and everything it starts belongs to it. A number of a session
is not given away while one of its processes lives, so nobody else's process is hit.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

_LOOK_S = 0.02
_LONGEST_S = 5.0  # a process inside a driver cannot be killed at once, or at all


def of_session(session: int, group: int | None = None) -> list[int]:
    """Living processes of a session, or of one process group in it."""
    return [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and _belongs(folder, session, group)
    ]


def kill_session(session: int, group: int | None = None, within_s: float = _LONGEST_S) -> list[int]:
    """Kill until nothing is left; returns what would not go within that time."""
    end = time.monotonic() + within_s
    while (left := of_session(session, group)) and time.monotonic() < end:
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_S)
    return left


def _belongs(folder: Path, session: int, group: int | None) -> bool:
    try:
        # pid (command) state ppid pgrp session ...; a command may hold brackets and blanks
        words = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        state, mine, its = words[0], int(words[2]), int(words[3])
    except (OSError, ValueError, IndexError):  # it ended meanwhile
        return False
    return state not in "ZX" and its == session and group in (None, mine)
