"""Who runs linear attention with a decay: fla, plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ssmprof.mixers.finding import Package, Plain
from ssmprof.mixers.ops import Candidates
from ssmprof.mixers.state_update.ops import with_state

# Root that the gates of GLA are taken to (arXiv:2312.06635, section 4.4).
GATE_ROOT = 16.0


def _grouped(q: Tensor, *keys: Tensor) -> list[Tensor]:
    """What is of heads of keys, (B, L, Hk, ...), for each head of queries."""
    per_key = q.shape[2] // keys[0].shape[2]
    return [x if per_key == 1 else x.repeat_interleave(per_key, dim=2) for x in keys]


def _prompt(
    call: Callable[..., Any],
    qkv: list[Tensor],
    options: dict[str, Any],
    initial_state: Tensor | None,
    wanted: Any,
) -> Any:
    state = None if initial_state is None else initial_state.float()
    found = call(*qkv, initial_state=state, output_final_state=wanted is not False, **options)
    return found[0] if wanted is False else with_state(found, wanted)


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
    return _prompt(call, [q, *_grouped(q, k, v)], options, initial_state, return_final_state)


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
    k, v, a = _grouped(q, k, v, a)
    options = {"g": F.logsigmoid(a) / GATE_ROOT, "scale": scale}
    return _prompt(call, [q, k, v], options, initial_state, return_final_state)


def _one(
    call: Callable[..., Any], state: Tensor, qkv: list[Tensor], options: dict[str, Any]
) -> Tensor:
    """One token as a sequence; fla returns a new state, which is copied to where ours lies."""
    y, new = call(*qkv, initial_state=state.float(), output_final_state=True, **options)
    state.copy_(new)
    return y.squeeze(1)


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
    q, k, v = (x.unsqueeze(1) for x in (q, k, v))
    return _one(call, state, [q, *_grouped(q, k, v)], {"g_gamma": decay, "scale": scale})


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
    q, k, v, a = (x.unsqueeze(1) for x in (q, k, v, a))
    k, v, a = _grouped(q, k, v, a)
    return _one(call, state, [q, k, v], {"gk": F.logsigmoid(a) / GATE_ROOT, "scale": scale})


def _candidates(fla: Package, reference: str, *, mutates: int | None = None) -> Candidates:
    return Candidates(
        {"fla": fla, "reference": Plain("linear_attention", reference)},
        last=frozenset({"reference"}),
        mutates=mutates,
    )


OPS = {
    "retention": _candidates(
        Package("fla.ops.simple_gla", "chunk_simple_gla", _retention), "retention"
    ),
    "retention_step": _candidates(
        Package("fla.ops.simple_gla", "fused_recurrent_simple_gla", _retention_step),
        "retention_step",
        mutates=0,
    ),
    "gla": _candidates(Package("fla.ops.gla", "chunk_gla", _gla), "gla"),
    "gla_step": _candidates(
        Package("fla.ops.gla", "fused_recurrent_gla", _gla_step), "gla_step", mutates=0
    ),
}
