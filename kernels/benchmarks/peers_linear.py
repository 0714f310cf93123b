"""fla's linear attention and RWKV-7, called as its own layers call them.

Promises: those of `peers`. What fla needs and we do not is part of its time: gates from logits, a
new state where ours is overwritten is not copied back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from cases_linear import LOWEST

Call = Callable[[], Any]

#: Operation -> module and function of fla.
FUNCTIONS = {
    "gla": ("fla.ops.gla", "chunk_gla"),
    "gla_step": ("fla.ops.gla", "fused_recurrent_gla"),
    **dict.fromkeys(("retention", "lightning"), ("fla.ops.simple_gla", "chunk_simple_gla")),
    **dict.fromkeys(
        ("retention_step", "lightning_step"), ("fla.ops.simple_gla", "fused_recurrent_simple_gla")
    ),
    "rwkv7": ("fla.ops.rwkv7", "chunk_rwkv7"),
    "rwkv7_step": ("fla.ops.rwkv7", "fused_mul_recurrent_rwkv7"),
}


def calls(op: str, function: Callable[..., Any], i: dict[str, Any]) -> list[Call]:
    """fla's calls on the inputs of a case: one, or one per state set."""
    if op == "rwkv7":
        removed, added = -i["kk"], i["kk"] * i["a"]
        options = {"scale": 1.0, "safe_gate": True, "lower_bound": LOWEST, "chunk_size": 64}
        tokens = (i["r"], i["w"], i["k"], i["v"], removed, added)
        return [lambda: function(*tokens, **options)[0]]
    if not op.endswith("_step"):
        q, k, v, scale = i["q"], i["k"], i["v"], i["scale"]
        if op == "gla":
            return [lambda: function(q, k, v, F.logsigmoid(i["a"]) / 16.0, scale=scale)[0]]
        return [lambda: function(q, k, v, g_gamma=i["decay"], scale=scale)[0]]
    given = {n: x[:, None] for n, x in i.items() if torch.is_tensor(x) and n != "decay"}

    def one(state: torch.Tensor) -> Call:
        options = {"initial_state": state, "output_final_state": True}
        if op == "rwkv7_step":
            rows = [given[n] for n in ("r", "w", "k", "v", "kk", "a")]
            return lambda: function(*rows, scale=1.0, **options)[0][:, 0]
        rows = [given[n] for n in "qkv"]
        options["scale"] = i["scale"]
        if op == "gla_step":
            return lambda: function(*rows, gk=F.logsigmoid(given["a"]) / 16.0, **options)[0][:, 0]
        return lambda: function(*rows, g_gamma=i["decay"], **options)[0][:, 0]

    return [one(state) for state in i["states"]]
