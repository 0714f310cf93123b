"""How a Mamba-2 scan is cut: tile sizes from the tables, segments from a small time model.

Promises: a pure function of shapes, dtype and device; nothing here depends on values, so a captured
graph stays valid, and no length makes a kernel compile again.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from ssmprof_kernels import launch

#: Chunk `Q`, tiles and launch shape of the walk and of the summaries (`sum_...`; `sum_ring` is the
#: Hopper form's number of tiles in flight). Segments of up to `fused` chunks have their exponents
#: formed by the summaries, longer ones by a launch of their own; with up to `early` chunks a launch
#: takes its places before the one before has ended.
#:
#: Then the time model of `segments`: `resident` programs (of the summaries `sum_resident`) share a
#: multiprocessor; `alone_us` is one chunk in a program that has the multiprocessor to itself,
#: `busy_us` what each adds when it is shared, `wave_us` the start and end of a program,
#: `launch_us` one more dependent kernel inside a graph. Fitted on an H100 (P 64, N 128, bf16);
#: `kernels/benchmarks/tune_ssd.py` fits anew. A further entry `S` forces the number of segments.
DEFAULT: dict[str, Any] = {
    "Q": 64,
    "BP": 64,
    "num_warps": 4,
    "num_stages": 2,
    "sum_ring": 3,
    "sum_chunks": 2,
    "sum_warps": 4,
    "sum_stages": 2,
    "tma": True,
    "gluon": True,
    "fused": 8,
    "early": 16,
    "resident": 2,
    "sum_resident": 3,
    "alone_us": 1.6,
    "busy_us": 1.15,
    "sum_alone_us": 0.4,
    "sum_busy_us": 0.45,
    "wave_us": 5.0,
    "launch_us": 1.5,
}
#: Without Hopper's matrix instructions every operand passes through registers: smaller tiles spill
#: none, and on Blackwell Triton 3.6 cannot compile the larger ones.
DEFAULT_PORTABLE: dict[str, Any] = {
    **DEFAULT,
    "Q": 32,
    "BP": 32,
    "tma": False,
    "gluon": False,
    "early": 0,
    "alone_us": 1.2,
    "busy_us": 1.0,
}
#: Blackwell: Triton's software pipelining has corrupted recurrences silently there.
DEFAULT_BLACKWELL: dict[str, Any] = {**DEFAULT_PORTABLE, "num_stages": 1, "sum_stages": 1}
#: fp32 tiles are twice as large in shared memory and in registers.
DEFAULT_FP32: dict[str, Any] = {
    **DEFAULT_PORTABLE,
    "BP": 32,
    "num_stages": 1,
    "sum_stages": 1,
    "sum_chunks": 1,
    "alone_us": 3.0,
    "busy_us": 2.0,
    "sum_alone_us": 1.0,
    "sum_busy_us": 0.7,
}
#: More segments than this are combined by a launch of their own.
FOLD_LIMIT = 4
#: Each segment state is written, combined and read again; past this many nothing is gained.
MOST_SEGMENTS = 256


class Plan(NamedTuple):
    """Tokens per segment, segments per sequence, segment slots in all, how states are combined."""

    T: int
    S: int
    slots: int
    segments: int


def lookup(
    shape: Sequence[int], states: int, dtype: torch.dtype, device: torch.device
) -> launch.Lookup:
    """Where the meta-parameters for x of `shape` (B, L, H, P) and `states` = N are looked up."""
    width = tile(shape[3])
    name = str(dtype).removeprefix("torch.")
    bucket = f"{name},P{width},N{tile(states)},{launch.length_bucket(shape[1])}"
    sm = launch.facts(device).sm
    if dtype == torch.float32:
        default = DEFAULT_FP32
    elif sm in (0, 90):
        default = DEFAULT
    else:
        default = DEFAULT_BLACKWELL if sm >= 100 else DEFAULT_PORTABLE
    return "ssd_scan", bucket, device, default


def choose(
    shape: Sequence[int], states: int, dtype: torch.dtype, device: torch.device
) -> launch.Choice:
    """Meta-parameters for x of `shape` (B, L, H, P) and `states` = N."""
    return launch.pick(*lookup(shape, states, dtype, device))


def tile(size: int) -> int:
    """Power of two that holds `size`, at least 16 (the smallest side of a matrix instruction)."""
    return max(16, 1 << (size - 1).bit_length())


class Times(NamedTuple):
    """The time model's part of the meta-parameters, in microseconds; see `DEFAULT`."""

    resident: int
    sum_resident: int
    alone_us: float
    busy_us: float
    sum_alone_us: float
    sum_busy_us: float
    wave_us: float
    launch_us: float


def modelled_us(programs: int, count: int, length: int, sm_count: int, t: Times) -> float:
    """Modelled time in microseconds of `count` segments of `length` chunks in each sequence.

    `programs` is the number of programs with one segment each: sequences x heads x blocks of P.
    """

    def stage(total: int, resident: int, alone_us: float, busy_us: float) -> float:
        full, rest = divmod(total, sm_count * resident)
        us = full * (length * max(alone_us, busy_us * resident) + t.wave_us)
        if rest:
            us += length * max(alone_us, busy_us * -(-rest // sm_count)) + t.wave_us
        return us

    us = stage(programs * count, t.resident, t.alone_us, t.busy_us)
    if count > 1:
        us += stage(programs * (count - 1), t.sum_resident, t.sum_alone_us, t.sum_busy_us)
        us += t.launch_us * (2 if count > FOLD_LIMIT else 1)
    return us


@functools.lru_cache(maxsize=4096)
def segments(programs: int, chunks: int, sm_count: int, t: Times) -> int:
    """Segments per sequence of `chunks` chunks that minimise `modelled_us`."""
    lengths = dict.fromkeys(-(-chunks // s) for s in range(1, min(chunks, MOST_SEGMENTS) + 1))
    cuts = [(-(-chunks // length), length) for length in lengths]
    return min(cuts, key=lambda cut: modelled_us(programs, *cut, sm_count, t))[0]


def plan(
    batch: int,
    length: int,
    heads: int,
    width: int,
    packed: int | None,
    meta: dict[str, Any],
    sm_count: int,
) -> Plan:
    """Segments for `batch` sequences of `length` tokens.

    `packed` is the number of sequences of unknown lengths that share the one row of `length`
    tokens, None where each row is one sequence; packed ones are cut as if all had the mean length.
    """
    chunk = meta["Q"]
    sequences = packed or batch
    mean = -(-length // packed) if packed else length
    chunks = -(-mean // chunk)
    times = Times(*(meta[name] for name in Times._fields))
    programs = sequences * heads * -(-width // meta["BP"])
    count = meta.get("S") or segments(programs, chunks, sm_count, times)
    per_segment = -(-chunks // min(count, chunks)) * chunk
    longest = -(-length // per_segment)
    slots = length // per_segment + packed if packed else batch * longest
    how = 0 if longest <= 1 else 1 if longest <= FOLD_LIMIT else 2
    return Plan(per_segment, longest, slots, how)
