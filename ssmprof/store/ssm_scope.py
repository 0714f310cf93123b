"""The published tables of SSM-Scope on an Orin Nano, as rows in SI units (`data/ssm_scope`).

The paper's percentages divide host plus device time by operator category; `buckets` gives them
beside the same shares of device time alone.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from msgspec import Struct

from ssmprof.errors import ConfigError

FOLDER = Path(__file__).with_name("data") / "ssm_scope"
OPS = "ops_orin_nano.csv"
FOOTPRINTS = "memory_footprints_jetson.csv"
UNCOUNTED = "not_counted"
_MIB = 2**20
_WHOLE = "inference_prof"
_BUCKET = "SSM_Scan"
# Names in the memory table -> names in the table of ops, for the models that have a KV cache.
_TRANSFORMERS = {"qwen25-instruct": "qwen2.5-0.5b", "llama3_2": "llama-3.2-1b"}


class Bucket(Struct, frozen=True, kw_only=True):
    """The paper's SSM_Scan bucket in one run: share of device time, and as published. Seconds."""

    model: str
    context: int
    device_s: float
    host_s: float
    device_share: float
    published_share: float


class Footprint(Struct, frozen=True, kw_only=True):
    """One row of the memory table. `kv_bytes` None: the published value has no meaning."""

    model: str
    context: int
    weights_bytes: int
    activation_bytes: int
    kv_bytes: int | None
    peak_bytes: int
    reserved_bytes: int


class Op(Struct, frozen=True, kw_only=True):
    """One operator of one profiled run, per forward."""

    name: str
    category: str
    host_s: float
    device_s: float
    calls: int


Runs = dict[tuple[str, int], list[Op]]


def buckets(folder: Path = FOLDER) -> list[Bucket]:
    """Share of the SSM_Scan bucket by both denominators, for every run that has one."""
    found: list[Bucket] = []
    for (model, context), rows in ops(folder).items():
        counted = [op for op in rows if op.category != UNCOUNTED]
        mine = [op for op in counted if op.category == _BUCKET]
        if not mine:
            continue
        device_s = sum(op.device_s for op in counted)
        both_s = device_s + sum(op.host_s for op in counted)
        forward = whole(rows)
        found.append(
            Bucket(
                model=model,
                context=context,
                device_s=forward.device_s,
                host_s=forward.host_s,
                device_share=sum(op.device_s for op in mine) / device_s,
                published_share=sum(op.device_s + op.host_s for op in mine) / both_s,
            )
        )
    return found


def memory_rows(folder: Path = FOLDER) -> list[Footprint]:
    """The published memory table. Bytes; the paper prints MiB."""
    found: list[Footprint] = []
    for row in _rows(folder / FOOTPRINTS):
        name = row["model_name"]
        # The cache is a difference of two peaks there: 0 or negative where a model keeps states.
        kept = name in _TRANSFORMERS
        found.append(
            Footprint(
                model=_TRANSFORMERS.get(name, name),
                context=int(row["seq_len"]),
                weights_bytes=_bytes(row["model_size_mb"]),
                activation_bytes=_bytes(row["activation_memory_mb"]),
                kv_bytes=_bytes(row["kv_cache_mb"]) if kept else None,
                peak_bytes=_bytes(row["total_memory_mb"]),
                reserved_bytes=_bytes(row["reserved_memory_mb"]),
            )
        )
    return found


def _bytes(mebibytes: str) -> int:
    return round(float(mebibytes) * _MIB)


def _rows(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return list(csv.DictReader(lines))
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read: {error.strerror}",
            fix="name a folder that holds the tables, or none for those of this package",
        ) from None


def ops(folder: Path) -> Runs:
    """Operators by model and context, in seconds per forward."""
    file = folder / OPS
    found: Runs = {}

    def run_of(row: dict[str, str]) -> tuple[str, int]:
        return row["model"], int(row["context"])

    try:
        for key, rows in groupby(_rows(file), run_of):
            found.setdefault(key, []).extend(_op(row) for row in rows)
    except (KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        raise ConfigError(
            f"{file}: not a table of operators: {type(error).__name__}: {error}",
            fix="columns: model, context, op, category_published, cpu_time_us, cuda_time_us, "
            "calls, iterations",
        ) from None
    return found


def _op(row: dict[str, str]) -> Op:
    forwards = int(row["iterations"])
    return Op(
        name=row["op"],
        category=row["category_published"],
        host_s=float(row["cpu_time_us"]) * 1e-6 / forwards,
        device_s=float(row["cuda_time_us"]) * 1e-6 / forwards,
        calls=int(row["calls"]) // forwards,
    )


def whole(rows: Iterable[Op]) -> Op:
    """The row of the whole forward; raises ConfigError where the table lacks it."""
    found = next((op for op in rows if op.name == _WHOLE), None)
    if found is None:
        raise ConfigError(f"a run without its {_WHOLE} row", fix="restore the published table")
    return found
