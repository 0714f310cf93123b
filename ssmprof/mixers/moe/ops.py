"""Who runs the products of all experts: our kernel, torch's grouped product, or each in turn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ssmprof.mixers.finding import Ours, Plain
from ssmprof.mixers.ops import Candidates

# Compute capability from which torch has the kernel; others would copy `ends` to the host.
CAPABILITY = (8, 0)


def _grouped(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    if rows.dtype != torch.bfloat16:
        raise NotImplementedError("torch's grouped product waits for the device but in bfloat16")
    return torch.ops.aten._grouped_mm(rows, weight.transpose(1, 2), ends)


def _find(device: torch.device) -> Callable[..., Tensor] | None:
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < CAPABILITY:
        return None
    return _grouped


OPS = {
    "grouped_mm": Candidates(
        "moe",
        {
            "ssmprof": Ours("experts", "grouped_mm"),
            "torch": _find,
            "reference": Plain("reference.experts", "grouped_mm"),
        },
        last=frozenset({"reference"}),
    )
}
