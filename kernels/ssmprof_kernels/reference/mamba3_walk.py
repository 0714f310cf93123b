"""Mamba-3 token by token from a state, in fp64: the oracle of scan and step with states.

Promises: inputs are left alone. The form of the recurrence that turns the state in every step, as
it is written in arXiv:2603.15569, section 3; `reference.mamba3.mamba3_sequential`, which turns keys
and queries by running sums and shares nothing with it, checks both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssmprof_kernels.reference.mamba3 import Weights, mamba3_step


def mamba3_step_sequential(
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    dt: Tensor,
    trap: Tensor,
    angles: Tensor,
    *,
    weights: Weights,
    z: Tensor | None = None,
    compute_dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """y and the new state, in `compute_dtype`; arguments of `mamba3_step`."""
    new = state.to(compute_dtype, copy=True)
    tokens = [t.to(compute_dtype) for t in (q, k, v, a, dt, trap, angles)]
    gate = None if z is None else z.to(compute_dtype)
    return mamba3_step(new, *tokens, weights=_wide(weights, compute_dtype), z=gate), new


def mamba3_scan_sequential(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    dt: Tensor,
    trap: Tensor,
    angles: Tensor,
    *,
    weights: Weights,
    z: Tensor | None = None,
    initial_state: Tensor | None = None,
    compute_dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """y and the final state, in `compute_dtype`; arguments of `mamba3_scan`."""
    heads, rank, states = weights.q_bias.shape
    batch, length, _, width = v.shape
    tokens = [t.to(compute_dtype) for t in (q, k, v, a, dt, trap, angles)]
    gate = None if z is None else z.to(compute_dtype)
    weights = _wide(weights, compute_dtype)
    if initial_state is None:
        size = heads * (width * states + rank * states + width)
        state = tokens[2].new_zeros(batch, size)
    else:
        state = initial_state.to(compute_dtype, copy=True)
    made = [
        mamba3_step(
            state, *[x[:, t] for x in tokens], weights=weights,
            z=None if gate is None else gate[:, t],
        )
        for t in range(length)
    ]  # fmt: skip
    return torch.stack(made, 1), state


def _wide(weights: Weights, dtype: torch.dtype) -> Weights:
    return Weights(*[None if t is None else t.to(dtype) for t in weights])  # type: ignore[arg-type]
