"""Who runs the delta rules: our kernels, fla, plain torch; gates are part of the op, as in fla."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from ssmprof.mixers.finding import Ours, Package
from ssmprof.mixers.fla import candidates, grouped, prompt, sequence, step


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
    return prompt(call, (*grouped(v.shape[2], q, k), v), options, initial_state, return_final_state)


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
    return prompt(call, (q, k, v), options, initial_state, return_final_state)


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
    q, k, v, b = sequence(q, k, v, b)
    return step(call, state, (*grouped(v.shape[2], q, k), v), _ungated(b, negative))


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
    q, k, v, a, b = sequence(q, k, v, a, b)
    return step(call, state, (q, k, v), _gated(a, b, A_log, dt_bias, negative))


def _ours_ungated(
    call: Callable[..., Any],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    b: Tensor,
    **options: Any,
) -> Any:
    return call(q, k, v, None, b, qk_l2norm=True, beta_sigmoid=True, **options)


def _ours_ungated_step(
    call: Callable[..., Any], state: Tensor, *args: Tensor, **options: Any
) -> Tensor:
    return _ours_ungated(partial(call, state), *args, **options)


def _ours(
    call: Callable[..., Any],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    A_log: Tensor,
    dt_bias: Tensor,
    **options: Any,
) -> Any:
    gate = {"A_log": A_log, "dt_bias": dt_bias}
    return call(q, k, v, a, b, **gate, qk_l2norm=True, beta_sigmoid=True, **options)


def _ours_step(call: Callable[..., Any], state: Tensor, *args: Tensor, **options: Any) -> Tensor:
    return _ours(partial(call, state), *args, **options)


OPS = {
    "delta_rule": candidates(
        Package("fla.ops.delta_rule", "chunk_delta_rule", _delta),
        "delta",
        "delta_rule",
        ours=Ours("gated_delta", "gated_delta", _ours_ungated),
    ),
    "delta_step": candidates(
        Package("fla.ops.delta_rule", "fused_recurrent_delta_rule", _delta_step),
        "delta",
        "delta_step",
        mutates=0,
        ours=Ours("gated_delta", "gated_delta_step", _ours_ungated_step),
    ),
    "gated_delta_rule": candidates(
        Package("fla.ops.gated_delta_rule", "chunk_gated_delta_rule", _decayed),
        "delta",
        "gated_delta_rule",
        ours=Ours("gated_delta", "gated_delta", _ours),
    ),
    "gated_delta_step": candidates(
        Package("fla.ops.gated_delta_rule", "fused_recurrent_gated_delta_rule", _decayed_step),
        "delta",
        "gated_delta_step",
        mutates=0,
        ours=Ours("gated_delta", "gated_delta_step", _ours_step),
    ),
    "kda": candidates(
        Package("fla.ops.kda", "chunk_kda", _decayed),
        "delta",
        "gated_delta_rule",
        ours=Ours("gated_delta", "kda", _ours),
    ),
    "kda_step": candidates(
        Package("fla.ops.kda", "fused_recurrent_kda", _decayed_step),
        "delta",
        "gated_delta_step",
        mutates=0,
        ours=Ours("gated_delta", "kda_step", _ours_step),
    ),
}
