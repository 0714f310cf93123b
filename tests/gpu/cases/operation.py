"""An operation with its arguments, the three ways to compute it, and what draws its inputs.

An operation's results are a dict of named tensors, states included.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from ssmprof_kernels import OPS
from ssmprof_kernels.reference.mamba3 import Weights

IN_PLACE = {
    "selective_state_update": "state",
    "causal_conv1d_update": "conv_state",
    "mamba3_step": "state",
    "token_shift": "last",
    "relu2": "hidden",
    **{
        f"{op}_step": "state"
        for op in ("rwkv7", "gla", "retention", "lightning", "gated_delta", "kda")
    },
}
LINEAR = ("gla", "retention", "lightning")
DELTA = ("gated_delta", "kda")
WITH_STATE = ("ssd_scan", "selective_scan", "causal_conv1d", "rwkv7", *LINEAR, *DELTA)
STEPS = tuple(f"{op}_step" for op in ("rwkv7", *LINEAR, *DELTA))

#: Operations of several results, which have no state.
SEVERAL = {"latent_rotary": ("q", "row"), "rwkv7_keys": ("w", "k", "v", "kk", "a")}

#: Arguments with an axis of tokens.
BY_TOKEN = (*("x", "u", "dt", "B", "C", "z"), *("q", "k", "v", "a", "r", "w", "kk"), "g", "beta")


@dataclass
class Case:
    """An operation and its arguments by name."""

    op: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def kernel(self, **changes: Any) -> dict[str, torch.Tensor]:
        """What the Triton kernel computes."""
        return self._run(OPS[self.op].kernel, self.arguments | changes)

    def plain(self, **changes: Any) -> dict[str, torch.Tensor]:
        """What the plain torch form computes in fp32."""
        return self._run(OPS[self.op].plain, self.arguments | changes)

    def oracle(self) -> dict[str, torch.Tensor]:
        """What the token-by-token form computes in fp64."""
        wide = {k: _double(v) for k, v in self.arguments.items()}
        if self.op in (*WITH_STATE, "mamba3_scan") and self.op != "causal_conv1d":
            y, state = OPS[self.op].sequential(**wide)
            return {"y": y, "final_state": state}
        if self.op == "ring_state_update":
            return {"y": OPS[self.op].sequential(**wide)[0]}
        if self.op in SEVERAL:
            return dict(zip(SEVERAL[self.op], OPS[self.op].sequential(**wide), strict=True))
        if self.op in ("selective_state_update", "mamba3_step", "token_shift", *STEPS):
            y, state = OPS[self.op].sequential(**wide)
            return {"y": y, "state": state}
        return self._run(OPS[self.op].sequential, wide)

    def _run(self, function: Any, arguments: dict[str, Any]) -> dict[str, torch.Tensor]:
        if self.op in IN_PLACE:
            name = IN_PLACE[self.op]
            state = arguments[name].clone()
            y = function(**(arguments | {name: state}))
            return {"y": y, "state": state}
        if self.op in SEVERAL:
            own = {n: _alike(v) for n, v in arguments.items() if torch.is_tensor(v)}
            return dict(zip(SEVERAL[self.op], function(**(arguments | own)), strict=True))
        if self.op == "ring_state_update":
            # The state lags behind: what a token leaves is seen by its output alone.
            own = {name: _copied(arguments[name]) for name in ("state", "ring")}
            return {"y": function(**(arguments | own))}
        if self.op in (*WITH_STATE, "mamba3_scan"):
            y, final = function(**arguments, return_final_state=True)
            return {"y": y, "final_state": final}
        return {"y": function(**arguments)}


def _alike(tensor: torch.Tensor) -> torch.Tensor:
    """A copy with the same strides."""
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
    ).copy_(tensor)


def _copied(value: Any) -> Any:
    return value.clone() if torch.is_tensor(value) else type(value)(*map(_copied, value))


def _double(value: Any) -> Any:
    if isinstance(value, Weights):
        return Weights(*map(_double, value))
    return value.double() if torch.is_tensor(value) and value.is_floating_point() else value


class Random:
    def __init__(self, dtype: torch.dtype, seed: int) -> None:
        self.generator = torch.Generator("cuda").manual_seed(seed)
        self.dtype = dtype

    def __call__(self, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        values = torch.randn(shape, generator=self.generator, device="cuda")
        return values.to(dtype or self.dtype)

    def wide(self, *shape: int) -> torch.Tensor:
        return self(*shape, dtype=torch.float32)


def ids(batch: int, length: int) -> torch.Tensor:
    at = torch.arange(length, device="cuda", dtype=torch.int32)
    return (at // 37).expand(batch, length).contiguous()
