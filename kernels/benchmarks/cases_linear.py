"""The benchmark's cells of linear attention and RWKV-7: inputs, our call, the least work there is.

Promises: those of `cases`, for `gla`, `retention`, `lightning`, `rwkv7` and their steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import timing
import torch
from exact import exact
from ssmprof_kernels import OPS

Call = Callable[[], Any]

#: The lowest log decay of RWKV-7: -exp(-1/2) times a sigmoid.
LOWEST = -0.6065306597126334
#: Tokens of a chunk, in the least number of FLOPs.
CHUNK = 64


def bf16(*shape: int) -> torch.Tensor:
    return torch.randn(shape, device="cuda", dtype=torch.bfloat16)


def rwkv7_inputs(*shape: int) -> dict[str, torch.Tensor]:
    """r, w, k, v, kk, a as the model makes them: kk of length one, w and a by a sigmoid."""
    found = {name: bf16(*shape) for name in "rkv"}
    kk = torch.nn.functional.normalize(bf16(*shape).float(), dim=-1).to(found["r"].dtype)
    return {**found, "w": bf16(*shape).sigmoid() * LOWEST, "kk": kk, "a": bf16(*shape).sigmoid()}


def decay_of(op: str, heads: int) -> torch.Tensor:
    """Log decays of RetNet, and of the first layer of a model with lightning attention."""
    at = torch.arange(heads, dtype=torch.float32, device="cuda")
    if op.startswith("retention"):
        return torch.log1p(-torch.exp2(-5.0 - at))
    return -torch.exp2(-8.0 / heads * (at + 1.0))


def linear_inputs(op: str, H: int, K: int, V: int, *rows: int) -> dict[str, Any]:
    """q, k, v and the gates or decays; `rows` is (B, L), or (B) of a step."""
    found: dict[str, Any] = {"q": bf16(*rows, H, K), "k": bf16(*rows, H, K), "v": bf16(*rows, H, V)}
    found |= {"a": bf16(*rows, H, K)} if op.startswith("gla") else {"decay": decay_of(op, H)}
    return found | {"scale": K**-0.5}


def _sets(state_bytes: int) -> int:
    return min(400, max(2, -(-2 * timing.l2_bytes() // state_bytes) + 1))


def prefill(op: str, model: dict[str, Any], batch: int, length: int) -> dict[str, Any]:
    """The fields of a case of a scan."""
    H, K, V = (model[k] for k in "HKV")
    if op == "rwkv7":
        inputs: dict[str, Any] = rwkv7_inputs(batch, length, H, K)
        # Four causal products, a triangle inverted, and products of its size and of the state's.
        flops = 2 * H * (4 * CHUNK * K + CHUNK**2 / 3 + 5 * CHUNK * K + 4 * K * V)
        exps, moved = 2 * H * K, 7 * H * K
    else:
        inputs = linear_inputs(op, H, K, V, batch, length)
        flops = H * (4 * K * V + 2 * CHUNK * (K + V))
        exps = 3 * H * K if op == "gla" else H
        moved = H * (2 * K + 2 * V + (K if op == "gla" else 0))
    tokens = batch * length
    kernel, plain = OPS[op].kernel, OPS[op].plain
    return {
        "op": op, "shape": model["name"], "length": length, "batch": batch, "width": H * V,
        "inputs": inputs, "calls": [lambda: kernel(**inputs)],
        "exact": lambda: exact(plain, (batch, length), **inputs),
        "moved_bytes": tokens * 2 * moved, "flops": tokens * flops, "exps": tokens * exps,
    }  # fmt: skip


def step(op: str, model: dict[str, Any], batch: int, length: int) -> dict[str, Any]:
    """The fields of a case of a step: fp32 states, as models keep them."""
    H, K, V = (model[k] for k in "HKV")
    inputs = rwkv7_inputs(batch, H, K) if op == "rwkv7_step" else linear_inputs(op, H, K, V, batch)
    elements = batch * H * K * V
    states = [torch.randn(batch, H, K, V, device="cuda") for _ in range(_sets(4 * elements))]
    kernel, plain = OPS[op].kernel, OPS[op].plain
    return {
        "op": op, "shape": model["name"], "length": length, "batch": batch, "width": H * V,
        "inputs": {"states": states, **inputs},
        "calls": [functools.partial(kernel, s, **inputs) for s in states],
        "exact": lambda: exact(plain, None, states[0], **inputs),
        "moved_bytes": 2 * 4 * elements + 2 * batch * H * (2 * K + 2 * V),
        "flops": elements * (10 if op == "rwkv7_step" else 5), "exps": batch * H * K,
        "rotated": True,
    }  # fmt: skip


FIELDS: dict[str, Callable[[dict[str, Any], int, int], dict[str, Any]]] = {
    **{op: functools.partial(prefill, op) for op in ("gla", "retention", "lightning", "rwkv7")},
    **{
        op: functools.partial(step, op)
        for op in ("gla_step", "retention_step", "lightning_step", "rwkv7_step")
    },
}
