"""How a grouped RMS norm is launched: rows of a program and warps.

Promises: pure functions of shapes, strides and options; nothing here launches.
"""

from __future__ import annotations

import torch
import triton

from ssmprof_kernels import launch
from ssmprof_kernels.launch import replay
from ssmprof_kernels.norm.kernel import Form, Rows, ssmprof_norm_gated_rms

#: Elements a program holds at least; rows are packed until a program has them. Warps by tile size.
DEFAULT = {"ELEMENTS": 2048, "PER_WARP": 1024}


def lookup(size: int, device: torch.device) -> launch.Lookup:
    """Where the blocks for groups of `size` channels are looked up."""
    return "gated_rmsnorm", f"{_block(size)}", device, DEFAULT


def _block(size: int) -> int:
    return int(triton.next_power_of_2(size))


def record(
    tensors: tuple[torch.Tensor | None, ...],
    meta: dict[str, int],
    size: int,
    eps: float,
    *,
    before: bool,
    mean: bool,
    sigmoid: bool,
) -> replay.Recording:
    """The launch for x, z, weight, bias, y; x, z and y as (outer, inner, D)."""
    x, z, weight, bias, y = tensors
    assert x is not None
    assert weight is not None
    groups = x.shape[2] // size
    n_rows = x.shape[0] * x.shape[1] * groups
    block = _block(size)
    rows = max(1, meta["ELEMENTS"] // block)
    recording = replay.Recording(len(tensors))
    recording.add(
        ssmprof_norm_gated_rms,
        -(-n_rows // rows),
        replay.launch_options(min(16, max(1, rows * block // meta["PER_WARP"]))),
        x_ptr=replay.Arg(0), z_ptr=replay.Arg(1), w_ptr=replay.Arg(2),
        bias_ptr=replay.Arg(3), y_ptr=replay.Arg(4),
        n_rows=n_rows, inner=x.shape[1], size=size, groups=groups, eps=eps,
        x_steps=replay.strides(Rows, x), z_steps=replay.strides(Rows, x if z is None else z),
        y_steps=replay.strides(Rows, y), w_step=weight.stride(0),
        bias_step=0 if bias is None else bias.stride(0),
        FORM=Form(z is not None, before, bias is not None, mean, sigmoid),
        ROWS=rows, BLOCK=block,
    )  # fmt: skip
    return recording
