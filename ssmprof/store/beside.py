"""What stands beside the journal: environments and telemetry, read as far as they can be.

Nothing here keeps outcomes from being read, but for the description of a machine they belong to.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from ssmprof import limits
from ssmprof.bounded import read_file
from ssmprof.errors import StoreError, reason
from ssmprof.records import Dropped, Environment, TelemetrySample
from ssmprof.store.files import UNREADABLE, read_lines

Value = TypeVar("Value", Environment, TelemetrySample)


def environments_of(folder: Path, needed: set[str]) -> tuple[dict[str, Environment], list[Dropped]]:
    """Environments by fingerprint. Raises StoreError where one that is needed cannot be had."""
    found: dict[str, Environment] = {}
    dropped: list[Dropped] = []
    for file in sorted(folder.glob("*.json")):
        environment = _environment(file)
        if not isinstance(environment, str):
            found[file.stem] = environment
        elif file.stem in needed:
            fix = "restore the file from the recording machine"
            raise StoreError(f"{file}: {environment}", fix=fix)
        else:
            dropped.append(Dropped(file=f"{folder.name}/{file.name}", reason=environment))
    missing = needed - set(found)
    if missing:
        raise StoreError(
            f"{folder}: {sorted(missing)[0]}.json is missing",
            cause="outcomes belong to a machine that is not described",
            fix="copy the whole folder, environments included",
        )
    return found, dropped


def telemetry_of(file: Path) -> tuple[tuple[TelemetrySample, ...], list[Dropped]]:
    """Readings that can be read, and what cannot; a torn last line is one reading less."""
    try:
        *whole, rest = read_lines(file).split(b"\n")
    except UNREADABLE as error:
        said = reason(error) if isinstance(error, OSError) else str(error)
        return (), [Dropped(file=file.name, reason=f"cannot be read: {said}")]
    samples: list[TelemetrySample] = []
    dropped: list[Dropped] = []
    for number, line in enumerate((*whole, rest), start=1):
        sample = _decoded(line, TelemetrySample) if line.strip() else ""
        if not isinstance(sample, str):
            samples.append(sample)
        elif sample and number <= len(whole):
            dropped.append(Dropped(file=file.name, line=number, reason=sample))
    return tuple(samples), dropped


def _environment(file: Path) -> Environment | str:
    try:
        data = read_file(file, limits.RUN_FILE_BYTES, follow=False)
        return _decoded(data, Environment)
    except OSError as error:
        return reason(error)


def _decoded(data: bytes, kind: type[Value]) -> Value | str:
    """A record, or why it is none."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return str(error) or type(error).__name__
