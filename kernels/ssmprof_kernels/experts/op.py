"""`grouped_mm`: the products of all experts at once, rows sorted by expert, in one launch.

Promises: shapes of the grid come from shapes of the arguments; which rows are whose is read on the
device, so that nothing waits for the host and a call can be captured in a CUDA graph; a row's
result depends on nothing but the row and its expert.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from ssmprof_kernels import door, launch, reference
from ssmprof_kernels.experts.kernel import ssmprof_moe_grouped
from ssmprof_kernels.launch import recorded, replay

_INPUTS = ("rows", "weight", "ends")
_MOST_EXPERTS = 4096

#: By rows per expert, rounded up: few rows are a matter of reading the weights once.
DEFAULTS: dict[str, dict[str, Any]] = {
    "16": {"BLOCK_M": 16, "BLOCK_N": 64, "BLOCK_K": 128, "num_warps": 4, "num_stages": 4},
    "64": {"BLOCK_M": 64, "BLOCK_N": 128, "BLOCK_K": 64, "num_warps": 4, "num_stages": 4},
    "more": {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3},
}
#: Devices whose blocks have 99 KiB of shared memory, or whose matrix units read registers.
PORTABLE: dict[str, dict[str, Any]] = {
    "16": {"BLOCK_M": 16, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4, "num_stages": 3},
    "64": {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 3},
    "more": {"BLOCK_M": 64, "BLOCK_N": 128, "BLOCK_K": 32, "num_warps": 4, "num_stages": 3},
}
FP32: dict[str, dict[str, Any]] = {
    "16": {"BLOCK_M": 16, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 2},
    "64": {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 2},
    "more": {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 2},
}

_recordings: recorded.Recordings = {}


def grouped_mm(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """`rows[i] @ weight[expert of i].T` (arXiv:1701.06538, section 2).

    Args:
        rows: (R, K), sorted by expert; fp32, fp16 or bf16; any strides.
        weight: (E, N, K) in the dtype of rows; any strides.
        ends: (E) int32 on the device of rows, ascending: the row behind the last of each expert. A
            row behind them all belongs to nobody and yields 0.

    Returns:
        (R, N) contiguous, in the dtype of rows.

    Raises:
        ValueError: an argument's shape, dtype or device does not fit; names it.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    inputs = (rows, weight, ends)
    door.forward_only(_INPUTS, inputs)
    key = recorded.key_of(inputs)
    if key not in _recordings:
        _check(*inputs)
    if not (rows.is_cuda or door.interpreted()):
        return reference.grouped_mm(rows, weight, ends)
    out = torch.empty((len(rows), weight.shape[1]), dtype=rows.dtype, device=rows.device)
    if not len(rows):
        return out
    size = bucket(len(rows), len(weight))
    sm = launch.facts(rows.device).sm
    defaults = FP32 if rows.dtype == torch.float32 else DEFAULTS if sm in (0, 90) else PORTABLE
    name = f"{str(rows.dtype).removeprefix('torch.')}-{size}"
    meta = launch.pick("grouped_mm", name, rows.device, defaults[size]).meta
    tensors = (*inputs, out)
    recorded.run(_recordings, key, meta, tensors, rows.device, lambda: _record(tensors, meta))
    return out


def bucket(rows: int, experts: int) -> str:
    """Rows per expert: '16', '64' or 'more'."""
    each = -(-rows // experts)
    return "16" if each <= 16 else "64" if each <= 64 else "more"


def _record(tensors: tuple[Tensor, ...], meta: dict[str, Any]) -> replay.Recording:
    rows, weight, _, _ = tensors
    count, inputs = rows.shape
    experts, outputs, _ = weight.shape
    # Each expert's last tile may be ragged, and no tile is empty.
    tiles = min(count, count // meta["BLOCK_M"] + experts + 1)
    recording = replay.Recording(len(tensors))
    pointers = ("rows_ptr", "weight_ptr", "ends_ptr", "out_ptr")
    steps = zip(("rr", "rk", "we", "wn", "wk"), (*rows.stride(), *weight.stride()), strict=True)
    blocks = {n: meta[n] for n in ("BLOCK_M", "BLOCK_N", "BLOCK_K")}
    recording.add(
        ssmprof_moe_grouped,
        tiles * -(-outputs // meta["BLOCK_N"]),
        replay.launch_options(meta["num_warps"], meta["num_stages"]),
        **{name: replay.Arg(i) for i, name in enumerate(pointers)},
        **{f"stride_{name}": step for name, step in steps},
        **blocks, R=count, tiles=tiles, E=experts, N=outputs, K=inputs,
        BLOCK_E=max(2, triton.next_power_of_2(experts)), INTERPRETED=not rows.is_cuda,
    )  # fmt: skip
    return recording


def _check(rows: Tensor, weight: Tensor, ends: Tensor) -> None:
    if rows.ndim != 2:
        raise ValueError(f"rows must have shape (R,K), got {tuple(rows.shape)}")
    if weight.ndim != 3 or weight.shape[2] != rows.shape[1] or min(weight.shape) < 1:
        raise ValueError(
            f"weight must have shape (E,N,K) with K = {rows.shape[1]}, got {tuple(weight.shape)}"
        )
    if len(weight) > _MOST_EXPERTS:
        raise ValueError(f"weight has {len(weight)} experts, expected at most {_MOST_EXPERTS}")
    door.shape("ends", ends, (len(weight),), "(E,)")
    door.dtype("ends", ends, (torch.int32,))
    if weight.dtype != rows.dtype:
        raise ValueError(f"weight must have the dtype of rows, {rows.dtype}, got {weight.dtype}")
    if rows.is_cuda:
        door.dtype("rows", rows, door.FLOATS)
    door.same_device(rows, weight=weight, ends=ends)
