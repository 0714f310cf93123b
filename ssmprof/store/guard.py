"""A run folder may come from anybody: what in it is neither a plain file nor a folder is refused.

A symbolic link would have a reader show, or a writer change, a file somewhere else; a FIFO waits
for ever, and a device never ends. The folder itself may be named through a link: the user named it.
"""

from __future__ import annotations

import os
from pathlib import Path

from ssmprof import limits
from ssmprof.errors import StoreError


def check(folder: Path) -> None:
    """Walk a run folder that exists. Raises StoreError that names the first entry at fault."""
    left = limits.FOLDER_ENTRIES
    stack = [(str(folder), 1)]
    while stack:
        path, depth = stack.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    left -= 1
                    _check_entry(entry)
                    if entry.is_dir(follow_symlinks=False):
                        stack.append((entry.path, depth + 1))
                    if left < 0 or depth > limits.FOLDER_DEPTH:
                        raise StoreError(f"{folder}: holds far more than a run")
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error.strerror}") from None


def _check_entry(entry: os.DirEntry[str]) -> None:
    if entry.is_symlink():
        kind = "a symbolic link"
    elif entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False):
        return
    else:
        kind = "a FIFO, a socket or a device"
    raise StoreError(
        f"{entry.path}: {kind}; a run folder holds plain files only",
        cause="reading or writing through it would reach outside of the run",
        fix="copy the run without it (cp -rL follows links), if you know where it leads",
    )
