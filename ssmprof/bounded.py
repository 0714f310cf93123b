"""Reading what another person wrote: regular files only, never more of them than was agreed.

A FIFO would wait for ever, a device never ends, and a packed file can be a thousand times its size:
each is an OSError with its reason before a byte too many is read.
"""

from __future__ import annotations

import errno
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ssmprof import limits

_PIECE_BYTES = 2**20


def read_file(file: Path, most_bytes: int, *, follow: bool = True) -> bytes:
    """Contents of a regular file of at most `most_bytes`; `follow` allows a symbolic link to it.

    Raises OSError with a reason: also where it is no regular file, or larger.
    """
    with open_file(file, follow=follow) as handle:
        data = handle.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise _too_large(most_bytes)
    return data


def lines_of(file: Path, most_bytes: int) -> Iterator[bytes]:
    """The lines of a regular file with their breaks, one at a time: a large one is never held.

    Raises OSError as `read_file` does, past `most_bytes` in the middle.
    """
    size = 0
    with open_file(file) as handle:
        while line := handle.readline(most_bytes + 1 - size):
            size += len(line)
            if size > most_bytes:
                raise _too_large(most_bytes)
            yield line


def open_file(file: Path, *, follow: bool = True) -> BinaryIO:
    """A regular file, open for reading. Raises OSError with a reason where it is none."""
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(file, flags)
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, str(error)) from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise OSError(errno.EINVAL, "not a regular file")
    return open(descriptor, "rb")


def _too_large(most_bytes: int) -> OSError:
    return OSError(errno.EFBIG, f"larger than {_size(most_bytes)}, which is the most")


def toml(text: str) -> dict[str, Any]:
    """A TOML document. Raises ValueError where it is none, or one that takes a parser for ever."""
    import msgspec

    # A key of so many parts costs the square of them.
    if any(line.count(".") > limits.TOML_DOTS for line in text.splitlines()):
        raise ValueError(f"a line with more than {limits.TOML_DOTS:,} dots")
    try:
        return msgspec.toml.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def inflate(data: bytes, most_bytes: int = limits.LINES_BYTES) -> bytes:
    """What gzip packed, every member of it. Raises OSError past `most_bytes` or a sane ratio.

    Raises EOFError where the end is missing, zlib.error where it is no gzip.
    """
    allowed = min(most_bytes, max(limits.INFLATION_FREE_BYTES, limits.INFLATION * len(data)))
    pieces: list[bytes] = []
    size, rest = 0, data
    while rest:
        unpacker = zlib.decompressobj(wbits=31)
        while not unpacker.eof:
            piece = unpacker.decompress(rest, _PIECE_BYTES)
            rest = unpacker.unconsumed_tail
            size += len(piece)
            if size > allowed:
                raise OSError(
                    errno.EFBIG, f"unpacks to more than {_size(allowed)}: no run is packed so much"
                )
            pieces.append(piece)
            if not piece and not rest and not unpacker.eof:
                raise EOFError("packed data ends early")
        rest = unpacker.unused_data.lstrip(b"\0")  # gzip allows padding between members
    return b"".join(pieces)


def _size(count: int) -> str:
    return f"{count / limits.MIB:,.0f} MiB"
