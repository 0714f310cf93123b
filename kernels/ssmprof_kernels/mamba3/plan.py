"""How a Mamba-3 scan is cut: tile sizes, and the time model of its segments.

Promises: a pure function of shapes, dtype and device; no length makes a kernel compile again.
"""

from __future__ import annotations

from typing import Any

import torch

from ssmprof_kernels import launch
from ssmprof_kernels.ssd import plan as ssd_plan

#: As `ssd.plan.DEFAULT`: chunk of `Q` rows, tiles and launch shape of the walk and of the summaries
#: (`sum_...`), then the time model, whose choice of segments was the best of those measured on an
#: H200 (64 heads, 16,384 tokens, P 64, N 128, bf16). Chunks of 64 rows took 0.77 ms there instead
#: of 0.82, but spill.
DEFAULT: dict[str, Any] = {
    "Q": 32,
    "BP": 64,
    "num_warps": 4,
    "num_stages": 1,
    "sum_warps": 4,
    "sum_stages": 1,
    "resident": 2,
    "sum_resident": 3,
    "alone_us": 3.0,
    "busy_us": 1.6,
    "sum_alone_us": 1.5,
    "sum_busy_us": 0.8,
    "wave_us": 5.0,
    "launch_us": 1.5,
}
#: Rows of several ranks need matrices of ranks beside them: the largest tiles that spill nowhere.
RANKS: dict[str, Any] = {**DEFAULT, "Q": 16, "BP": 32}
#: Without Hopper's matrix instructions every operand passes through registers.
PORTABLE: dict[str, Any] = {**DEFAULT, "BP": 32}
#: fp32 tiles are twice as large.
FP32: dict[str, Any] = {**PORTABLE, "BP": 16, "num_warps": 8}
#: fp16 is multiplied as tf32.
FP16: dict[str, Any] = {**PORTABLE}


def choose(rows: int, ranks: int, width: int, states: int, like: torch.Tensor) -> launch.Choice:
    """Meta-parameters for `rows` rows of P = `width`, N = `states`, on the device of `like`."""
    name = f"{str(like.dtype).removeprefix('torch.')},R{ranks}"
    bucket = f"P{ssd_plan.tile(width)},N{ssd_plan.tile(states)},{launch.length_bucket(rows)}"
    bucket = f"{name},{bucket}"
    sm = launch.facts(like.device).sm
    default = DEFAULT if sm in (0, 90) else PORTABLE
    if ranks > 1:
        default = RANKS
    if like.dtype != torch.bfloat16:
        default = FP32 if like.dtype == torch.float32 else FP16
    return launch.pick("mamba3_scan", bucket, like.device, default)
