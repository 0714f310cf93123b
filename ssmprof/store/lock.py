"""One writer at a time: an advisory lock that a dead process cannot leave behind.

Some file systems have no locks (Lustre without `-o flock`, NFS without its lock daemon, some FUSE).
There the lock is not held and says so; what is written is then guarded by the journal alone, which
notices other writers before each line.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from ssmprof.errors import StoreError, reason

_TAKEN = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_TRIES = 5


def take(descriptor: int, file: Path) -> bool:
    """Lock an open file for this process alone; False where the file system has no locks.

    Raises StoreError where another process holds the lock.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            raise StoreError(
                f"{file}: another ssmprof is writing to this run",
                fix="wait for it, or start a new run with -o FOLDER",
            ) from None
        if error.errno in _NO_LOCKS:
            return False
        raise StoreError(f"{file}: cannot be locked: {reason(error)}") from None
    return True


def is_at(descriptor: int, file: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        there = os.stat(file)
    except OSError:
        return False
    mine = os.fstat(descriptor)
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


class Lock:
    """Holds the lock of an existing file until closed. `held` is False where there are no locks."""

    def __init__(self, file: Path) -> None:
        """Raises StoreError where another process holds it, or the file cannot be opened."""
        self.file = file
        for _ in range(_TRIES):
            self._descriptor = _open(file)
            try:
                self.held = take(self._descriptor, file)
            except StoreError:
                self.close()
                raise
            if is_at(self._descriptor, file):
                return
            self.close()  # replaced between opening and locking
        raise StoreError(f"{file}: is being replaced again and again", fix="end what writes to it")

    def close(self) -> None:
        """Give the lock back; closing twice is allowed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(file: Path) -> int:
    try:
        try:
            return os.open(file, os.O_RDWR | os.O_CLOEXEC)
        except PermissionError:
            return os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(f"{file}: cannot be opened: {reason(error)}") from None
