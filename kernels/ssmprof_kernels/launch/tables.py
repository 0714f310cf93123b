"""Block sizes by operation, shape bucket and GPU: a lookup in data, never a measurement.

Promises: `pick` is a pure function of its arguments and the tables on disk; the same bucket on the
same device always gives the same meta-parameters, so no length re-tunes in the middle of a sweep.
A GPU without a table gets the operation's default and is told so by `Choice.tuned`.

A table is `configs/sm_XX.json`:
`{op: {bucket: {"meta": {...}, "ms": float, "triton": "3.6.0", "device": str, "date": ISO}}}`.
An entry may also carry `"shared"`, the bytes of shared memory one program needs; it is passed over
on a device that has less. What a table of an earlier kernel lacks comes from the default, and the
choice counts as outdated. Lookup order: the user's table (folder in `SSMPROF_KERNELS_CONFIGS`), the
shipped table of the exact compute capability, the shipped table of a sibling, the default.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any, NamedTuple

import torch
import triton

from ssmprof_kernels.launch.devices import facts

SHIPPED = pathlib.Path(__file__).parents[1] / "configs"

#: A capability without a table of its own borrows from the nearest relative.
SIBLINGS = {87: 80, 86: 89, 103: 100, 121: 120}


class Choice(NamedTuple):
    """Meta-parameters, the table they come from, and False if that is borrowed or outdated."""

    meta: dict[str, Any]
    tuned: bool
    source: str


#: What `pick` is asked.
Lookup = tuple[str, str, torch.device, dict[str, Any]]

_choices: dict[tuple[str, str, torch.device], Choice] = {}
_lookups: list[dict[Any, Any]] = []
_tables: dict[pathlib.Path, dict[str, Any]] = {}


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
        whole = default.keys() <= entry["meta"].keys()
        source = f"{'user' if str(folder) == user else 'shipped'} sm_{capability}"
        return Choice({**default, **entry["meta"]}, exact and same and whole, source)
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


def lookups() -> dict[Any, Any]:
    """A dictionary that `forget` empties, for an operation that remembers what it asked."""
    _lookups.append({})
    return _lookups[-1]


def forget() -> None:
    """Drop cached tables and choices, after a table on disk has changed."""
    for known in _lookups:
        known.clear()
    _choices.clear()
    _tables.clear()


def chosen() -> dict[tuple[str, str], Choice]:
    """What `pick` has answered since `forget`, by operation and bucket; the latest last."""
    return {(op, bucket): choice for (op, bucket, _), choice in _choices.items()}


def drop(path: pathlib.Path) -> None:
    """Read this table anew when it is next asked for."""
    _tables.pop(path, None)
