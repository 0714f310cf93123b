"""The cells and the peer of the delta rules: gated delta and Kimi delta attention, and their steps.

Promises: as `cases` and `peers`. Gates, lengths of queries and keys and step sizes are part of the
work on both sides. Bytes are those of queries, keys, values, gates and outputs, and of the state
where there is a step; FLOPs those of the chunked form with chunks of 64 (`chunk`), the inverse of a
unit lower triangle counted as a third of its cube.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from cases import Call, Case, bf16, decay_logs, f32, sets_of, step_bias
from exact import exact
from peers import Missing, function
from ssmprof_kernels import OPS

CHUNK = 64


def _inputs(op: str, model: dict[str, Any], *lead: int) -> dict[str, Any]:
    H, Hk, K, V = (model[k] for k in ("H", "Hk", "K", "V"))
    per_head = (H, K) if op.startswith("kda") else (H,)
    return {
        "q": bf16(*lead, Hk, K),
        "k": bf16(*lead, Hk, K),
        "v": bf16(*lead, H, V),
        "g": bf16(*lead, *per_head),
        "beta": bf16(*lead, H),
        "A_log": decay_logs(H),
        "dt_bias": step_bias(*per_head),
    }


def _options(inputs: dict[str, Any]) -> dict[str, Any]:
    gate = {name: inputs[name] for name in ("A_log", "dt_bias")}
    return gate | {"qk_l2norm": True, "beta_sigmoid": True}


def _arguments(inputs: dict[str, Any]) -> list[torch.Tensor]:
    return [inputs[name] for name in ("q", "k", "v", "g", "beta")]


def _gates(op: str, model: dict[str, Any]) -> int:
    """Elements of decays and step sizes of a token."""
    return model["H"] * (1 + (model["K"] if op.startswith("kda") else 1))


def prompt(op: str, model: dict[str, Any], batch: int, length: int) -> Case:
    """A prompt of `op`, "gated_delta" or "kda"."""
    H, Hk, K, V = (model[k] for k in ("H", "Hk", "K", "V"))
    inputs = _inputs(op, model, batch, length)
    options, given = _options(inputs), _arguments(inputs)
    tokens = batch * length
    own = 2 * CHUNK * (2 * K + 2 * V) + 6 * K * V + 2 * CHUNK**2 / 3
    return Case(
        op,
        model["name"],
        length,
        batch,
        H * V,
        inputs,
        [lambda: OPS[op].kernel(*given, **options)],
        lambda: exact(OPS[op].plain, (batch, length), *given, **options),
        tokens * 2 * (2 * Hk * K + 2 * H * V + _gates(op, model)),
        tokens * H * own,
        tokens * _gates(op, model),
    )


def step(op: str, model: dict[str, Any], batch: int, length: int) -> Case:
    """One token of `op`, "gated_delta_step" or "kda_step", on fp32 states."""
    H, Hk, K, V = (model[k] for k in ("H", "Hk", "K", "V"))
    inputs = _inputs(op, model, batch)
    options, given = _options(inputs), _arguments(inputs)
    nbytes = 4 * batch * H * K * V
    states = [f32(batch, H, K, V) for _ in range(min(400, sets_of(nbytes)))]

    def call(state: torch.Tensor, overlap: bool) -> Call:
        return lambda: OPS[op].kernel(state, *given, **options, overlap=overlap)

    return Case(
        op,
        model["name"],
        length,
        batch,
        H * V,
        {"states": states} | inputs,
        [call(s, False) for s in states],
        lambda: exact(OPS[op].plain, None, states[0], *given, **options),
        2 * nbytes + 2 * batch * (2 * Hk * K + 2 * H * V + _gates(op, model)),
        batch * H * 7 * K * V,
        batch * _gates(op, model),
        rotated=True,
        others={"ssmprof-early": [call(s, True) for s in states]},
    )


#: Operation -> module and function of fla.
FLA = {
    "gated_delta": ("fla.ops.gated_delta_rule", "chunk_gated_delta_rule"),
    "gated_delta_step": ("fla.ops.gated_delta_rule", "fused_recurrent_gated_delta_rule"),
    "kda": ("fla.ops.kda", "chunk_kda"),
    "kda_step": ("fla.ops.kda", "fused_recurrent_kda"),
}


def fla(op: str, i: dict[str, Any]) -> dict[str, list[Call] | Missing]:
    """fla on the same inputs. Its step returns a new state, which is not copied back here."""
    call: Callable[..., Any] | Missing = function(*FLA[op])
    if isinstance(call, Missing):
        return {"fla": call}
    options = {
        "use_gate_in_kernel": True,
        "use_qk_l2norm_in_kernel": True,
        "use_beta_sigmoid_in_kernel": True,
        "A_log": i["A_log"],
        "dt_bias": i["dt_bias"].flatten(),
    }
    rule = call
    if not op.endswith("step"):
        q, k, v, g, beta = _arguments(i)
        return {"fla": [lambda: rule(q, k, v, g=g, beta=beta, **options)[0]]}
    q, k, v, g, beta = (x.unsqueeze(1) for x in _arguments(i))

    def one(state: torch.Tensor) -> Call:
        return lambda: rule(
            q, k, v, g=g, beta=beta, initial_state=state, output_final_state=True, **options
        )[0].squeeze(1)

    return {"fla": [one(state) for state in i["states"]]}
