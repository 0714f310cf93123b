"""Whole files of a run folder: written at once or not at all, compressed when a run is finished.

JSON lines shrink to about a tenth. A compressed file stands beside its plain name as `<name>.gz`;
readers take either, and writers unpack first.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

LINES = ("outcomes.jsonl", "telemetry.jsonl")


def write_whole(file: Path, data: bytes) -> None:
    """Write under another name and rename, so that a crash leaves the old file or the new one."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    with draft.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    draft.replace(file)


def read_lines(file: Path) -> bytes:
    """Bytes of a file, plain or compressed; a missing one is empty. Raises OSError or EOFError."""
    if file.is_file():
        return file.read_bytes()
    packed = _packed(file)
    return gzip.decompress(packed.read_bytes()) if packed.is_file() else b""


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
