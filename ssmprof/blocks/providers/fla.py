"""flash-linear-attention, where it is installed: Mamba-2's scan as gated linear attention.

`chunk_simple_gla` has no bias, softplus, skip or gate, and no groups; the adapter adds them, and
what they cost is part of its time.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def find(op: str, name: str, device: torch.device) -> Callable[..., Any] | None:
    """fla's kernel for `op`, None on a CPU or where it is not installed.

    It is imported at its first call, since that takes seconds and another provider may be decided.
    """
    if op != "ssd_scan" or device.type != "cuda" or find_spec("fla") is None:
        return None
    return _ssd_scan


def _ssd_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
) -> Any:
    """q = C, k = B, v = delta x, log gate = delta A, scale 1 (arXiv:2405.21060, section 3)."""
    call = import_module("fla.ops.simple_gla").chunk_simple_gla
    delta = dt.float() if dt_bias is None else dt.float() + dt_bias
    if dt_softplus:
        delta = F.softplus(delta)
    per_group = x.shape[2] // B.shape[2]
    y, state = call(
        C.repeat_interleave(per_group, dim=2),
        B.repeat_interleave(per_group, dim=2),
        (x * delta[..., None]).to(x.dtype),
        g=delta * A,
        scale=1.0,
        initial_state=None if initial_state is None else initial_state.transpose(-1, -2),
        output_final_state=return_final_state is not False,
    )
    if D is not None:
        y = y.addcmul(x, D.view(-1, 1).to(x.dtype))
    if z is not None:
        y = y * F.silu(z)
    if return_final_state is False:
        return y
    wanted = torch.float32 if return_final_state is True else return_final_state
    return y, state.transpose(-1, -2).to(wanted)
