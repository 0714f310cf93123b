"""Block sizes by operation, shape bucket and GPU: a lookup in data, never a measurement.

Promises: `pick` is a pure function of its arguments and the tables on disk; the same bucket on the
same device always gives the same meta-parameters, so no length re-tunes in the middle of a sweep.
A GPU without a table gets the operation's default and is told so by `Choice.tuned`.

A table is `configs/sm_XX.json`:
`{op: {bucket: {"meta": {...}, "ms": float, "triton": "3.6.0", "device": str, "date": ISO}}}`.
An entry may also carry `"shared"`, the bytes of shared memory one program needs; it is passed over
on a device that has less. Lookup order: the user's table (folder in `SSMPROF_KERNELS_CONFIGS`), the
shipped table of the exact compute capability, the shipped table of a sibling, the default.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import pathlib
import platform
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import triton

SHIPPED = pathlib.Path(__file__).with_name("configs")

#: A capability without a table of its own borrows from the nearest relative.
SIBLINGS = {87: 80, 86: 89, 103: 100, 121: 120}

#: Opt-in shared memory of one thread block in bytes, per compute capability (CUDA C++ Programming
#: Guide, table "Technical Specifications per Compute Capability"); used where no device is present.
SHARED_BYTES = {
    80: 166_912,
    86: 101_376,
    87: 166_912,
    89: 101_376,
    90: 232_448,
    100: 232_448,
    103: 232_448,
    110: 232_448,
    120: 101_376,
    121: 101_376,
}

_LENGTHS = ((256, "256"), (1024, "1K"), (4096, "4K"), (16384, "16K"))
_FILLS = ((0.5, "p0.5"), (1.0, "p1"), (2.0, "p2"), (4.0, "p4"))

LENGTH_BUCKETS = (*(name for _, name in _LENGTHS), "more")
FILL_BUCKETS = (*(name for _, name in _FILLS), "pmore")


class Choice(NamedTuple):
    """Meta-parameters, the table they come from, and False if that is borrowed or outdated."""

    meta: dict[str, Any]
    tuned: bool
    source: str


class DeviceFacts(NamedTuple):
    """Capability (0 on a CPU), multiprocessors, shared memory of one block in bytes, name."""

    sm: int
    sm_count: int
    shared_bytes: int
    name: str


_facts: dict[torch.device, DeviceFacts] = {}
_choices: dict[tuple[str, str, torch.device], Choice] = {}
_tables: dict[pathlib.Path, dict[str, Any]] = {}


def length_bucket(length: int) -> str:
    """Coarse bucket of a sequence length in tokens: '256', '1K', '4K', '16K' or 'more'."""
    for limit, name in _LENGTHS:
        if length <= limit:
            return name
    return "more"


def fill_bucket(programs: int, sm_count: int) -> str:
    """How many programs each multiprocessor gets: 'p0.5', 'p1', 'p2', 'p4' or 'pmore'."""
    for limit, name in _FILLS:
        if programs <= limit * sm_count:
            return name
    return "pmore"


def facts(device: torch.device) -> DeviceFacts:
    """Capability, multiprocessor count and shared-memory limit of `device`; cached."""
    known = _facts.get(device)
    if known is None:
        if device.type == "cuda":
            p = torch.cuda.get_device_properties(device)
            shared = int(p.shared_memory_per_block_optin)
            known = DeviceFacts(p.major * 10 + p.minor, p.multi_processor_count, shared, p.name)
        else:
            # One virtual multiprocessor: the interpreter runs programs one after the other.
            known = DeviceFacts(0, 1, 1 << 30, platform.machine())
        _facts[device] = known
    return known


def table(path: pathlib.Path) -> dict[str, Any]:
    """The table at `path`, {} where there is none. ValueError if the file is not a table."""
    known = _tables.get(path)
    if known is None:
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            known = {}
        except (OSError, json.JSONDecodeError) as error:
            raise ValueError(
                f"kernel configuration table {path} cannot be read ({error}); mend or remove it"
            ) from error
        if not isinstance(known, dict):
            raise ValueError(
                f"kernel configuration table {path} must hold one JSON object, "
                f"got {type(known).__name__}; mend or remove it"
            )
        _tables[path] = known
    return known


def resolve(op: str, bucket: str, sm: int, shared_bytes: int, default: dict[str, Any]) -> Choice:
    """`pick` for a compute capability such as 90 instead of a device; no GPU needed."""
    places = []
    user = os.environ.get("SSMPROF_KERNELS_CONFIGS")
    if user:
        places.append((pathlib.Path(user), sm, True))
    places.append((SHIPPED, sm, True))
    if sm in SIBLINGS:
        places.append((SHIPPED, SIBLINGS[sm], False))
    for folder, capability, exact in places:
        entry = table(folder / f"sm_{capability}.json").get(op, {}).get(bucket)
        if entry is None or entry.get("shared", 0) > shared_bytes:
            continue
        # A compiler of another minor version schedules differently: usable, but no longer measured.
        same = str(entry.get("triton", "")).split(".")[:2] == triton.__version__.split(".")[:2]
        source = f"{'user' if str(folder) == user else 'shipped'} sm_{capability}"
        return Choice(dict(entry["meta"]), exact and same, source)
    return Choice(dict(default), False, "default")


def pick(op: str, bucket: str, device: torch.device, default: dict[str, Any]) -> Choice:
    """Meta-parameters of `op` for a shape bucket on `device`, with where they come from; cached.

    Treat `Choice.meta` as read-only: the same object is returned on every call.
    """
    key = (op, bucket, device)
    choice = _choices.get(key)
    if choice is None:
        known = facts(device)
        choice = resolve(op, bucket, known.sm, known.shared_bytes, default)
        _choices[key] = choice
    return choice


def forget() -> None:
    """Drop cached tables and choices, after a table on disk has changed."""
    _choices.clear()
    _tables.clear()


def write(
    op: str,
    bucket: str,
    meta: dict[str, Any],
    ms: float,
    *,
    folder: pathlib.Path = SHIPPED,
    sm: int | None = None,
    device: str | None = None,
    **extra: float | int | str,
) -> pathlib.Path:
    """Merge one measured entry into a table and return the table's path.

    Args:
        op, bucket, meta: the key and the meta-parameters.
        ms: measured time in milliseconds.
        folder: where the tables are; the shipped ones by default.
        sm, device: capability and name; those of the current CUDA device by default.
        extra: further facts of the entry, for example `shared` (bytes) or `error`.
    """
    if sm is None or device is None:
        here = facts(torch.device("cuda", torch.cuda.current_device()))
        sm, device = sm or here.sm, device or here.name
    entry = {
        "meta": meta,
        "ms": ms,
        "triton": triton.__version__,
        "device": device,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        **extra,
    }
    return _merge({op: {bucket: entry}}, folder / f"sm_{sm}.json")


def merge(source: pathlib.Path, *, folder: pathlib.Path = SHIPPED) -> pathlib.Path:
    """Merge a table tuned elsewhere (named `sm_XX.json`) into the one of that name in `folder`."""
    return _merge(json.loads(source.read_text(encoding="utf-8")), folder / source.name)


def digest() -> str:
    """Short hash of all shipped tables, so that a run can say which configurations it used."""
    h = hashlib.sha256()
    for path in sorted(SHIPPED.glob("sm_*.json")):
        h.update(path.name.encode() + path.read_bytes())
    return h.hexdigest()[:12]


def _merge(new: dict[str, Any], path: pathlib.Path) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        _tables.pop(path, None)
        merged = {op: dict(buckets) for op, buckets in table(path).items()}
        for op, buckets in new.items():
            merged.setdefault(op, {}).update(buckets)
        ordered = {op: dict(sorted(merged[op].items())) for op in sorted(merged)}
        fresh = path.with_suffix(".tmp")
        fresh.write_text(_dump(ordered), encoding="utf-8")
        fresh.replace(path)
    forget()
    return path


def _dump(merged: dict[str, Any]) -> str:
    # One line per entry: a re-tuned bucket is one changed line in a diff.
    ops = []
    for op, buckets in merged.items():
        lines = [f"    {json.dumps(b)}: {json.dumps(e)}" for b, e in buckets.items()]
        ops.append(f"  {json.dumps(op)}: {{\n" + ",\n".join(lines) + "\n  }")
    return "{\n" + ",\n".join(ops) + "\n}\n"


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
