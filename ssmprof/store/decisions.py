"""What one process found and all obey, kept in a run folder: written whole, in the folder's format.

decisions.json         who runs which op
disabled_passes.json   passes that killed their process
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from ssmprof import limits
from ssmprof.bounded import read_file
from ssmprof.errors import StoreError
from ssmprof.records import Decision, DisabledPass
from ssmprof.store.files import write_whole

DECISIONS_FILE = "decisions.json"
DISABLED_FILE = "disabled_passes.json"

_FIX = "restore the file, or delete it: the rest of the run is decided anew"


def read(folder: Path) -> tuple[Decision, ...]:
    """The decisions of a run; none where the file is missing. Raises StoreError."""
    return _read(folder / DECISIONS_FILE, tuple[Decision, ...])


def write(folder: Path, decisions: Iterable[Decision]) -> None:
    """Replace the file: after a crash it is the old one or the new one. Raises StoreError."""
    _write(folder, DECISIONS_FILE, tuple(decisions))


def read_disabled(folder: Path) -> tuple[DisabledPass, ...]:
    """The passes that are not tried again; none where the file is missing. Raises StoreError."""
    return _read(folder / DISABLED_FILE, tuple[DisabledPass, ...])


def write_disabled(folder: Path, disabled: Iterable[DisabledPass]) -> None:
    """Replace that file, in the same way. Raises StoreError."""
    _write(folder, DISABLED_FILE, tuple(disabled))


def _read(file: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(read_file(file, limits.RUN_FILE_BYTES, follow=False), type=kind)
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError, RecursionError) as error:
        raise StoreError(f"{file}: {error}", fix=_FIX) from None


def _write(folder: Path, name: str, records: tuple[msgspec.Struct, ...]) -> None:
    file = folder / name
    try:
        write_whole(file, msgspec.json.format(msgspec.json.encode(records), indent=1) + b"\n")
    except OSError as error:
        raise StoreError(
            f"{file}: cannot be written: {error.strerror}",
            cause="what cannot be kept is not measured",
            fix=f"free some space, then ssmprof sweep --resume {folder}",
        ) from None
