"""This repository's Triton kernels."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

# Module of `ssmprof_kernels` and function that serve an op.
KERNELS: dict[str, tuple[str, str]] = {
    "ssd_scan": ("ssd_scan", "ssd_scan"),
    "selective_scan": ("selective_scan", "selective_scan"),
    "selective_state_update": ("state_update", "selective_state_update"),
    "causal_conv1d": ("causal_conv", "causal_conv1d"),
    "causal_conv1d_update": ("causal_conv_update", "causal_conv1d_update"),
    "gated_rmsnorm": ("gated_norm", "gated_rmsnorm"),
    "rms_norm": ("gated_norm", "gated_rmsnorm"),
    "add_rms_norm": ("add_norm", "add_rms_norm"),
    "rotary": ("rotary", "rotary"),
    "swiglu": ("swiglu", "swiglu"),
    "attention_decode": ("attention_decode", "attention_decode"),
}


def find(op: str, name: str, device: torch.device) -> Callable[..., Any] | None:
    """The Triton kernel of `op`; on a CPU only under Triton's interpreter."""
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return None
    module, function = KERNELS[op]
    if find_spec(f"ssmprof_kernels.{module}") is None:
        return None
    kernel = getattr(import_module(f"ssmprof_kernels.{module}"), function)
    return partial(_without_rows, kernel) if op == "attention_decode" else kernel


def _without_rows(
    kernel: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, rows: int
) -> Tensor:
    """The kernel reads the lengths on the device, so that a graph stays valid as they grow."""
    return kernel(q, k, v, lengths)
