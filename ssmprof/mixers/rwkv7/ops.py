"""Who runs RWKV-7's rule and what stands around it: our kernels, fla, plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ssmprof.mixers.finding import Ours, Package, Plain
from ssmprof.mixers.fla import candidates, prompt, sequence, step
from ssmprof.mixers.ops import Candidates
from ssmprof.mixers.rwkv7.shape import LOWEST


def _chunks(
    call: Callable[..., Any],
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    kk: Tensor,
    a: Tensor,
    *,
    initial_state: Tensor | None = None,
    return_final_state: Any = False,
) -> Any:
    """As fla's own layer calls it: the bound of log decays lets it use matrix units."""
    options = {"scale": 1.0, "safe_gate": True, "lower_bound": LOWEST, "chunk_size": 64}
    inputs = (r, w, k, v, -kk, kk * a)
    return prompt(call, inputs, options, initial_state, return_final_state)


def _step(call: Callable[..., Any], state: Tensor, *inputs: Tensor) -> Tensor:
    return step(call, state, sequence(*inputs), {"scale": 1.0})


OPS = {
    "rwkv7": candidates(
        Package("fla.ops.rwkv7", "chunk_rwkv7", _chunks),
        "rwkv7",
        "rwkv7",
        ours=Ours("rwkv7.op", "rwkv7"),
    ),
    "rwkv7_step": candidates(
        Package("fla.ops.rwkv7", "fused_mul_recurrent_rwkv7", _step),
        "rwkv7",
        "rwkv7_step",
        ours=Ours("rwkv7.step", "rwkv7_step"),
        mutates=0,
    ),
    "token_shift": Candidates(
        None,
        {
            "ssmprof": Ours("rwkv7.shift", "token_shift"),
            "torch": Plain("reference.rwkv7_mixing", "token_shift"),
        },
        mutates=2,
    ),
    "rwkv7_keys": Candidates(
        None,
        {
            "ssmprof": Ours("rwkv7.keys", "rwkv7_keys"),
            "torch": Plain("reference.rwkv7_mixing", "rwkv7_keys"),
        },
    ),
    "rwkv7_output": Candidates(
        "norm",
        {
            "ssmprof": Ours("rwkv7.output", "rwkv7_output"),
            "torch": Plain("reference.rwkv7_mixing", "rwkv7_output"),
        },
    ),
}
