"""What `tune` tries for each operation: block sizes and launch shapes beside those of its tables.

Promises: pure data; a candidate names entries of the operation's default and no others.
"""

from __future__ import annotations

import itertools
from typing import Any

Meta = dict[str, Any]


def _grid(**axes: list[int | float | bool | None]) -> list[Meta]:
    return [dict(zip(axes, v, strict=True)) for v in itertools.product(*axes.values())]


_LINEAR = _grid(
    BV=[32, 64, 128], num_warps=[4, 8], num_stages=[1, 2, 3], pair_warps=[4, 8], sum_stages=[2, 3]
)
_STEP = _grid(BLOCK=[8, 16, 32, 64], num_warps=[1, 2, 4])

#: By operation what replaces entries of its blocks; what a candidate does not name stays.
CANDIDATES: dict[str, list[Meta]] = {
    "causal_conv1d": [
        m
        for m in _grid(
            BLOCK_L=[8, 16, 32, 64],
            BLOCK_D=[64, 128, 256, 512],
            U=[4, 8, 16],
            num_warps=[1, 2, 4, 8],
        )
        if m["U"] <= m["BLOCK_L"]
        and 2 <= m["BLOCK_L"] * m["BLOCK_D"] // (32 * m["num_warps"]) <= 64
    ],
    "causal_conv1d_update": _grid(BLOCK_D=[32, 64, 128, 256, 512], num_warps=[1, 2, 4]),
    "gated_rmsnorm": _grid(ELEMENTS=[1024, 2048, 4096, 8192], PER_WARP=[256, 512, 1024, 2048]),
    "attention_decode": _grid(
        BLOCK_N=[32, 64, 128],
        FILL=[1, 2, 3, 4, 6],
        MIN_TILES=[1, 2],
        num_warps=[4, 8],
        num_stages=[2, 3, 4],
    ),
    "mla_decode": _grid(
        BLOCK_M=[16, 64, 128],
        BLOCK_N=[16, 32, 64],
        FILL=[1, 2],
        num_warps=[4, 8],
        num_stages=[1, 2, 3],
    ),
    "moe": _grid(
        BLOCK_M=[16, 64, 128],
        BLOCK_N=[64, 128, 256],
        BLOCK_K=[32, 64, 128],
        num_warps=[4, 8],
        num_stages=[3, 4],
    ),
    "gla": _LINEAR,
    "retention": _LINEAR,
    "lightning": _LINEAR,
    "gla_step": _STEP,
    "retention_step": _STEP,
    "lightning_step": _STEP,
    "rwkv7": _grid(
        C=[32, 64], num_warps=[4, 8], solve_warps=[4, 8], BLOCK=[16, 32, 64], walk_stages=[2, 4]
    ),
    "rwkv7_step": _grid(BLOCK=[8, 16, 32, 64], num_warps=[1, 2, 4]),
    "gated_delta": _grid(
        BV=[32, 64], num_warps=[4, 8], num_stages=[2, 3], pre_warps=[4, 8], pre_part=[64, 256]
    ),
    "kda": _grid(
        channel_warps=[4, 8],
        channel_registers=[None, 128, 168],
        part=[16, 32, 64],
        prefix=[False, True],
    ),
    "mamba3": _grid(Q=[32, 64], BP=[32, 64], num_warps=[4, 8], sum_warps=[4, 8]),
    "mamba3_step": _grid(num_warps=[1, 2, 4, 8]),
}

#: What the table of an operation is called where that is not its own name.
TABLES = {
    "mla_decode": "latent_decode",
    "moe": "grouped_mm",
    "lightning": "retention",
    "lightning_step": "retention_step",
    "mamba3": "mamba3_scan",
}
