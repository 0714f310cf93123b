"""Plain torch: always there, the provider of state-space ops on a CPU, a last resort on a GPU.

What torch itself serves in one or a few kernels is offered as `torch`, like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssmprof.blocks.rope import rotary

# Where the plain torch form of an op lies in `ssmprof_kernels.reference`.
MODULES: dict[str, str] = {
    "ssd_scan": "ssd",
    "selective_scan": "selective_scan",
    "selective_state_update": "state_update",
    "causal_conv1d": "conv",
    "causal_conv1d_update": "conv",
    "gated_rmsnorm": "norm",
    "attention_decode": "attention",
}


def find(op: str, name: str, device: torch.device) -> Callable[..., Any] | None:
    """The plain torch form of `op`, None where there is none."""
    if name == "torch":
        return TORCH[op]
    if find_spec(f"ssmprof_kernels.reference.{MODULES[op]}") is None:
        return None
    found = getattr(import_module(f"ssmprof_kernels.reference.{MODULES[op]}"), op)
    return partial(_without_rows, found) if op == "attention_decode" else found


def _rms_norm(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def _without_rows(
    op: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, rows: int
) -> Tensor:
    return op(q, k, v, lengths)


def _add_rms_norm(
    x: Tensor, update: Tensor, weight: Tensor, *, scale: float, eps: float, in_place: bool
) -> tuple[Tensor, Tensor]:
    total = x.add_(update, alpha=scale) if in_place else torch.add(x, update, alpha=scale)
    return total, _rms_norm(total, weight, eps=eps)


def _swiglu(hidden: Tensor) -> Tensor:
    gate, value = hidden.chunk(2, dim=-1)
    return F.silu(gate).mul_(value)


# Ops that plain torch serves in a handful of kernels, so that it may be chosen.
TORCH: dict[str, Callable[..., Any]] = {
    "rms_norm": _rms_norm,
    "add_rms_norm": _add_rms_norm,
    "rotary": rotary,
    "swiglu": _swiglu,
}
