"""Who runs the SSD scan: our kernels, fla as gated linear attention, mamba_ssm, plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssmprof.mixers.finding import Ours, Package, Plain
from ssmprof.mixers.ops import Candidates
from ssmprof.mixers.state_update.ops import with_state

# Chunk mamba_ssm's Mamba-2 module uses.
CHUNK = 256


def _mamba_ssm(
    call: Callable[..., Any],
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    return_final_state: bool | torch.dtype = False,
    initial_state: Tensor | None = None,
    **options: Any,
) -> Any:
    out = call(
        x,
        dt,
        A,
        B,
        C,
        CHUNK,
        initial_states=initial_state,
        return_final_states=return_final_state is not False,
        **options,
    )
    return with_state(out, return_final_state)


def _fla(
    call: Callable[..., Any],
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
    dt_limit: tuple[float, float] | None = None,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
) -> Any:
    """fla has no bias, softplus, skip, gate or groups here; adding them is part of its time.

    q = C, k = B, v = delta x, log gate = delta A, scale 1 (arXiv:2405.21060, section 3).
    """
    delta = dt.float() if dt_bias is None else dt.float() + dt_bias
    if dt_softplus:
        delta = F.softplus(delta)
    if dt_limit is not None:
        delta = delta.clamp(*dt_limit)
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


OPS = {
    "ssd_scan": Candidates(
        "scan",
        {
            "ssmprof": Ours("ssd.op", "ssd_scan"),
            "fla": Package("fla.ops.simple_gla", "chunk_simple_gla", _fla),
            "mamba_ssm": Package(
                "mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined", _mamba_ssm
            ),
            "reference": Plain("ssd.reference", "ssd_scan"),
        },
        last=frozenset({"reference"}),
    )
}
