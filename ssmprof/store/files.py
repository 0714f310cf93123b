"""Whole files of a run folder: written at once or not at all, compressed when a run is finished.

JSON lines shrink to about a tenth. A compressed file stands beside its plain name as `<name>.gz`;
readers take either, and writers unpack first.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

from ssmprof import limits
from ssmprof.bounded import inflate, read_file

LINES = ("outcomes.jsonl", "telemetry.jsonl")


def write_whole(file: Path, data: bytes) -> None:
    """Write under another name and rename, so that a crash leaves the old file or the new one."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    # A draft of a dead process may stand there; a link that somebody put there is not followed.
    draft.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(draft, flags, 0o666), "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    draft.replace(file)


def read_lines(file: Path) -> bytes:
    """Bytes of a file, plain or compressed; a missing one is empty. Raises OSError or EOFError."""
    if file.is_file():
        return read_file(file, limits.LINES_BYTES)
    packed = _packed(file)
    return inflate(read_file(packed, limits.LINES_BYTES)) if packed.is_file() else b""


def pack(folder: Path) -> list[Path]:
    """Compress the lines of a finished run; the same lines give the same bytes."""
    found: list[Path] = []
    for file in (folder / name for name in LINES):
        if file.is_file():
            write_whole(_packed(file), gzip.compress(file.read_bytes(), mtime=0))
            file.unlink()
        if _packed(file).is_file():
            found.append(_packed(file))
    return found


def unpack(folder: Path) -> None:
    """Undo `pack`, so that lines can be appended."""
    for file in (folder / name for name in LINES):
        if _packed(file).is_file() and not file.exists():
            write_whole(file, read_lines(file))
            _packed(file).unlink()


def _packed(file: Path) -> Path:
    return file.with_name(f"{file.name}.gz")
