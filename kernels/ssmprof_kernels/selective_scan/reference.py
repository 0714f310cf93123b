"""Mamba-1 selective scan in plain torch: the oracle, and the provider on a CPU.

Promises: `selective_scan_sequential` follows the recurrence token by token in the dtype asked for;
`selective_scan` gives the same result within fp32 rounding, takes the exponentials of a whole chunk
at once, and needs memory for one chunk only.

Recurrence, for every channel (arXiv:2312.00752, section 3):
`h_t = exp(delta_t A) h_{t-1} + delta_t u_t B_t`, `y_t = <h_t, C_t>`; a step of 0 leaves the state
alone, where A is -inf, too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssmprof_kernels import door
from ssmprof_kernels.rates import finite_rate

#: Chunk size in elements of (tokens, B, D, N): two such fp32 arrays stay in a CPU's cache. A GPU is
#: waited for at every call, so that it gets more tokens at once.
CHUNK_ELEMENTS = 1 << 19
GPU_CHUNK_ELEMENTS = 1 << 23


def selective_scan_sequential(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    compute_dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """One token after the other; the arguments of `ssmprof_kernels.selective_scan`.

    Returns y (B, L, D) and the final state (B or n, D, N), both in `compute_dtype`.
    """
    u, dt, A, B, C = (t.to(compute_dtype) for t in (u, dt, A, B, C))
    A = finite_rate(A)
    B, C = _per_channel(B, u.shape[2]), _per_channel(C, u.shape[2])
    if dt_bias is not None:
        dt = dt + dt_bias.to(compute_dtype)
    if dt_softplus:
        dt = torch.where(dt > 20.0, dt, torch.log1p(torch.exp(dt.clamp(max=20.0))))
    y = torch.empty_like(u)
    finals = []
    for i, (row, lo, hi) in enumerate(_sequences(u, cu_seqlens)):
        h = torch.zeros_like(A)
        if initial_state is not None:
            h = initial_state[i].to(compute_dtype)
        for t in range(lo, hi):
            step = dt[row, t][:, None]
            h = torch.exp(step * A) * h + (step * u[row, t][:, None]) * B[row, t]
            y[row, t] = (h * C[row, t]).sum(-1)
        finals.append(h)
    if D is not None:
        y = y + D.to(compute_dtype) * u
    if z is not None:
        y = y * torch.nn.functional.silu(z.to(compute_dtype))
    return y, torch.stack(finals)


def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Chunked form with the signature and the results of `ssmprof_kernels.selective_scan`."""
    compute = torch.promote_types(u.dtype, torch.float32)
    A = finite_rate(A.to(compute))
    if B.dim() == 3:
        B, C = B.unsqueeze(2), C.unsqueeze(2)
    y = torch.empty_like(u)
    spans = [(None, 0, u.shape[1])]
    if cu_seqlens is not None:
        spans = _sequences(u, cu_seqlens)
    finals = []
    for i, (_, lo, hi) in enumerate(spans):
        h = u.new_zeros((u.shape[0], *A.shape), dtype=compute)
        if initial_state is not None:
            rows = initial_state if cu_seqlens is None else initial_state[i : i + 1]
            h = h + rows.to(compute)
        chunk = max(1, (GPU_CHUNK_ELEMENTS if h.is_cuda else CHUNK_ELEMENTS) // h.numel())
        for start in range(lo, hi, chunk):
            span = slice(start, min(start + chunk, hi))
            step = dt[:, span].to(compute)
            if dt_bias is not None:
                step = step + dt_bias.to(compute)
            if dt_softplus:
                step = torch.nn.functional.softplus(step, threshold=20.0)
            x = u[:, span].to(compute)
            part, h = _chunk(x, step, A, B[:, span].to(compute), C[:, span].to(compute), h)
            if D is not None:
                part = part + D.to(compute) * x
            if z is not None:
                part = part * torch.nn.functional.silu(z[:, span].to(compute))
            y[:, span] = part
        finals.append(h)
    if return_final_state is False:
        return y
    return y, torch.cat(finals).to(compute if return_final_state is True else return_final_state)


def _chunk(
    u: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor
) -> tuple[Tensor, Tensor]:
    """y (B, q, D) and the state after q tokens; u, step (B, q, D), B, C (B, q, G, N)."""
    batch, q, channels = u.shape
    groups, states = B.shape[2:]
    # Time first: each step then works on one contiguous slice.
    step, u = step.transpose(0, 1), u.transpose(0, 1)
    decay = torch.exp_(step[..., None] * A)
    grouped = (q, batch, groups, channels // groups, states)
    hs = ((step * u)[..., None].view(*grouped[:-1], 1) * B.transpose(0, 1)[:, :, :, None]).view(
        decay.shape
    )
    rows = math.gcd(q, 1 << (q.bit_length() - 1) // 2) if u.is_cuda else 1
    h = walk(hs.unflatten(0, (rows, -1)), decay.unflatten(0, (rows, -1)), h)
    y = hs.view(grouped) @ C.transpose(0, 1)[..., None]
    return y.view(q, batch, channels).transpose(0, 1), h.clone()


def walk(hs: Tensor, decay: Tensor, h: Tensor) -> Tensor:
    """Inputs become states, in place: hs, decay (rows, tokens, B, D, N), h the state before.

    All rows walk side by side, each from nothing; then each adds what the row before it left.
    """
    rows, tokens = hs.shape[:2]
    if rows == 1:
        for t in range(tokens):
            h = hs[0, t].addcmul_(decay[0, t], h)
        return h
    for t in range(1, tokens):
        hs[:, t].addcmul_(decay[:, t], hs[:, t - 1])
        decay[:, t].mul_(decay[:, t - 1])
    for row in range(rows):
        hs[row].addcmul_(decay[row], h)
        h = hs[row, -1]
    return h


def _per_channel(t: Tensor, channels: int) -> Tensor:
    """B or C as (B, L, 1 or D, N)."""
    if t.dim() == 3:
        return t.unsqueeze(2)
    return t.repeat_interleave(channels // t.shape[2], dim=2)


def _sequences(u: Tensor, cu_seqlens: Tensor | None) -> list[tuple[int, int, int]]:
    """(row, first token, end) of every sequence."""
    if cu_seqlens is None:
        return [(row, 0, u.shape[1]) for row in range(u.shape[0])]
    return [(0, lo, hi) for lo, hi in door.spans(cu_seqlens, u.shape[1])]
