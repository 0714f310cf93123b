"""What all records share: frozen, strict, finite; and what is computed of them everywhere."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Any, cast

import msgspec
from msgspec import Struct


def _refuse_non_finite(record: Struct) -> None:
    for name in record.__struct_fields__:
        value: Any = getattr(record, name)
        numbers = cast("tuple[Any, ...]", value if isinstance(value, tuple) else (value,))
        for number in numbers:
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{type(record).__name__}.{name}: {number} is not a measurement")


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all records: immutable, strict, finite."""

    def __post_init__(self) -> None:
        _refuse_non_finite(self)


def median(values: Iterable[float]) -> float:
    """The middle value; the mean of the two middle ones where their number is even."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("median of nothing")
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def encode(record: Struct) -> bytes:
    """One record as one JSON line, without the line break."""
    return msgspec.json.encode(record)


def content_hash(data: bytes) -> str:
    """SHA-256 of stored data, in hex: printed in reports, so that a number can be traced."""
    return hashlib.sha256(data).hexdigest()
