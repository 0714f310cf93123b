"""The folder of a run's temporary files: removed at the end, and by the next run if this one dies.

Its owner holds a lock on a file inside, which the kernel gives back however the owner ends. Another
run removes every folder of the same user that nobody holds.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

PREFIX = "ssmprof-run-"
_OWNER = "owner"
_TRIES = 5


class Scratch:
    """A folder below the system's temporary one. Close it, or what is in it stays until later."""

    def __init__(self) -> None:
        """Raises OSError where no folder can be made."""
        self._closing = threading.RLock()
        remove_abandoned()
        for _ in range(_TRIES):
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            try:
                self._owner = _own(self.path / _OWNER)
            except OSError:
                shutil.rmtree(self.path, ignore_errors=True)
                raise
            if self._owner >= 0:
                return
        raise OSError(f"{self.path}: was removed by another process while it was made")

    def close(self) -> None:
        """Remove the folder; closing twice is allowed, also at the same time, and again after an
        interrupt."""
        with self._closing:
            if self._owner >= 0:
                shutil.rmtree(self.path, ignore_errors=True)
                owner, self._owner = self._owner, -1  # a signal may have closed it meanwhile
                if owner >= 0:
                    os.close(owner)


def remove_abandoned() -> None:
    """Remove the folders of runs that are dead."""
    with suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            with suppress(OSError):
                _remove_abandoned(folder)


def _remove_abandoned(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return
    owner = os.open(folder / _OWNER, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where its run is alive
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(owner)


def _own(file: Path) -> int:
    """The locked descriptor of a new file; -1 where another run took it for abandoned meanwhile."""
    owner = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(owner, fcntl.LOCK_EX)
    except OSError:
        return owner  # no locks here: others cannot take it either
    try:
        if os.stat(file).st_ino == os.fstat(owner).st_ino:
            return owner
    except FileNotFoundError:
        pass
    os.close(owner)
    return -1
