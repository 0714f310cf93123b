"""How RWKV-7's scan is cut: tiles and launch shapes by dtype, width and length.

Promises: a pure function of shapes, dtype and device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from ssmprof_kernels import launch

#: Tokens of a chunk, launch shape of the chunks; columns of a state that a program of the walk
#: owns, its launch shape; dtype of what a chunk hands on beside the maps of the state.
DEFAULT: dict[str, Any] = {
    "C": 64,
    "num_warps": 4,
    "solve_warps": 4,
    "inverse": "tf32",
    "BLOCK": 16,
    "walk_warps": 4,
    "walk_stages": 4,
}
#: Blackwell: Triton's software pipelining has corrupted recurrences silently there.
DEFAULT_BLACKWELL: dict[str, Any] = {**DEFAULT, "solve_warps": 8, "walk_stages": 1}
#: Walked token by token: short chunks, so that there are many of them.
DEFAULT_FP32: dict[str, Any] = {**DEFAULT, "C": 32, "walk_stages": 1}
#: Wider heads than the model's: half of the tokens, twice the warps.
DEFAULT_BROAD: dict[str, Any] = {**DEFAULT, "C": 32, "num_warps": 8, "walk_stages": 1}
#: The narrowest tile of fp16 inputs from sm_90 on: with 32, Triton 3.6's tf32 products read outside
#: of their shared memory on an H200. No published model has so narrow heads.
LEAST_WIDE = 64


def choose(
    shape: Sequence[int], key: int, dtype: torch.dtype, device: torch.device
) -> launch.Choice:
    """Meta-parameters for v of `shape` (B, L, H, V) and keys of width `key`."""
    width = max(tile(key), tile(shape[3]))
    known = launch.facts(device)
    fill = launch.fill_bucket(shape[0] * shape[2], known.sm_count)
    name = str(dtype).removeprefix("torch.")
    bucket = f"{name},K{width},{launch.length_bucket(shape[1])},{fill}"
    if width > 64:
        default = DEFAULT_BROAD
    elif dtype == torch.float32:
        default = DEFAULT_FP32
    else:
        default = DEFAULT_BLACKWELL if known.sm >= 100 else DEFAULT
    return launch.pick("rwkv7", bucket, device, default)


def tile(size: int) -> int:
    """Power of two that holds `size`, at least 16 (the smallest side of a matrix instruction)."""
    return max(16, 1 << (size - 1).bit_length())


#: Elements of a program that works on heads of one token, by how full programs of the larger size
#: would make the device; each thread has 8.
FEW_HEADS, MANY_HEADS = {"ELEMENTS": 256}, {"ELEMENTS": 1024}


def choose_heads(op: str, shape: Sequence[int], device: torch.device) -> launch.Choice:
    """Meta-parameters of an operation on (..., H, K) where nothing but memory counts."""
    block = tile(shape[-1])
    programs = math.prod(shape[:-1]) * block // MANY_HEADS["ELEMENTS"]
    fill = launch.fill_bucket(programs, launch.facts(device).sm_count)
    default = MANY_HEADS if fill == "pmore" else FEW_HEADS
    return launch.pick(op, f"K{block}-{fill}", device, default)


def heads_of_program(heads: int, width: int, meta: dict[str, Any]) -> tuple[int, int, int]:
    """The power of two that holds a head of `width`, heads of a program, its warps."""
    block = tile(width)
    most = max(1, min(1 << (heads - 1).bit_length(), meta["ELEMENTS"] // block))
    return block, most, min(16, max(1, most * block // 256))
