"""Who runs the norms: our kernels, torch, the gated norms of mamba_ssm and fla."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssmprof.mixers.finding import Always, Ours, Package, Plain
from ssmprof.mixers.ops import Candidates


def _rms_norm(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def _add_rms_norm(
    x: Tensor, update: Tensor, weight: Tensor, *, scale: float, eps: float, in_place: bool
) -> tuple[Tensor, Tensor]:
    total = x.add_(update, alpha=scale) if in_place else torch.add(x, update, alpha=scale)
    return total, _rms_norm(total, weight, eps=eps)


def _gated_norm(call: Callable[..., Any], x: Tensor, weight: Tensor, **options: Any) -> Tensor:
    return call(x, weight, None, **options)


def _sigmoid_gated(
    call: Callable[..., Any], x: Tensor, weight: Tensor, *, z: Tensor, eps: float
) -> Tensor:
    return call(x, z, weight, None, activation="sigmoid", eps=eps)


def _by_gated_rmsnorm(
    call: Callable[..., Any], x: Tensor, weight: Tensor, **options: Any
) -> Tensor:
    return call(x, weight, norm_before_gate=True, activation="sigmoid", **options)


OPS = {
    "gated_rmsnorm": Candidates(
        "norm",
        {
            "ssmprof": Ours("norm.op", "gated_rmsnorm"),
            "mamba_ssm": Package("mamba_ssm.ops.triton.layernorm_gated", "rmsnorm_fn", _gated_norm),
            "reference": Plain("norm.reference", "gated_rmsnorm"),
        },
        last=frozenset({"reference"}),
    ),
    "sigmoid_gated_rmsnorm": Candidates(
        "norm",
        {
            "fla": Package("fla.modules.fused_norm_gate", "rms_norm_gated", _sigmoid_gated),
            "ssmprof": Ours("norm.op", "gated_rmsnorm", _by_gated_rmsnorm),
            "reference": Plain("norm.reference", "gated_rmsnorm", _by_gated_rmsnorm),
        },
        last=frozenset({"reference"}),
    ),
    "rms_norm": Candidates(
        "norm", {"ssmprof": Ours("norm.op", "gated_rmsnorm"), "torch": Always(_rms_norm)}
    ),
    "add_rms_norm": Candidates(
        "norm",
        {"ssmprof": Ours("add_norm.op", "add_rms_norm"), "torch": Always(_add_rms_norm)},
        mutates=0,
    ),
}
