"""Who runs linear attention with a decay: our kernels, fla, plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ssmprof.mixers.finding import Ours, Package
from ssmprof.mixers.fla import candidates, grouped, prompt, sequence, step

# Root that the gates of GLA are taken to (arXiv:2312.06635, section 4.4).
GATE_ROOT = 16.0


def _retention(
    call: Callable[..., Any],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    decay: Tensor,
    *,
    scale: float,
    initial_state: Tensor | None = None,
    return_final_state: Any = False,
) -> Any:
    options = {"g_gamma": decay, "scale": scale}
    return prompt(call, [q, *grouped(q.shape[2], k, v)], options, initial_state, return_final_state)


def _gla(
    call: Callable[..., Any],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    *,
    scale: float,
    initial_state: Tensor | None = None,
    return_final_state: Any = False,
) -> Any:
    """fla has no gates inside: making them is part of its time."""
    k, v, a = grouped(q.shape[2], k, v, a)
    options = {"g": F.logsigmoid(a) / GATE_ROOT, "scale": scale}
    return prompt(call, [q, k, v], options, initial_state, return_final_state)


def _retention_step(
    call: Callable[..., Any],
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    decay: Tensor,
    *,
    scale: float,
) -> Tensor:
    q, k, v = sequence(q, k, v)
    return step(call, state, [q, *grouped(q.shape[2], k, v)], {"g_gamma": decay, "scale": scale})


def _gla_step(
    call: Callable[..., Any],
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    *,
    scale: float,
) -> Tensor:
    q, k, v, a = sequence(q, k, v, a)
    k, v, a = grouped(q.shape[2], k, v, a)
    return step(call, state, [q, k, v], {"gk": F.logsigmoid(a) / GATE_ROOT, "scale": scale})


OPS = {
    "retention": candidates(
        Package("fla.ops.simple_gla", "chunk_simple_gla", _retention),
        "linear_attention",
        "retention",
        ours=Ours("linear_attention.op", "retention"),
    ),
    "retention_step": candidates(
        Package("fla.ops.simple_gla", "fused_recurrent_simple_gla", _retention_step),
        "linear_attention",
        "retention_step",
        ours=Ours("linear_attention.step", "retention_step"),
        mutates=0,
    ),
    "gla": candidates(
        Package("fla.ops.gla", "chunk_gla", _gla),
        "linear_attention",
        "gla",
        ours=Ours("linear_attention.op", "gla"),
    ),
    "gla_step": candidates(
        Package("fla.ops.gla", "fused_recurrent_gla", _gla_step),
        "linear_attention",
        "gla_step",
        ours=Ours("linear_attention.step", "gla_step"),
        mutates=0,
    ),
}
