"""Who runs the selective scan: our kernel, the CUDA kernel of mamba_ssm, plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ssmprof.mixers.finding import Ours, Package, Plain
from ssmprof.mixers.ops import Candidates
from ssmprof.mixers.state_update.ops import with_state


def _mamba_ssm(
    call: Callable[..., Any],
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    initial_state: Tensor | None = None,
    D: Tensor | None = None,
    dt_softplus: bool = False,
) -> Any:
    """It reads channel-first: where it is chosen, it is chosen including these copies."""
    if initial_state is not None:
        raise NotImplementedError("mamba_ssm's selective scan takes no initial state")
    u, dt, B, C = (t.transpose(1, 2).contiguous() for t in (u, dt, B, C))
    out = call(
        u,
        dt,
        A,
        B,
        C,
        D=D,
        z=None if z is None else z.transpose(1, 2).contiguous(),
        delta_bias=dt_bias,
        delta_softplus=dt_softplus,
        return_last_state=return_final_state is not False,
    )
    if return_final_state is False:
        return out.transpose(1, 2)
    y, state = out
    return with_state((y.transpose(1, 2), state), return_final_state)


OPS = {
    "selective_scan": Candidates(
        "scan",
        {
            "ssmprof": Ours("selective_scan.op", "selective_scan"),
            "mamba_ssm": Package(
                "mamba_ssm.ops.selective_scan_interface", "selective_scan_fn", _mamba_ssm
            ),
            "reference": Plain("selective_scan.reference", "selective_scan"),
        },
        last=frozenset({"reference"}),
    )
}
