"""How a Mamba-2 scan is cut: tile sizes from the tables, segments from a small time model.

Promises: a pure function of shapes, dtype and device; nothing here depends on values, so a captured
graph stays valid, and no length makes a kernel compile again.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch

from ssmprof_kernels import launch

#: Chunk `Q`, tiles and launch shape of the walk and of the summaries; `resident` programs share a
#: multiprocessor. `alone_us` is the time of one chunk in a program that has the multiprocessor to
#: itself, `busy_us` what each chunk adds when the multiprocessor is full; `launch_us` is what one
#: more dependent kernel costs inside a graph.
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
    "pdl": False,
    "prepare": False,
    "resident": 2,
    "alone_us": 1.6,
    "busy_us": 1.0,
    "sum_alone_us": 0.7,
    "sum_busy_us": 0.4,
    "launch_us": 2.0,
}
#: Without Hopper's matrix units all operands stand in registers: smaller tiles spill none. On
#: Blackwell, Triton 3.6 cannot compile the larger ones.
DEFAULT_REGISTERS: dict[str, Any] = {**DEFAULT, "Q": 32, "BP": 32}
#: Without Hopper's matrix instructions every operand passes through registers: smaller chunks.
DEFAULT_PORTABLE: dict[str, Any] = {
    **DEFAULT,
    "Q": 32,
    "tma": False,
    "gluon": False,
    "sum_chunks": 2,
    "alone_us": 1.6,
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


def choose(
    shape: tuple[int, int, int, int], states: int, dtype: torch.dtype, device: torch.device
) -> launch.Choice:
    """Meta-parameters for x of `shape` (B, L, H, P) and `states` = N."""
    width = tile(shape[3])
    name = str(dtype).removeprefix("torch.")
    bucket = f"{name},P{width},N{tile(states)},{launch.length_bucket(shape[1])}"
    default = DEFAULT if launch.facts(device).sm in (0, 90) else DEFAULT_REGISTERS
    if dtype == torch.float32:
        default = DEFAULT_FP32
    return launch.pick("ssd_scan", bucket, device, default)


def tile(size: int) -> int:
    """Power of two that holds `size`, at least 16 (the smallest side of a matrix instruction)."""
    return max(16, 1 << (size - 1).bit_length())


@functools.lru_cache(maxsize=4096)
def segments(
    programs: int, chunks: int, sm_count: int, resident: int, times: tuple[float, ...]
) -> int:
    """Segments per sequence of `chunks` chunks that minimise the modelled time.

    Args:
        programs: programs of one segment each, that is sequences x heads x blocks of P.
        resident: programs that share a multiprocessor.
        times: alone_us, busy_us, sum_alone_us, sum_busy_us, launch_us.
    """
    alone, busy, sum_alone, sum_busy, extra = times

    def stage(count: int, length: int, alone_us: float, busy_us: float) -> float:
        full, rest = divmod(count, sm_count * resident)
        t = full * (length * max(alone_us, busy_us * resident) + extra)
        if rest:
            t += length * max(alone_us, busy_us * -(-rest // sm_count)) + extra
        return t

    best, best_t = 1, float("inf")
    tried = 0
    for s in range(1, min(chunks, MOST_SEGMENTS) + 1):
        length = -(-chunks // s)
        count = -(-chunks // length)
        if count == tried:
            continue
        tried = count
        t = stage(programs * count, length, alone, busy)
        if count > 1:
            t += extra + stage(programs * (count - 1), length, sum_alone, sum_busy)
            if count > FOLD_LIMIT:
                t += 2 * extra
        if t < best_t:
            best, best_t = count, t
    return best


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
    times = tuple(
        meta[k] for k in ("alone_us", "busy_us", "sum_alone_us", "sum_busy_us", "launch_us")
    )
    programs = sequences * heads * -(-width // meta["BP"])
    count = meta.get("S") or segments(programs, chunks, sm_count, meta["resident"], times)
    per_segment = -(-chunks // min(count, chunks)) * chunk
    longest = -(-length // per_segment)
    slots = length // per_segment + packed if packed else batch * longest
    how = 0 if longest <= 1 else 1 if longest <= FOLD_LIMIT else 2
    return Plan(per_segment, longest, slots, how)
