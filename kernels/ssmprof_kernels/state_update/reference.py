"""One decode step of Mamba-1 or Mamba-2 in plain torch: the oracle, and the provider on a CPU.

Promises: `selective_state_update_sequential` computes row by row in the dtype asked for and leaves
its inputs alone; `selective_state_update` has the signature of the kernel and updates in place.

Step (arXiv:2312.00752, section 3; arXiv:2405.21060, section 2): `h = exp(d A) h + d x B`,
`y = <h, C>`; a step of 0 leaves the state alone, where A is -inf, too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssmprof_kernels.rates import finite_rate


def selective_state_update_sequential(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    state_indices: Tensor | None = None,
    pad_index: int = -1,
    compute_dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """One row after the other; the arguments of `ssmprof_kernels.selective_state_update`.

    Returns y (as x; 0 in skipped rows) and the new state (as state), both in `compute_dtype`.
    """
    shape = x.shape
    new = state.to(compute_dtype, copy=True)
    args: list[Any] = [
        None if t is None else t.to(compute_dtype) for t in (x, dt, A, B, C, D, z, dt_bias)
    ]
    h, x, dt, A, B, C, D, z, bias = _heads_form(new, *args)
    y = torch.zeros_like(x)
    for b in range(x.shape[0]):
        slot = b if state_indices is None else int(state_indices[b])
        if slot < 0 or (state_indices is not None and slot == pad_index):
            continue
        step = dt[b] if bias is None else dt[b] + bias
        if dt_softplus:
            step = torch.where(step > 20.0, step, torch.log1p(torch.exp(step.clamp(max=20.0))))
        h[slot] = (
            torch.exp(step[..., None] * finite_rate(A)) * h[slot] + (step * x[b])[..., None] * B[b]
        )
        y[b] = (h[slot] * C[b]).sum(-1)
        if D is not None:
            y[b] += D * x[b]
        if z is not None:
            y[b] *= torch.nn.functional.silu(z[b])
    return y.reshape(shape), new


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    state_indices: Tensor | None = None,
    pad_index: int = -1,
    out: Tensor | None = None,
    overlap: bool = False,
) -> Tensor:
    """All rows at once, with the signature and the results of the kernel; `overlap` is nothing."""
    del overlap
    y = torch.zeros_like(x) if out is None else out
    compute = torch.promote_types(x.dtype, torch.float32)
    args: list[Any] = [
        None if t is None else t.to(compute) for t in (x, dt, A, B, C, D, z, dt_bias)
    ]
    slots, x, dt, A, B, C, D, z, bias = _heads_form(state, *args)
    rows = torch.arange(x.shape[0], device=x.device)
    live = rows
    if state_indices is not None:
        rows = rows[(state_indices >= 0) & (state_indices != pad_index)]
        live = state_indices[rows].long()
    x = x[rows]
    step = dt[rows] if bias is None else dt[rows] + bias
    if dt_softplus:
        step = torch.nn.functional.softplus(step, threshold=20.0)
    h = torch.exp(step[..., None] * finite_rate(A)) * slots[live] + (step * x)[..., None] * B[rows]
    slots[live] = h.to(state.dtype)
    part = (h * C[rows]).sum(-1)
    if D is not None:
        part = part + D * x
    if z is not None:
        part = part * torch.nn.functional.silu(z[rows])
    y[rows] = part.reshape(len(rows), *y.shape[1:]).to(y.dtype)
    return y


def selective_state_drafts(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    state_indices: Tensor | None = None,
    new_indices: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    accepted: Tensor | None = None,
    pad_index: int = -1,
    out: Tensor | None = None,
) -> Tensor:
    """Sequence by sequence, token by token; the signature and the results of the kernel. The state
    of a sequence is kept in fp32, or fp64 beside inputs of it, between its tokens."""
    y = torch.zeros_like(x) if out is None else out
    new_indices = state_indices if new_indices is None else new_indices
    rows = range(len(x) + 1) if cu_seqlens is None else cu_seqlens.tolist()
    for i in range(len(rows) - 1):
        first, end = rows[i], rows[i + 1]
        start = i
        if state_indices is not None:
            at = 0 if accepted is None else max(int(accepted[i]), 1) - 1
            start = int(state_indices.reshape(len(state_indices), -1)[i, at])
        if first == end or start < 0 or start == pad_index:
            y[first:end] = 0
            continue
        h = state[start].to(torch.promote_types(x.dtype, torch.float32))[None].clone()
        for row in range(first, end):
            one = slice(row, row + 1)
            y[one] = selective_state_update(
                h, x[one], dt[one], A, B[one], C[one], D=D, z=None if z is None else z[one],
                dt_bias=dt_bias, dt_softplus=dt_softplus,
            )  # fmt: skip
            if accepted is not None or row == end - 1:
                new = i
                if new_indices is not None:
                    at = 0 if accepted is None else row - first
                    new = int(new_indices.reshape(len(new_indices), -1)[i, at])
                if new >= 0 and new != pad_index:
                    state[new] = h[0].to(state.dtype)
    return y


def _heads_form(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
) -> tuple[Any, ...]:
    """Views: state (slots, H, P, N), A (H, P, N), B and C (B, H, 1, N), the others end in (H, P).

    A group of channels (Mamba-1) is a head as wide as the group.
    """
    if B.dim() == 2:
        B, C = B.unsqueeze(1), C.unsqueeze(1)
    if state.dim() == 3:
        heads, width = B.shape[1], state.shape[1] // B.shape[1]
        state = state.unflatten(1, (heads, width))
        A = A.unflatten(0, (heads, width))
    else:
        heads, width = state.shape[1:3]
        A = A[:, None, None] if A.dim() == 1 else A
        dt = dt.unsqueeze(-1) if dt.dim() == 2 else dt
        D = D.unsqueeze(-1) if D is not None and D.dim() == 1 else D
        dt_bias = dt_bias.unsqueeze(-1) if dt_bias is not None and dt_bias.dim() == 1 else dt_bias
    if x.dim() == 2:
        x, dt = (t.unflatten(1, (heads, width)) for t in (x, dt))
        z = None if z is None else z.unflatten(1, (heads, width))
    D, dt_bias = (
        None if t is None else t if t.dim() == 2 else t.unflatten(0, (heads, width))
        for t in (D, dt_bias)
    )
    B, C = (t.repeat_interleave(heads // t.shape[1], dim=1).unsqueeze(2) for t in (B, C))
    return state, x, dt, A, B, C, D, z, dt_bias
