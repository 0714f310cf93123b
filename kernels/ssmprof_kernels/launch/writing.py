"""Measured entries into the tables of `tables`: one at a time, or a whole table tuned elsewhere.

Promises: a table is replaced only when the new one is complete, under a lock of its folder.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import torch
import triton

from ssmprof_kernels.launch import tables
from ssmprof_kernels.launch.devices import facts


def write(
    op: str,
    bucket: str,
    meta: dict[str, Any],
    ms: float,
    *,
    folder: pathlib.Path = tables.SHIPPED,
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


def merge(source: pathlib.Path, *, folder: pathlib.Path = tables.SHIPPED) -> pathlib.Path:
    """Merge a table tuned elsewhere (named `sm_XX.json`) into the one of that name in `folder`."""
    return _merge(json.loads(source.read_text(encoding="utf-8")), folder / source.name)


def digests() -> dict[str, str]:
    """Short hash of the shipped tables of each operation, so that a run can say which
    configurations it used."""
    found: dict[str, Any] = {}
    for path in sorted(tables.SHIPPED.glob("sm_*.json")):
        for op, buckets in tables.table(path).items():
            part = found.setdefault(op, hashlib.sha256())
            part.update(path.name.encode() + json.dumps(buckets, sort_keys=True).encode())
    return {op: part.hexdigest()[:12] for op, part in sorted(found.items())}


def _merge(new: dict[str, Any], path: pathlib.Path) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        tables.drop(path)
        merged = {op: dict(buckets) for op, buckets in tables.table(path).items()}
        for op, buckets in new.items():
            merged.setdefault(op, {}).update(buckets)
        ordered = {op: dict(sorted(merged[op].items())) for op in sorted(merged)}
        fresh = path.with_suffix(".tmp")
        fresh.write_text(_dump(ordered), encoding="utf-8")
        fresh.replace(path)
    tables.forget()
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
