"""This repository's Triton kernels."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def find(op: str, name: str, device: torch.device) -> Callable[..., Any] | None:
    """The Triton kernel of `op`; on a CPU only under Triton's interpreter."""
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return None
    import ssmprof_kernels

    if op == "rms_norm":
        gated = getattr(ssmprof_kernels, "gated_rmsnorm", None)
        return None if gated is None else _plain_norm(gated)
    kernel = getattr(ssmprof_kernels, op, None)
    if op == "attention_decode" and kernel is not None:
        return _without_rows(kernel)
    return kernel


def _plain_norm(gated: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def rms_norm(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
        return gated(x, weight, eps=eps)

    return rms_norm


def _without_rows(kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def attention_decode(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, rows: int) -> Tensor:
        return kernel(q, k, v, lengths)

    return attention_decode
