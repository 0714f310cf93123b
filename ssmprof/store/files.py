"""Whole files of a run folder: written at once or not at all, compressed when a run is finished.

JSON lines shrink to about a tenth. A compressed file stands beside its plain name as `<name>.gz`;
readers take either, and writers unpack first. A file that was written survives a power cut: it and
the folder that names it are synced.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ssmprof import limits
from ssmprof.bounded import inflate, lines_of, read_file
from ssmprof.errors import StoreError, cannot_write
from ssmprof.store.lock import Lock

RUN_FILE = "run.json"
OUTCOMES_FILE = "outcomes.jsonl"
TELEMETRY_FILE = "telemetry.jsonl"
LINES = (OUTCOMES_FILE, TELEMETRY_FILE)
_DRAFT = re.compile(
    r"\.((run|decisions|disabled_passes|[0-9a-f]{12})\.json|(outcomes|telemetry)\.jsonl(\.gz)?)"
    r"\.(?P<pid>\d+)"
)
# What a file that is damaged, cut short or out of reach raises when it is read.
UNREADABLE = (OSError, EOFError, zlib.error)
# File systems that sync no folder say so by one of these; others fail for a reason.
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES}
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV}


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk. Raises OSError."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, on the disk when this returns. Raises OSError."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        sync_folder(one.parent)


def write_whole(file: Path, data: bytes) -> None:
    """Write under another name and rename, so that a crash leaves the old file or the new one."""
    draft = _write_draft(file, data)
    try:
        draft.replace(file)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)


def write_new(file: Path, data: bytes) -> None:
    """As `write_whole`, for a file that must not exist yet: of two writers one succeeds.

    Raises FileExistsError for the other.
    """
    draft = _write_draft(file, data)
    try:
        os.link(draft, file)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _write_exclusively(file, data)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(file.parent)


def is_draft(file: Path) -> bool:
    """Whether a file is one that a writer had begun and not finished."""
    return _DRAFT.fullmatch(file.name) is not None


def remove_drafts(folder: Path) -> None:
    """Remove what writers that are dead by now had begun."""
    for file in folder.glob(".*"):
        found = _DRAFT.fullmatch(file.name)
        if found and not _lives(int(found["pid"])):
            with suppress(OSError):
                file.unlink()


def read_lines(file: Path) -> bytes:
    """Bytes of a file, plain or compressed; a missing one is empty. Raises one of UNREADABLE."""
    if file.is_file():
        return read_file(file, limits.LINES_BYTES)
    packed = _packed(file)
    return inflate(read_file(packed, limits.LINES_BYTES)) if packed.is_file() else b""


def each_line(file: Path) -> Iterator[bytes]:
    """The lines of a file with their breaks, as `read_lines` finds them; a plain file is streamed.

    Raises one of UNREADABLE.
    """
    if file.is_file():
        return lines_of(file, limits.LINES_BYTES)
    return iter(io.BytesIO(read_lines(file)))


def pack(folder: Path) -> list[Path]:
    """Compress the lines of a finished run; the same lines give the same bytes.

    Raises StoreError where another process writes to the run, or the disk is full.
    """
    with Lock(folder / RUN_FILE):
        return [packed for name in LINES if (packed := _pack(folder / name)) is not None]


def unpack(folder: Path) -> None:
    """Undo `pack`, so that lines can be appended. Only whoever holds the folder's lock may.

    Telemetry that cannot be read stays as it is, beside a new file. Raises StoreError for outcomes.
    """
    for file in (folder / name for name in LINES):
        if not _packed(file).is_file() or file.exists():
            continue
        try:
            data = read_lines(file)
        except UNREADABLE as error:
            if file.name != OUTCOMES_FILE:
                continue
            raise StoreError(f"{_packed(file)}: cannot be read: {error}") from None
        try:
            write_whole(file, data)
            _packed(file).unlink()
        except OSError as error:
            raise cannot_write(file, error) from None


def _pack(file: Path) -> Path | None:
    packed = _packed(file)
    try:
        if file.is_file():
            write_whole(packed, gzip.compress(file.read_bytes(), mtime=0))
            file.unlink()
            sync_folder(file.parent)
    except OSError as error:
        raise cannot_write(packed, error) from None
    return packed if packed.is_file() else None


def _packed(file: Path) -> Path:
    return file.with_name(f"{file.name}.gz")


def _write_draft(file: Path, data: bytes) -> Path:
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        # A draft of a dead process may stand there; a link that somebody put there is not followed.
        draft.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(draft, flags, 0o666), "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    return draft


def _write_exclusively(file: Path, data: bytes) -> None:
    with file.open("xb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
