"""decisions.json of a run folder: who runs which op. Written whole; its format is the folder's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from ssmprof import limits
from ssmprof.bounded import read_file
from ssmprof.errors import StoreError
from ssmprof.records import Decision
from ssmprof.store.files import write_whole

DECISIONS_FILE = "decisions.json"

_FIX = "restore the file, or delete it: the rest of the run is decided anew"


def read(folder: Path) -> tuple[Decision, ...]:
    """The decisions of a run; none where the file is missing. Raises StoreError."""
    file = folder / DECISIONS_FILE
    try:
        data = read_file(file, limits.RUN_FILE_BYTES, follow=False)
        return msgspec.json.decode(data, type=tuple[Decision, ...])
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError, RecursionError) as error:
        raise StoreError(f"{file}: {error}", fix=_FIX) from None


def write(folder: Path, decisions: Iterable[Decision]) -> None:
    """Replace the file: after a crash it is the old one or the new one. Raises StoreError."""
    file = folder / DECISIONS_FILE
    data = msgspec.json.encode(tuple(decisions))
    try:
        write_whole(file, msgspec.json.format(data, indent=1) + b"\n")
    except OSError as error:
        raise StoreError(
            f"{file}: cannot be written: {error.strerror}",
            cause="what cannot be kept is not measured",
            fix=f"free some space, then ssmprof sweep --resume {folder}",
        ) from None
