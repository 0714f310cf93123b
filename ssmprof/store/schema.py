"""The format of a run folder: its version, its history, upgrades of old lines, JSON Schema.

A folder names its format in `run.json`. Older formats are upgraded while they are read, newer ones
are refused with one clear error; nothing is ever rewritten in place.

History
1   run.json, environments/<fingerprint>.json, outcomes.jsonl (one Measurement or Failure per line),
    telemetry.jsonl, log.txt. Samples carry 6 significant digits, other numbers 8.
2   A point holds its workload, {"phase": "prefill", "context": 512}, where it had both as fields.
    The tag `throttled` is a low clock or a reason beyond the power limit; `power-cap` that limit
    at a high clock. A tag may carry its number (`value`).
    Each line of outcomes.jsonl begins with its checksum, {"crc":"89abcdef",...: the CRC-32 of the
    same line without that field, in eight small hex digits. A failure may be transient.
3   A block is a recipe: named parts, and layers that refer to them (`store.former` reads those
    before). Lines are as in format 2.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ssmprof.errors import ConfigError, StoreError, nearest
from ssmprof.models.recipe import Recipe
from ssmprof.records import (
    Calibration,
    Decision,
    Environment,
    Failure,
    Job,
    Measurement,
    Point,
    Run,
    TelemetrySample,
    Visit,
)
from ssmprof.spec import Scenario
from ssmprof.store import former

FORMAT = 3
SEALED_SINCE = 2  # outcome lines carry a checksum
_SEAL = b'{"crc":"%08x",'

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]


_CLOCK = re.compile(r"SM clock at (\d+) of (\d+) MHz")


def _format_2(line: dict[str, Any]) -> dict[str, Any]:
    """Format 1 to 2: phase and context become the workload, the numbers of tags their value."""
    point = dict(line["point"])
    workload = {name: point.pop(name) for name in ("phase", "context")}
    lifted = {**line, "point": {**point, "workload": workload}}
    if line.get("notes"):
        lifted["notes"] = [_note(one, line) for one in line["notes"]]
    return lifted


def _note(note: dict[str, Any], line: dict[str, Any]) -> dict[str, Any]:
    """Early runs called any power limit throttled; later ones said the clock in words."""
    if note["kind"] not in ("throttled", "power-cap"):
        return note
    clock = _CLOCK.search(note["text"])
    if clock is not None:
        return {**note, "value": int(clock[1]) / int(clock[2])}
    slow = any(_CLOCK.search(one["text"]) for one in line["notes"])
    alone = line.get("clocks", {}).get("throttle") == ["power cap"]
    return {**note, "kind": "power-cap"} if alone and not slow else note


def _as_it_is(line: dict[str, Any]) -> dict[str, Any]:
    """Format 2 to 3: only run.json changed."""
    return line


# Format of an outcome line -> function that turns it into the next format.
UPGRADES: dict[int, Upgrade] = {1: _format_2, 2: _as_it_is}

RECORDS: dict[str, Any] = {
    "model": Recipe,
    "calibration": Calibration,
    "decision": Decision,
    "environment": Environment,
    "failure": Failure,
    "job": Job,
    "measurement": Measurement,
    "outcome": Measurement | Failure,
    "point": Point,
    "run": Run,
    "scenario": Scenario,
    "telemetry": TelemetrySample,
    "visit": Visit,
}


def check_format(found: object, file: Path) -> int:
    """Return the format of a folder, or raise StoreError that names file, version and mend."""
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise StoreError(
            f"{file}: format: {found!r} is not a format version",
            fix="is this the run.json of an ssmprof run folder?",
        )
    if found > FORMAT:
        raise StoreError(
            f"{file}: format {found} is newer than this ssmprof, which reads up to {FORMAT}",
            fix="pip install --upgrade ssmprof",
        )
    return found


def upgrade(line: dict[str, Any], found: int) -> dict[str, Any]:
    """Lift an outcome line, as plain values, from format `found` to the present one."""
    for version in range(found, FORMAT):
        line = UPGRADES[version](line)
    return line


def upgrade_scenario(plain: dict[str, Any], found: int) -> dict[str, Any]:
    """Lift a scenario, as plain values, from format `found`. Raises msgspec.ValidationError."""
    return former.scenario(plain) if found <= former.LAST else plain


def upgrade_run(run: Run, found: int) -> Run:
    """A decoded run whose blocks were named otherwise in format `found`."""
    return former.named_anew(run) if found <= former.LAST else run


def sealed(line: bytes) -> bytes:
    """An object of JSON on one line with its checksum as its first field."""
    return _SEAL % zlib.crc32(line) + line[1:]


def unsealed(line: bytes) -> bytes:
    """The object without its checksum. Raises ValueError where it does not match.

    CRC-32 finds every change of up to 32 neighbouring bits, and all but one in 4e9 of the others.
    """
    whole = b"{" + line[len(_SEAL % 0) :]
    if not line.startswith(_SEAL % zlib.crc32(whole)):
        raise ValueError("its checksum does not match: it was changed after it was written")
    return whole


def json_schema(record: str) -> dict[str, Any]:
    """JSON Schema of a record by name (see RECORDS). Raises ConfigError for an unknown name."""
    if record not in RECORDS:
        raise ConfigError(f'unknown record "{record}"{nearest(record, RECORDS)}')
    return msgspec.json.schema(RECORDS[record])
