"""Who runs the delta rules: fla, plain torch; the gates are part of the op, as fla has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ssmprof.mixers.finding import Package, Plain
from ssmprof.mixers.ops import Candidates
from ssmprof.mixers.state_update.ops import with_state


def _options(negative: bool) -> dict[str, Any]:
    """Vectors of length one, and step sizes made of their logits."""
    return {
        "use_qk_l2norm_in_kernel": True,
        "use_beta_sigmoid_in_kernel": True,
        "allow_neg_eigval": negative,
    }


def _ungated(b: Tensor, negative: bool) -> dict[str, Any]:
    """fla's delta rule has no gates inside: making them is part of its time."""
    return {"beta": b.sigmoid() * 2.0 if negative else b.sigmoid(), "use_qk_l2norm_in_kernel": True}


def _gated(a: Tensor, b: Tensor, A_log: Tensor, dt_bias: Tensor, negative: bool) -> dict[str, Any]:
    return {
        "g": a,
        "beta": b,
        "use_gate_in_kernel": True,
        "A_log": A_log,
        "dt_bias": dt_bias.flatten(),
        **_options(negative),
    }


def _grouped(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A query and a key for each head of values."""
    per_key = v.shape[2] // q.shape[2]
    if per_key == 1:
        return q, k, v
    return q.repeat_interleave(per_key, dim=2), k.repeat_interleave(per_key, dim=2), v


def _prompt(
    call: Callable[..., Any],
    qkv: tuple[Tensor, ...],
    options: dict[str, Any],
    initial_state: Tensor | None,
    wanted: Any,
) -> Any:
    state = None if initial_state is None else initial_state.float()
    found = call(*qkv, initial_state=state, output_final_state=wanted is not False, **options)
    return found[0] if wanted is False else with_state(found, wanted)


def _delta(
    call: Callable[..., Any],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    b: Tensor,
    *,
    negative: bool,
    initial_state: Tensor | None = None,
    return_final_state: Any = False,
) -> Any:
    options = _ungated(b, negative)
    return _prompt(call, _grouped(q, k, v), options, initial_state, return_final_state)


def _decayed(
    call: Callable[..., Any],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    A_log: Tensor,
    dt_bias: Tensor,
    *,
    negative: bool,
    initial_state: Tensor | None = None,
    return_final_state: Any = False,
) -> Any:
    options = _gated(a, b, A_log, dt_bias, negative)
    return _prompt(call, (q, k, v), options, initial_state, return_final_state)


def _one(
    call: Callable[..., Any], state: Tensor, qkv: tuple[Tensor, ...], options: dict[str, Any]
) -> Tensor:
    """One token as a sequence; fla returns a new state, which is copied to where ours lies."""
    y, new = call(*qkv, initial_state=state.float(), output_final_state=True, **options)
    state.copy_(new)
    return y.squeeze(1)


def _sequence(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.unsqueeze(1) for tensor in tensors)


def _delta_step(
    call: Callable[..., Any],
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    b: Tensor,
    *,
    negative: bool,
) -> Tensor:
    q, k, v, b = _sequence(q, k, v, b)
    return _one(call, state, _grouped(q, k, v), _ungated(b, negative))


def _decayed_step(
    call: Callable[..., Any],
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    A_log: Tensor,
    dt_bias: Tensor,
    *,
    negative: bool,
) -> Tensor:
    q, k, v, a, b = _sequence(q, k, v, a, b)
    return _one(call, state, (q, k, v), _gated(a, b, A_log, dt_bias, negative))


def _candidates(fla: Package, reference: str, *, mutates: int | None = None) -> Candidates:
    return Candidates(
        {"fla": fla, "reference": Plain("delta", reference)},
        last=frozenset({"reference"}),
        mutates=mutates,
    )


OPS = {
    "delta_rule": _candidates(
        Package("fla.ops.delta_rule", "chunk_delta_rule", _delta), "delta_rule"
    ),
    "delta_step": _candidates(
        Package("fla.ops.delta_rule", "fused_recurrent_delta_rule", _delta_step),
        "delta_step",
        mutates=0,
    ),
    "gated_delta_rule": _candidates(
        Package("fla.ops.gated_delta_rule", "chunk_gated_delta_rule", _decayed),
        "gated_delta_rule",
    ),
    "gated_delta_step": _candidates(
        Package("fla.ops.gated_delta_rule", "fused_recurrent_gated_delta_rule", _decayed_step),
        "gated_delta_step",
        mutates=0,
    ),
    "kda": _candidates(Package("fla.ops.kda", "chunk_kda", _decayed), "gated_delta_rule"),
    "kda_step": _candidates(
        Package("fla.ops.kda", "fused_recurrent_kda", _decayed_step),
        "gated_delta_step",
        mutates=0,
    ),
}
