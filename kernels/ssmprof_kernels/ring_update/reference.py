"""The ring update in plain torch: a state is read, what is pending applied, and rarely written.

Promises: an fp32 state that has just been written has the bits that
`state_update.selective_state_update` would have given it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssmprof_kernels.rates import finite_rate
from ssmprof_kernels.state_update.arguments import Arguments
from ssmprof_kernels.state_update.reference import selective_state_update_sequential

ROWS = 8


def ring_state_update_sequential(
    state: Tensor,
    ring: Any,
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
    """What is pending and then the token, row by row; inputs are left alone.

    Returns y and the state that the token leaves, as if it had been written, in `compute_dtype`.
    """
    new = state.to(compute_dtype, copy=True)
    slots, heads, tiles, _ = ring.marks.shape
    rates = finite_rate(A.to(compute_dtype))
    rates = rates[:, None, None] if rates.dim() == 1 else rates
    whole = new.view(slots, heads, -1, new.shape[-1])
    rates = rates.expand(new.shape[1:]).reshape(whole.shape[1:])
    per_group = heads // ring.B.shape[2]
    for slot in range(slots):
        for head in range(heads):
            for tile in range(tiles):
                at, count = ring.marks[slot, head, tile].tolist()
                rows = slice(tile * ROWS, (tile + 1) * ROWS)
                h = whole[slot, head, rows]
                for i in range(count):
                    place = (at - count + i) % ring.tokens
                    step = ring.delta[slot, place, head].to(compute_dtype)
                    step = step if step.dim() == 0 else step[rows, None]
                    value = ring.x[slot, place, head, rows].to(compute_dtype)
                    key = ring.B[slot, place, head // per_group].to(compute_dtype)
                    h = torch.exp(step * rates[head, rows]) * h + step * value[:, None] * key
                whole[slot, head, rows] = h
    return selective_state_update_sequential(
        new, x, dt, A, B, C, D=D, z=z, dt_bias=dt_bias, dt_softplus=dt_softplus,
        state_indices=state_indices, pad_index=pad_index, compute_dtype=compute_dtype,
    )  # fmt: skip


def ring_state_update(
    state: Tensor,
    ring: Any,
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
    overlap: bool = False,
) -> Tensor:
    """All rows at once, with the signature and the results of the kernel; `overlap` is nothing."""
    full = Arguments(state, x, dt, A, B, C, D, z, dt_bias, state_indices, None).expanded()
    y = torch.empty_like(x)
    return run(full.as_heads(), ring, (dt_softplus, pad_index, overlap), y, settle=False)


def run(full: Any, ring: Any, options: tuple[Any, ...], y: Tensor | None, *, settle: bool) -> Any:
    """`ring_update.op._run` on the heads form of its arguments."""
    softplus, pad_index, _ = options
    state, x, dt, A, B, C, D, z, bias, index, _ = full
    rows = torch.arange(len(x), device=x.device)
    slots = rows
    if index is not None:
        rows = rows[(index >= 0) & (index != pad_index)]
        slots = index[rows].long()
    compute = torch.promote_types(x.dtype, torch.float32)
    A = finite_rate(A.to(compute))
    tied = ring.delta.dim() == 3
    if tied:  # as the plain update forms its decays, once per head
        A = A[:, :1, :1]
    per_group = state.shape[1] // B.shape[1]
    places, width = ring.tokens, state.shape[2]
    at, filled = (ring.marks[slots, ..., i] for i in (0, 1))
    at = at[:, 0, 0].long()
    filled = filled.repeat_interleave(ROWS, dim=2)[..., :width]

    def caught_up(h: Tensor, step: Tensor, value: Tensor, key: Tensor) -> Tensor:
        key = key.to(compute).repeat_interleave(per_group, dim=1)[:, :, None]
        return torch.exp(step[..., None] * A) * h + (step * value)[..., None] * key

    h = state[slots].to(compute)
    for i in range(places - 1):
        place = (at + 1 + i) % places
        step = ring.delta[slots, place].to(compute)
        step = step[..., None] if tied else step
        counts = places - 1 - i <= filled
        value = ring.x[slots, place].to(compute).masked_fill(~counts, 0.0)
        key = ring.B[slots, place].masked_fill(~counts.any(2).any(1)[:, None, None], 0.0)
        h = torch.where(counts[..., None], caught_up(h, step, value, key), h)
    if settle:
        state[slots] = h.to(state.dtype)
        ring.marks[slots, ..., 1] = 0
        return None
    assert y is not None
    step = dt[rows].to(compute) if bias is None else dt[rows].to(compute) + bias.to(compute)
    step = step[..., :1] if tied else step
    if softplus:
        step = F.softplus(step, threshold=20.0)
    value = x[rows].to(compute)
    h = caught_up(h, step, value, B[rows])
    ring.x[slots, at] = x[rows]
    ring.delta[slots, at] = (step[..., 0] if tied else step).float()
    ring.B[slots, at] = B[rows]
    writes = filled + 1 >= places
    state[slots] = torch.where(writes[..., None], h.to(state.dtype), state[slots])
    out = (h * C[rows].to(compute).repeat_interleave(per_group, dim=1)[:, :, None]).sum(-1)
    if D is not None:
        out = out + D.to(compute) * value
    if z is not None:
        out = out * F.silu(z[rows].to(compute))
    y.zero_()
    y[rows] = out.reshape(len(rows), *y.shape[1:]).to(y.dtype)
    ring.marks[slots, ..., 0] = ((ring.marks[slots, ..., 0] + 1) % places).to(torch.int32)
    count = ring.marks[slots, ..., 1] + 1
    ring.marks[slots, ..., 1] = torch.where(count >= places, 0, count).to(torch.int32)
    return y
