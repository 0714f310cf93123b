"""How a delta rule is cut: tiles from the tables, segments from a small time model.

Promises: a pure function of shapes, dtype and device; nothing here depends on values, so a captured
graph stays valid, and no length makes a kernel compile again.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch

from ssmprof_kernels import launch

#: Tokens of a chunk `C`; values of a program `BV`, and the launch shapes of the walk, of the
#: summaries (`sum_...`) and of what is prepared (`pre_...`, `pre_part` features at a time; where
#: each has its decay `channel_warps`, `channel_registers`, `part` and `prefix`, sums by running
#: ones); `tma` where tiles come by descriptors.
#:
#: Then the time model of `segments`: `resident` programs share a multiprocessor; `alone_us` is one
#: chunk in a program that has the multiprocessor to itself, `busy_us` what each adds when it is
#: shared, the summaries' chunks `sum_share` of both, `wave_us` the start and end of a program,
#: `launch_us` one more dependent kernel, `combine_us` a segment led through the next. An entry `S`
#: forces the number of segments.
DEFAULT: dict[str, Any] = {
    "C": 64,
    "BV": 64,
    "num_warps": 4,
    "num_stages": 3,
    "sum_warps": 4,
    "sum_stages": 3,
    "pre_warps": 4,
    "pre_registers": 168,
    "pre_part": 256,
    "channel_warps": 8,
    "channel_registers": None,
    "part": 32,
    "prefix": False,
    "tma": True,
    "resident": 1,
    "alone_us": 1.85,
    "busy_us": 1.85,
    "sum_share": 0.65,
    "wave_us": 3.0,
    "launch_us": 1.5,
    "combine_us": 2.0,
}
#: Without Hopper's matrix instructions every operand passes through registers.
DEFAULT_PORTABLE: dict[str, Any] = {
    **DEFAULT,
    "C": 32,
    "BV": 32,
    "num_stages": 1,
    "sum_stages": 1,
    "pre_registers": None,
    "channel_warps": 4,
    "part": 32,
    "tma": False,
    "alone_us": 1.0,
    "busy_us": 0.7,
}
#: A state of more than 128 keys.
DEFAULT_WIDE: dict[str, Any] = {**DEFAULT_PORTABLE, "BV": 16, "part": 16, "pre_warps": 8}
#: fp32 tiles are twice as large in shared memory and in registers.
DEFAULT_FP32: dict[str, Any] = {
    **DEFAULT_PORTABLE,
    "C": 16,
    "BV": 16,
    "num_warps": 8,
    "sum_warps": 8,
    "pre_part": 32,
    "alone_us": 3.0,
    "busy_us": 2.0,
}
#: What is `doubled` needs more registers: the portable chunk on Hopper, too, and fewer features.
DOUBLED: dict[str, Any] = {name: DEFAULT_WIDE[name] for name in ("C", "channel_warps", "part")}
#: The narrowest tile of 16-bit keys with decays of their own: what Triton 3.6 makes of 32 read
#: where it must not on an H200, and computed wrong; of 64 not. No model published has so few keys.
LEAST_KEYS = 64
#: Each segment's state is written and led through the next.
MOST_SEGMENTS = 32


class Plan(NamedTuple):
    """Tokens per segment, segments per sequence at most, segment slots in all, chunk slots."""

    T: int
    S: int
    slots: int
    chunks: int


class Times(NamedTuple):
    """The time model's part of the meta-parameters, in microseconds; see `DEFAULT`."""

    resident: int
    alone_us: float
    busy_us: float
    sum_share: float
    wave_us: float
    launch_us: float
    combine_us: float


def tile(size: int) -> int:
    """Power of two that holds `size`, at least 16 (the smallest side of a matrix instruction)."""
    return max(16, 1 << (size - 1).bit_length())


def block(meta: dict[str, Any], key: int, value: int) -> int:
    """Columns of a state that a program owns. No more than keys: the summaries' unit columns, one
    per key, begin where a program's columns do."""
    return min(meta["BV"], tile(key), tile(value))


def doubled(negative: bool, dtype: torch.dtype) -> bool:
    """Whether operands are kept as two numbers, high and low. A doubled step can reflect the state
    where others shrink it: roundings to bf16 fade more slowly and add up to more."""
    return negative and dtype == torch.bfloat16


def choose(
    op: str,
    key: int,
    value: int,
    length: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    negative: bool = False,
) -> launch.Choice:
    """Meta-parameters for a state of `key` x `value` and sequences of `length` tokens."""
    name = str(dtype).removeprefix("torch.")
    bucket = f"{name},K{tile(key)},V{tile(value)},{launch.length_bucket(length)}"
    sm = launch.facts(device).sm
    if dtype == torch.float32:
        default = DEFAULT_FP32
    elif tile(key) > 128:
        default = DEFAULT_WIDE
    elif sm in (0, 90):
        default = DEFAULT
    else:
        default = DEFAULT_PORTABLE
    if doubled(negative, dtype):
        bucket += ",doubled"
        default = {**default, **DOUBLED}
    return launch.pick(op, bucket, device, default)


def modelled_us(
    programs: int, also: int, count: int, length: int, sm_count: int, t: Times
) -> float:
    """Modelled time of `count` segments of `length` chunks in each sequence.

    `programs` have one segment each, sequences x heads x blocks of V; `also` find what a state
    becomes over a segment, sequences x heads x blocks of K.
    """

    def stage(total: int, share: float) -> float:
        full, rest = divmod(total, sm_count * t.resident)
        us = full * (length * share * max(t.alone_us, t.busy_us * t.resident) + t.wave_us)
        if rest:
            shared = t.busy_us * -(-rest // sm_count)
            us += length * share * max(t.alone_us, shared) + t.wave_us
        return us

    us = stage(programs * count, 1.0)
    if count > 1:
        us += stage(programs * (count - 1) + also * (count - 2), t.sum_share) + t.launch_us
    if count > 2:
        us += t.launch_us + (count - 2) * t.combine_us
    return us


@functools.lru_cache(maxsize=4096)
def segments(programs: int, also: int, chunks: int, sm_count: int, t: Times) -> int:
    """Segments per sequence of `chunks` chunks that minimise `modelled_us`."""
    lengths = dict.fromkeys(-(-chunks // s) for s in range(1, min(chunks, MOST_SEGMENTS) + 1))
    cuts = [(-(-chunks // length), length) for length in lengths]
    return min(cuts, key=lambda cut: modelled_us(programs, also, *cut, sm_count, t))[0]


def plan(
    batch: int,
    length: int,
    heads: int,
    state: tuple[int, int],
    packed: int | None,
    meta: dict[str, Any],
    sm_count: int,
) -> Plan:
    """Segments for `batch` sequences of `length` tokens, a state (K, V) of each head.

    `packed` is the number of sequences of unknown lengths that share the one row of `length`
    tokens, None where each row is one sequence; packed ones are cut as if all had the mean length.
    """
    sequences = packed or batch
    mean = -(-length // packed) if packed else length
    chunk = meta["C"]
    chunks = -(-mean // chunk)
    times = Times(*(meta[name] for name in Times._fields))
    BV = block(meta, *state)
    keys, values = (sequences * heads * (tile(size) // BV) for size in state)
    count = meta.get("S") or segments(values, keys, chunks, sm_count, times)
    per_segment = -(-chunks // min(count, chunks)) * chunk
    longest = -(-length // per_segment)
    if packed:
        return Plan(per_segment, longest, length // per_segment + packed, length // chunk + packed)
    return Plan(per_segment, longest, batch * longest, batch * -(-length // chunk))
