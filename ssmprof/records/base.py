"""What all records share: frozen, strict, finite; and what is computed of them everywhere."""

from __future__ import annotations

import gc
import hashlib
import math
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import astuple

from ssmprof import limits

# Raw times of one call. Zero and less are what is left of a call below what can be timed.
Time = Annotated[float, Meta(ge=-limits.SECONDS, le=limits.SECONDS)]
Count = Annotated[int, Meta(ge=0)]
Samples = Annotated[tuple[Time, ...], Meta(min_length=1)]


def _refuse_non_finite(record: Struct) -> None:
    for name in record.__struct_fields__:
        value: Any = getattr(record, name)
        numbers = cast("tuple[Any, ...]", value if isinstance(value, tuple) else (value,))
        for number in numbers:
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{type(record).__name__}.{name}: {number} is not a measurement")


def _certainly_finite(values: tuple[Any, ...]) -> bool:
    """Whether all numbers in fields and tuples are finite; where it says no, look closer.

    A million records of a large run go through this: a tuple of floats is looked at by its sum.
    """
    for value in values:
        kind = cast("type[Any]", type(value))
        if kind is str or kind is int or value is None:
            continue
        if isinstance(value, float):
            if not math.isfinite(value):
                return False
        elif isinstance(value, tuple):
            many = cast("tuple[Any, ...]", value)
            try:
                if not math.isfinite(sum(many)):
                    return False
            except TypeError:  # no numbers
                if any(isinstance(one, float) for one in many):
                    return False
    return True


class Record(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False
):
    """Base of all records: immutable, strict, finite. None refers back to what holds it."""

    def __post_init__(self) -> None:
        if not _certainly_finite(astuple(self)):
            _refuse_non_finite(self)


def median(values: Iterable[float]) -> float:
    """The middle value; the mean of the two middle ones where their number is even."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("median of nothing")
    return middle_of(ordered)


def middle_of(ordered: Sequence[float]) -> float:
    """The median of values that ascend, one at least."""
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    low, high = ordered[middle - 1], ordered[middle]
    mean = (low + high) / 2
    return mean if math.isfinite(mean) else low / 2 + high / 2  # their sum alone is too large


@contextmanager
def collector_at_rest() -> Generator[None, None, None]:
    """Without the collector of cycles while a million values are made that form none."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def encode(record: Struct) -> bytes:
    """One record as one JSON line, without the line break."""
    return msgspec.json.encode(record)


def content_hash(data: bytes) -> str:
    """SHA-256 of stored data, in hex: printed in reports, so that a number can be traced."""
    return hashlib.sha256(data).hexdigest()
