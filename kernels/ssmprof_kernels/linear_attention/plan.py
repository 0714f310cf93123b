"""How linear attention's scan is cut: tiles from the tables, segments from a small time model.

Promises: a pure function of shapes, dtype and device; nothing here depends on values, so a captured
graph stays valid, and no length makes a kernel compile again.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch

from ssmprof_kernels import launch

#: Tokens C of a chunk and columns BV of a state that a program owns; launch shapes of the pairs,
#: of the summaries and of the walk. Then the time model of `segments`: programs of walk and of
#: summaries that share a multiprocessor, time of one chunk in each, of one more launch with the
#: start and end of its programs, and of one earlier segment's sum that a walk begins with.
#: A further entry `segments` forces their number.
DEFAULT: dict[str, Any] = {
    "C": 64,
    "BV": 64,
    "pair_warps": 4,
    "num_warps": 8,
    "num_stages": 2,
    "sum_warps": 8,
    "sum_stages": 2,
    "resident": 1,
    "chunk_us": 2.0,
    "sum_us": 1.0,
    "launch_us": 5.0,
    "fold_us": 1.0,
}
#: Keys of up to 128: half of the registers and of shared memory.
DEFAULT_NARROW: dict[str, Any] = {
    **DEFAULT,
    "num_warps": 4,
    "sum_warps": 4,
    "resident": 2,
    "chunk_us": 1.6,
    "sum_us": 0.8,
}
#: Without Hopper's matrix instructions every operand passes through registers.
PORTABLE: dict[str, Any] = {"C": 32, "BV": 32}
#: Blackwell: Triton's software pipelining has corrupted recurrences silently there.
BLACKWELL: dict[str, Any] = {**PORTABLE, "num_stages": 1, "sum_stages": 1, "sum_warps": 8}
#: fp32 tiles are twice as large; short chunks keep the digits of sums of logarithms.
FP32: dict[str, Any] = {**PORTABLE, "C": 16, "num_stages": 1, "sum_stages": 1}
#: Every segment's share of a state is written and read again; a walk begins with a sum of them.
MOST_SEGMENTS = 16


class Cut(NamedTuple):
    """Chunks per segment, segments of the longest sequence, segments in all."""

    T: int
    M: int
    slots: int


def choose(
    kind: str,
    sequences: int,
    heads: int,
    length: int,
    key: int,
    value: int,
    dtype: torch.dtype,
    device: torch.device,
) -> launch.Choice:
    """Meta-parameters of `kind`, gla or retention, for `sequences` of `length` tokens."""
    known = launch.facts(device)
    name = str(dtype).removeprefix("torch.")
    fill = launch.fill_bucket(sequences * heads * -(-value // 64), known.sm_count)
    bucket = f"{name},K{tile(key)},V{tile(value)},{launch.length_bucket(length)},{fill}"
    default = DEFAULT if key > 128 else DEFAULT_NARROW
    if dtype == torch.float32:
        default = {**default, **FP32}
    elif known.sm not in (0, 90):
        default = {**default, **(BLACKWELL if known.sm >= 100 else PORTABLE)}
    return launch.pick(kind, bucket, device, default)


def tile(size: int) -> int:
    """Power of two that holds `size`, at least 16 (the smallest side of a matrix instruction)."""
    return max(16, 1 << (size - 1).bit_length())


class Times(NamedTuple):
    """The time model's part of the meta-parameters; see `DEFAULT`."""

    resident: int
    chunk_us: float
    sum_us: float
    launch_us: float
    fold_us: float


@functools.lru_cache(maxsize=4096)
def segments(programs: int, chunks: int, sm_count: int, t: Times) -> int:
    """Segments per sequence of `chunks` chunks, with `programs` programs if each has but one."""

    def modelled_us(count: int) -> float:
        length = -(-chunks // count)
        count = -(-chunks // length)
        us = -(-programs * count // (sm_count * t.resident)) * length * t.chunk_us
        if count > 1:
            waves = -(-programs * (count - 1) // (sm_count * t.resident))
            us += waves * length * t.sum_us + t.launch_us + t.fold_us * (count - 1)
        return us

    return min(range(1, min(chunks, MOST_SEGMENTS) + 1), key=modelled_us)


def cut(
    batch: int,
    length: int,
    heads: int,
    value: int,
    packed: int | None,
    meta: dict[str, Any],
    sm_count: int,
) -> Cut:
    """Segments of `batch` rows of `length` tokens, or of `packed` sequences of one row, which are
    cut as if all had the mean length."""
    chunk = meta["C"]
    mean = -(-length // packed) if packed else length
    chunks = max(1, -(-mean // chunk))
    programs = (packed or batch) * heads * -(-value // meta["BV"])
    times = Times(*(meta[name] for name in Times._fields))
    count = meta.get("segments") or segments(programs, chunks, sm_count, times)
    per_segment = -(-chunks // min(count, chunks))
    longest = -(-length // (per_segment * chunk))
    slots = length // (per_segment * chunk) + packed if packed else batch * longest
    return Cut(per_segment, longest, slots)
