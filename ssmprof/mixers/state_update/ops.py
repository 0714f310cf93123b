"""Who runs one step of a selective state, overwritten in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ssmprof.mixers.cache import Pending
from ssmprof.mixers.finding import Ours, Package, Plain
from ssmprof.mixers.ops import Candidates
from ssmprof.mixers.state_update.ring import RING, complete, ring_of


def with_state(out: Any, wanted: bool | torch.dtype) -> Any:
    """The final state in the dtype asked for, float32 where only asked for."""
    if wanted is False:
        return out
    y, state = out
    return y, state.to(torch.float32 if wanted is True else wanted)


def _plain(
    call: Callable[..., Any],
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    *args: Tensor,
    pending: Pending | None = None,
    **options: Any,
) -> Tensor:
    """One that reads and writes the state itself; what another has left pending comes first."""
    if pending is not None:
        complete(pending, state, A)
    return call(state, x, dt, A, *args, **options)


def _ring(
    call: Callable[..., Any],
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    pending: Pending | None = None,
    **options: Any,
) -> Tensor:
    if pending is None:
        raise NotImplementedError("the caller keeps no inputs between its steps")
    return call(state, ring_of(pending, state, x, A, B), x, dt, A, B, C, **options)


def _mamba_ssm(
    call: Callable[..., Any], *args: Tensor, overlap: bool = False, **options: Any
) -> Tensor:
    del overlap  # it always waits for the kernel before
    return _plain(call, *args, **options)


OPS = {
    "selective_state_update": Candidates(
        "scan",
        {
            "ssmprof": Ours("state_update.op", "selective_state_update", _plain),
            RING: Ours("ring_update", "ring_state_update", _ring),
            "mamba_ssm": Package(
                "mamba_ssm.ops.triton.selective_state_update", "selective_state_update", _mamba_ssm
            ),
            "reference": Plain("state_update.reference", "selective_state_update", _plain),
        },
        last=frozenset({"reference"}),
        mutates=0,
    )
}
