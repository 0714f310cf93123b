"""An append-only file of JSON lines that survives being killed at any instant.

One outcome is one line, one write and one fsync: when `append` returns, it is on the disk. Each
line carries a checksum of itself. A crash tears at most the last line, which is cut off before the
next one is written; a line that is bad for another reason stays where it is, is left out and
reported with its number, and its point is measured again.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from ssmprof.errors import NotKeptError, StoreError, cannot_write, reason
from ssmprof.records import Dropped, Outcome
from ssmprof.store import schema
from ssmprof.store.files import UNREADABLE, each_line, sync_folder
from ssmprof.store.ledger import Ledger
from ssmprof.store.lock import is_at, take
from ssmprof.store.shared import Shared

SAMPLE_DIGITS = 6  # timers resolve 1e-5 of the shortest call measured
NUMBER_DIGITS = 8
_TORN = "torn: the run ended while it was written"
# What reading plain values of any shape as an outcome may raise; a line is never worth more.
_BAD = (
    msgspec.MsgspecError, ValueError, KeyError, TypeError, AttributeError, IndexError,
    RecursionError,
)  # fmt: skip
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Contents(NamedTuple):
    """What a journal holds; `good_bytes` ends where the next line is to begin."""

    outcomes: tuple[Outcome, ...]
    dropped: tuple[Dropped, ...]
    good_bytes: int

    @property
    def dropped_lines(self) -> int:
        """How many lines could not be read."""
        return len(self.dropped)


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
    """One outcome as one line with its checksum and its line break."""
    return schema.sealed(msgspec.json.encode(_shorten(msgspec.to_builtins(outcome)))) + b"\n"


_OUTCOME: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(Outcome)


def _decode(line: bytes, found: int) -> Outcome:
    data = schema.unsealed(line) if found >= schema.SEALED_SINCE else line
    if found == schema.FORMAT:
        return _OUTCOME.decode(data)
    return msgspec.convert(schema.upgrade(msgspec.json.decode(data), found), Outcome)


def parse(data: bytes, file: Path, found: int = schema.FORMAT) -> Contents:
    """Outcomes of a journal's bytes, and the lines that could not be read."""
    return _contents(io.BytesIO(data), file, found)


def _contents(lines: Iterable[bytes], file: Path, found: int) -> Contents:
    """The same of its lines, each with its break; the last one may lack it."""
    outcomes: list[Outcome] = []
    dropped: list[Dropped] = []
    good_bytes = 0
    shared = Shared()
    for number, line in enumerate(lines, start=1):
        outcome = _decoded(line.removesuffix(b"\n"), found)
        good_bytes += len(line)
        if not isinstance(outcome, str):
            outcomes.append(shared.outcome(outcome))
            continue
        if not line.endswith(b"\n"):
            outcome, good_bytes = _TORN, good_bytes - len(line)
        dropped.append(Dropped(file=file.name, line=number, reason=outcome))
    return Contents(tuple(outcomes), tuple(dropped), good_bytes)


def _decoded(line: bytes, found: int) -> Outcome | str:
    """The outcome of a line, or why it is none."""
    try:
        return _decode(line, found)
    except _BAD as error:
        return " ".join(str(error).split()) or type(error).__name__


def read(file: Path, found: int = schema.FORMAT) -> Contents:
    """Contents of a journal, or of its compressed form `<name>.gz`; a missing one is empty."""
    try:
        return _contents(each_line(file), file, found)
    except UNREADABLE as error:
        raise StoreError(f"{file}: cannot be read: {error}") from None


class Appender:
    """Writes whole lines to the end of a file that only this process may write to.

    `locked` is False where the file system has no locks. Before each line the file is looked at: it
    must still have its name and end where the last line ended.
    """

    def __init__(self, file: Path) -> None:
        """Open or create `file`. Raises StoreError where another process writes to it."""
        self.file = file
        new = not file.exists()
        try:
            self._descriptor = os.open(file, _FLAGS, 0o644)
        except OSError as error:
            raise cannot_write(file, error) from None
        try:
            self.locked = take(self._descriptor, file)
            if new:
                sync_folder(file.parent)
            self._end = os.fstat(self._descriptor).st_size
        except OSError as error:
            self.close()
            raise cannot_write(file, error) from None
        except StoreError:
            self.close()
            raise

    def read(self) -> bytes:
        """The whole file."""
        parts: list[bytes] = []
        position = 0
        while part := os.pread(self._descriptor, 2**24, position):
            parts.append(part)
            position += len(part)
        return b"".join(parts)

    def cut(self, size: int) -> None:
        """Cut a torn tail off, so that the file ends after its first `size` bytes."""
        try:
            if size < self._end:
                os.ftruncate(self._descriptor, size)
                os.fsync(self._descriptor)
                self._end = size
        except OSError as error:
            raise cannot_write(self.file, error) from None

    def end_line(self) -> None:
        """Add the line break that a last whole line lacks."""
        if self._end and os.pread(self._descriptor, 1, self._end - 1) != b"\n":
            self.write(b"\n")

    def write(self, line: bytes, *, durable: bool = True) -> None:
        """Append bytes; `durable` waits until they are on the disk. StoreError leaves no part."""
        self._look()
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):
                raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes could be written")
            if durable:
                os.fsync(self._descriptor)
        except OSError as error:
            # /dev/full and pipes cannot be cut back; the torn line is then dropped when reading.
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise NotKeptError(
                f"{self.file}: cannot be written: {reason(error)}",
                cause="what cannot be kept is not measured; finished points are safe",
                fix=f"free some space, then ssmprof sweep --resume {self.file.parent}",
            ) from None
        self._end += len(line)

    def _look(self) -> None:
        """Raise NotKeptError where what would be written now would not be found later."""
        if not is_at(self._descriptor, self.file):
            raise NotKeptError(
                f"{self.file}: was removed or replaced during the run",
                cause="outcomes written to it from now on would be lost",
                fix="put it back, or start a new run; nothing else may change a run folder",
            )
        size = os.fstat(self._descriptor).st_size
        if size != self._end and os.path.isfile(self.file):
            raise NotKeptError(
                f"{self.file}: was changed during the run: {size} bytes instead of {self._end}",
                cause="another program wrote to it, or another ssmprof where there are no locks",
                fix=f"end it, then ssmprof sweep --resume {self.file.parent}",
            )

    def close(self) -> None:
        """Give the file back; closing twice is allowed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Journal(Ledger):
    """The outcomes of a run: those of earlier sessions and those appended in this one."""

    def __init__(self, file: Path, found: int = schema.FORMAT) -> None:
        """Open or create `file` (JSON lines in format `found`), dropping a torn last line."""
        super().__init__()
        self.file = file
        # Locked first and read then: what another process wrote until now is not torn.
        self._appender = Appender(file)
        try:
            contents = parse(self._appender.read(), file, found)
            self._appender.cut(contents.good_bytes)
            self._appender.end_line()
        except BaseException:
            self._appender.close()
            raise
        self.locked = self._appender.locked
        self.dropped = contents.dropped
        for outcome in contents.outcomes:
            self.learn(outcome)

    @property
    def dropped_lines(self) -> int:
        """How many lines of earlier sessions could not be read."""
        return len(self.dropped)

    def append(self, outcome: Outcome) -> None:
        """Keep an outcome: it is on the disk when this returns. Raises StoreError otherwise."""
        line = encode_line(outcome)
        self._appender.write(line)
        self.learn(_decode(line[:-1], schema.FORMAT))

    def close(self) -> None:
        """Give the file back."""
        self._appender.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
