"""Reading the kernel's files without trusting them.

A file of sysfs may be absent, may refuse (EACCES), may be asleep (EAGAIN from a power-gated block)
or may vanish between listing and reading. `Sysfs` answers each of these with None and keeps the
reason; it makes one attempt and never retries, since the next tick asks again anyway.

Where the bytes come from is a parameter: a live machine (`LiveFiles`), or a captured tree
(`RecordedFiles`), so that what a board showed once can be replayed on any machine.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
from pathlib import Path
from typing import Protocol

from ssmprof.errors import ConfigError


class Files(Protocol):
    """A source of file contents. `read` raises OSError as the kernel would."""

    def read(self, path: str) -> bytes: ...

    def glob(self, pattern: str) -> list[str]: ...

    def realpath(self, path: str) -> str: ...


class LiveFiles:
    """The files of this machine, below `root` (another root serves containers and tests)."""

    def __init__(self, root: str = "/") -> None:
        self._root = root.rstrip("/")

    def read(self, path: str) -> bytes:
        # Without Python's file object, which costs more than the kernel's whole answer.
        handle = os.open(self._root + path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts: list[bytes] = []
            while part := os.read(handle, 1 << 16):  # /proc hands out a page at a time
                parts.append(part)
            return b"".join(parts)
        finally:
            os.close(handle)

    def glob(self, pattern: str) -> list[str]:
        cut = len(self._root)
        return sorted(found[cut:] for found in glob.glob(self._root + pattern))

    def realpath(self, path: str) -> str:
        return os.path.realpath(self._root + path)[len(self._root) :]


class RecordedFiles:
    """A captured tree: rows of path, value, tag (the format of `jetson/capture.sh`).

    A value `!EAGAIN` raises that error, `\\0` is a NUL byte, `\\n` ends a line within a file, and
    `-> target` is a symbolic link.
    """

    def __init__(self, rows: dict[str, str]) -> None:
        self._links: dict[str, str] = {}
        self._values: dict[str, str] = {}
        for path, value in rows.items():
            if value.startswith("-> "):
                self._links[path] = value[3:]
            else:
                self._values[path] = value
        self._names = self._with_aliases()

    @classmethod
    def load(cls, path: Path) -> RecordedFiles:
        """Read a captured tree; raises ConfigError naming the line that is no row."""
        rows: dict[str, str] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line or line.startswith("#"):
                continue
            cells = line.split("\t")
            if len(cells) < 2 or not cells[0].startswith("/"):
                raise ConfigError(
                    f"{path}:{number}: not a row of a captured tree",
                    fix="rows are path, value and tag, separated by tabs",
                )
            rows[cells[0]] = cells[1]
        return cls(rows)

    def without(self, path: str) -> RecordedFiles:
        """The same tree with one row removed."""
        rows = {**self._values, **{p: f"-> {t}" for p, t in self._links.items()}}
        rows.pop(path, None)
        return RecordedFiles(rows)

    @property
    def paths(self) -> tuple[str, ...]:
        """Every recorded path, links included."""
        return (*self._values, *self._links)

    def _with_aliases(self) -> set[str]:
        names = set(self._values)
        for _ in range(3):  # links into links; sysfs nests no deeper than class -> device -> node
            names |= {
                link + name[len(target) :]
                for link, target in self._links.items()
                for name in names
                if name.startswith(target + "/")
            }
        folders: set[str] = set()
        for name in names:
            parts = name.split("/")
            folders.update("/".join(parts[:end]) for end in range(2, len(parts)))
        return names | folders | set(self._links)

    def read(self, path: str) -> bytes:
        value = self._values.get(self.realpath(path))
        if value is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if value.startswith("!"):
            number = getattr(errno, value[1:], errno.EIO)
            raise OSError(number, os.strerror(number), path)
        return value.replace("\\0", "\0").replace("\\n", "\n").encode()

    def glob(self, pattern: str) -> list[str]:
        depth = pattern.count("/")
        return sorted(
            name
            for name in self._names
            if name.count("/") == depth and fnmatch.fnmatchcase(name, pattern)
        )

    def realpath(self, path: str) -> str:
        for _ in range(4):
            for link, target in sorted(self._links.items(), reverse=True):  # longest first
                if path == link or path.startswith(link + "/"):
                    path = target + path[len(link) :]
                    break
            else:
                return path
        return path


class Sysfs:
    """Tolerant reads over any `Files`; every None has its reason in `why`."""

    def __init__(self, files: Files | None = None) -> None:
        self._files = files or LiveFiles()
        self._reasons: dict[str, str] = {}

    def text(self, path: str) -> str | None:
        """Contents without trailing NUL bytes and white space; None if empty or unreadable."""
        try:
            raw = self._files.read(path)
        except (OSError, ValueError) as error:
            code = getattr(error, "errno", None)
            self._reasons[path] = errno.errorcode.get(code or 0, type(error).__name__)
            return None
        text = raw.decode("utf-8", errors="replace").rstrip("\0 \t\r\n")
        if not text:
            self._reasons[path] = "empty"
            return None
        self._reasons.pop(path, None)
        return text

    def integer(self, path: str) -> int | None:
        """A whole number; None with a reason if the file holds anything else."""
        text = self.text(path)
        if text is None:
            return None
        try:
            return int(text)
        except ValueError:
            self._reasons[path] = f"not a number: {text[:40]!r}"
            return None

    def strings(self, path: str) -> tuple[str, ...]:
        """The NUL-separated strings of a device-tree property; empty if unreadable."""
        text = self.text(path)
        return () if text is None else tuple(part for part in text.split("\0") if part)

    def glob(self, pattern: str) -> list[str]:
        """Paths that match, in order; an unreadable folder gives none."""
        try:
            return self._files.glob(pattern)
        except OSError:
            return []

    def realpath(self, path: str) -> str:
        """The path behind symbolic links; the path itself where that cannot be told."""
        try:
            return self._files.realpath(path)
        except OSError:
            return path

    def why(self, path: str) -> str | None:
        """Why the last read of this path gave None; None if it did not."""
        return self._reasons.get(path)
