"""Who runs one step of a selective state, overwritten in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ssmprof.mixers.finding import Ours, Package, Plain
from ssmprof.mixers.ops import Candidates


def with_state(out: Any, wanted: bool | torch.dtype) -> Any:
    """The final state in the dtype asked for, float32 where only asked for."""
    if wanted is False:
        return out
    y, state = out
    return y, state.to(torch.float32 if wanted is True else wanted)


def _mamba_ssm(
    call: Callable[..., Any], state: Tensor, *args: Tensor, overlap: bool = False, **options: Any
) -> Tensor:
    del overlap  # it always waits for the kernel before
    return call(state, *args, **options)


OPS = {
    "selective_state_update": Candidates(
        {
            "ssmprof": Ours("state_update.op", "selective_state_update"),
            "mamba_ssm": Package(
                "mamba_ssm.ops.triton.selective_state_update", "selective_state_update", _mamba_ssm
            ),
            "reference": Plain("state_update.reference", "selective_state_update"),
        },
        last=frozenset({"reference"}),
        mutates=0,
    )
}
