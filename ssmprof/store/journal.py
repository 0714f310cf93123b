"""An append-only file of JSON lines that survives being killed at any instant.

One outcome is one line, one write and one fsync: when `append` returns, it is on the disk.
A crash tears at most the last line; reading drops and counts it, and its point is measured again. A
bad line anywhere else is an error, since it means that something else wrote to the file.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from ssmprof.errors import StoreError
from ssmprof.records import Outcome
from ssmprof.store import schema
from ssmprof.store.files import read_lines

SAMPLE_DIGITS = 6  # timers resolve 1e-5 of the shortest call measured
NUMBER_DIGITS = 8
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW


class Contents(NamedTuple):
    """What a journal holds; `good_bytes` ends after the last whole line."""

    outcomes: tuple[Outcome, ...]
    dropped_lines: int
    good_bytes: int


def _shorten(value: Any, digits: int = NUMBER_DIGITS) -> Any:
    """Plain values with floats rounded to significant digits (times of day keep milliseconds)."""
    if isinstance(value, float):
        return float(f"{value:.{digits - 1}e}")
    if isinstance(value, list | tuple):
        items = cast("Iterable[Any]", value)
        return [_shorten(item, SAMPLE_DIGITS) for item in items]
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        return {
            key: round(item, 3) if key.endswith("unix_s") else _shorten(item)
            for key, item in table.items()
        }
    return value


def encode_line(outcome: Outcome) -> bytes:
    """One outcome as one line with its line break."""
    return msgspec.json.encode(_shorten(msgspec.to_builtins(outcome))) + b"\n"


def _decode(line: bytes, found: int) -> Outcome:
    if found == schema.FORMAT:
        return msgspec.json.decode(line, type=Outcome)
    return msgspec.convert(schema.upgrade(msgspec.json.decode(line), found), Outcome)


def parse(data: bytes, file: Path, found: int = schema.FORMAT) -> Contents:
    """Outcomes of a journal's bytes. Raises StoreError that names file and line of a bad one."""
    outcomes: list[Outcome] = []
    lines = data.split(b"\n")
    whole, rest = lines[:-1], lines[-1]
    position = 0
    for number, line in enumerate((*whole, rest) if rest else whole, start=1):
        last = number == len(lines) or (number == len(whole) and not rest)
        try:
            outcomes.append(_decode(line, found))
        except (msgspec.ValidationError, KeyError) as error:
            raise StoreError(
                f"{file}: line {number}: {error}",
                fix="the line was changed by hand or by another program; restore or delete it",
            ) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if last:
                return Contents(tuple(outcomes), 1, position)
            raise StoreError(
                f"{file}: line {number}: not a JSON line ({error})",
                fix=f"delete line {number}; its point will be measured again with --resume",
            ) from None
        position += len(line) + 1
    return Contents(tuple(outcomes), 0, min(position, len(data)))


def read(file: Path, found: int = schema.FORMAT) -> Contents:
    """Contents of a journal, or of its compressed form `<name>.gz`; a missing one is empty."""
    try:
        return parse(read_lines(file), file, found)
    except (OSError, EOFError, zlib.error) as error:
        raise StoreError(f"{file}: cannot be read: {error}") from None


class Appender:
    """Writes whole lines to the end of a file that only this process may write to."""

    def __init__(self, file: Path, keep_bytes: int | None = None) -> None:
        """Open `file` for appending; cut it to `keep_bytes` first (a torn tail)."""
        self.file = file
        try:
            self._descriptor = os.open(file, _FLAGS, 0o644)
        except OSError as error:
            raise StoreError(f"{file}: cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise StoreError(
                f"{file}: another ssmprof is writing to this run",
                fix="wait for it, or start a new run with -o FOLDER",
            ) from None
        if keep_bytes is not None:
            os.ftruncate(self._descriptor, keep_bytes)
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            self.write(b"\n")

    def write(self, line: bytes, *, durable: bool = True) -> None:
        """Append bytes; `durable` waits until they are on the disk. StoreError leaves no part."""
        before = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):
                raise OSError(0, f"only {written} of {len(line)} bytes could be written")
            if durable:
                os.fsync(self._descriptor)
        except OSError as error:
            # /dev/full and pipes cannot be cut back; the torn line is then dropped when reading.
            if os.path.isfile(self.file):
                os.ftruncate(self._descriptor, before)
            raise StoreError(
                f"{self.file}: cannot be written: {error.strerror}",
                cause="what cannot be kept is not measured; finished points are safe",
                fix=f"free some space, then ssmprof sweep --resume {self.file.parent}",
            ) from None

    def close(self) -> None:
        """Give the file back; closing twice is allowed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Journal:
    """The outcomes of a run: those of earlier sessions and those appended in this one."""

    def __init__(self, file: Path, found: int = schema.FORMAT) -> None:
        """Open or create `file` (JSON lines in format `found`), dropping a torn last line."""
        contents = read(file, found)
        self.file = file
        self.outcomes: list[Outcome] = list(contents.outcomes)
        self.dropped_lines = contents.dropped_lines
        self.done: set[str] = {outcome.key for outcome in self.outcomes}
        self._appender = Appender(file, contents.good_bytes if file.is_file() else None)

    def append(self, outcome: Outcome) -> None:
        """Keep an outcome: it is on the disk when this returns. Raises StoreError otherwise."""
        line = encode_line(outcome)
        self._appender.write(line)
        self.outcomes.append(msgspec.json.decode(line, type=Outcome))
        self.done.add(outcome.key)

    def close(self) -> None:
        """Give the file back."""
        self._appender.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
