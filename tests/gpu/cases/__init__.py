"""Inputs for the kernel matrix on a GPU, by family, and the three ways to compute each operation.

Promises: `case(op, ...)` is deterministic in its arguments; inputs are rounded to the tested dtype
before any of the three sees them; options change with `variant`, so that a short list of cases
walks through all of them.
"""

from __future__ import annotations

import torch
from gpu.cases import linear, mamba, mixers
from gpu.cases.operation import BY_TOKEN, DELTA, LINEAR, WITH_STATE, Case, Random

__all__ = ["BUILDERS", "DELTA", "WITH_STATE", "Case", "case", "packed", "split"]

BUILDERS = {**mamba.BUILDERS, **mixers.BUILDERS, **linear.BUILDERS}


def case(op: str, dtype: torch.dtype, length: int, variant: int) -> Case:
    """Inputs of `op`; `length` is tokens, or for decode operations chooses the batch."""
    return Case(op, BUILDERS[op](dtype, length, variant))


def packed(op: str, lengths: list[int], dtype: torch.dtype) -> Case:
    """Sequences of those lengths packed into batch 1, with an initial state each."""
    total, n = sum(lengths), len(lengths)
    r = Random(dtype, 5)
    ends = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32, device="cuda")
    found = case(op, dtype, max(total, 1), 2).arguments
    for name in BY_TOKEN:
        if name in found:
            found[name] = found[name][:1]

    def matrix() -> torch.Tensor:
        return r.wide(n, found["v"].shape[2], found["q"].shape[3], found["v"].shape[3])

    state = {
        **dict.fromkeys(DELTA, matrix),
        "ssd_scan": lambda: r.wide(n, *found["x"].shape[2:], found["B"].shape[-1]),
        "selective_scan": lambda: r.wide(n, *found["A"].shape),
        "causal_conv1d": lambda: r(n, found["x"].shape[2], found["weight"].shape[1] - 1),
        "rwkv7": lambda: r.wide(n, *found["r"].shape[2:], found["v"].shape[3]),
        **dict.fromkeys(LINEAR, lambda: r.wide(n, *found["q"].shape[2:], found["v"].shape[3])),
    }[op]()
    return Case(op, found | {"cu_seqlens": ends, "initial_state": state})


def split(whole: Case, first: int) -> tuple[Case, Case]:
    """The first `first` tokens, and the rest without its initial state."""
    by_token = (*BY_TOKEN, "seq_idx")
    a = {k: v[:, :first] if k in by_token else v for k, v in whole.arguments.items()}
    b = {k: v[:, first:] if k in by_token else v for k, v in whole.arguments.items()}
    b.pop("initial_state", None)
    return Case(whole.op, a), Case(whole.op, b)
