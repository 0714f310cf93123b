"""Mamba-2 state-space duality scan in plain torch: the oracle, and the provider on a CPU.

Promises: `ssd_scan_sequential` follows the recurrence token by token in the dtype asked for;
`ssd_scan` gives the same result within fp32 rounding by the chunked form and in O(L) memory.

Recurrence, for every head (arXiv:2405.21060, section 2 and section 6):
`h_t = exp(delta_t A) h_{t-1} + delta_t x_t (x) B_t`, `y_t = h_t C_t`; a step of 0 leaves the state
alone, where A is -inf, too. A token whose id is below 0 is padding: y is 0 and the state stays as
it was; what follows begins anew.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssmprof_kernels import door
from ssmprof_kernels.rates import finite_rate, log_decay
from ssmprof_kernels.reference import chunks

CHUNK = 64


def step_sizes(
    dt: Tensor, dt_bias: Tensor | None, dt_softplus: bool, dt_limit: tuple[float, float]
) -> Tensor:
    """Delta of the recurrence: bias, then softplus, then clamp. dt (..., H), dt_bias (H)."""
    delta = dt if dt_bias is None else dt + dt_bias.to(dt.dtype)
    if dt_softplus:
        delta = torch.nn.functional.softplus(delta, threshold=20.0)
    low, high = dt_limit
    return delta if low == -math.inf and high == math.inf else delta.clamp(low, high)


def ssd_scan_sequential(
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
    dt_limit: tuple[float, float] = (0.0, math.inf),
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    seq_idx: Tensor | None = None,
    compute_dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """One token after the other; the arguments of `ssmprof_kernels.ssd_scan`.

    Returns y (B, L, H, P) and the final state (B or n, H, P, N), both in `compute_dtype`.
    """
    if cu_seqlens is not None:
        parts = [
            ssd_scan_sequential(
                x[:, lo:hi],
                dt[:, lo:hi],
                A,
                B[:, lo:hi],
                C[:, lo:hi],
                D=D,
                z=None if z is None else z[:, lo:hi],
                dt_bias=dt_bias,
                dt_softplus=dt_softplus,
                dt_limit=dt_limit,
                initial_state=None if initial_state is None else initial_state[i : i + 1],
                seq_idx=None if seq_idx is None else seq_idx[:, lo:hi],
                compute_dtype=compute_dtype,
            )
            for i, (lo, hi) in enumerate(door.spans(cu_seqlens, x.shape[1]))
        ]
        return torch.cat([y for y, _ in parts], 1), torch.cat([h for _, h in parts], 0)

    batch, length, heads, width = x.shape
    groups, states = B.shape[2:]
    x, dt, B, C = (t.to(compute_dtype) for t in (x, dt, B, C))
    delta = step_sizes(dt, dt_bias, dt_softplus, dt_limit)
    decay = torch.exp(delta * finite_rate(A.to(compute_dtype)))
    B, C = (t.repeat_interleave(heads // groups, dim=2) for t in (B, C))
    h = x.new_zeros(batch, heads, width, states)
    if initial_state is not None:
        h = h + initial_state.to(compute_dtype)
    y = torch.empty_like(x)
    for t in range(length):
        old = h
        if seq_idx is not None and t > 0:
            new = (seq_idx[:, t] != seq_idx[:, t - 1])[:, None, None, None]
            h = torch.where(new, torch.zeros_like(h), h)
        update = (delta[:, t, :, None] * x[:, t])[..., None] * B[:, t, :, None, :]
        h = h * decay[:, t, :, None, None] + update
        y[:, t] = (h * C[:, t, :, None, :]).sum(-1)
        if seq_idx is not None:
            h = torch.where((seq_idx[:, t] < 0)[:, None, None, None], old, h)
    return _finish(y, x, D, z, seq_idx), h


def ssd_scan(
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
    dt_limit: tuple[float, float] = (0.0, math.inf),
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
    seq_idx: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Chunked form with the signature and the results of `ssmprof_kernels.ssd_scan`."""
    compute = torch.promote_types(x.dtype, torch.float32)
    if cu_seqlens is not None:
        spans = door.spans(cu_seqlens, x.shape[1])
    else:
        spans = [(0, x.shape[1])]
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    finals = []
    for i, (lo, hi) in enumerate(spans):
        h0 = initial_state
        if cu_seqlens is not None and h0 is not None:
            h0 = h0[i : i + 1]
        taken = (x[:, lo:hi], dt[:, lo:hi], A, B[:, lo:hi], C[:, lo:hi])
        h = _one_length(
            *taken,
            y=y[:, lo:hi],
            D=D,
            z=None if z is None else z[:, lo:hi],
            dt_bias=dt_bias,
            dt_softplus=dt_softplus,
            dt_limit=dt_limit,
            h0=h0,
            seq_idx=None if seq_idx is None else seq_idx[:, lo:hi],
            compute=compute,
        )
        finals.append(h)
    if return_final_state is False:
        return y
    final = torch.cat(finals) if finals else x.new_zeros(0, *x.shape[2:], B.shape[-1])
    return y, final.to(compute if return_final_state is True else return_final_state)


def _one_length(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    y: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
    dt_limit: tuple[float, float],
    h0: Tensor | None,
    seq_idx: Tensor | None,
    compute: torch.dtype,
) -> Tensor:
    """Sequences of one length: outputs into `y`, whose room they need once; the last states."""
    # A chunk multiplies tokens of another document by zero, and 0 * NaN is NaN.
    if seq_idx is not None and not all(bool(t.isfinite().all()) for t in (x, dt, B)):
        y[:], h = ssd_scan_sequential(
            x,
            dt,
            A,
            B,
            C,
            D=D,
            z=z,
            dt_bias=dt_bias,
            dt_softplus=dt_softplus,
            dt_limit=dt_limit,
            initial_state=h0,
            seq_idx=seq_idx,
            compute_dtype=compute,
        )
        return h
    batch, length, heads, width = x.shape
    groups, states = B.shape[2:]
    h = x.new_zeros(batch, groups, heads // groups * width, states, dtype=compute)
    if h0 is not None:
        h = h + h0.reshape(h.shape).to(compute)
    spoilt = x.new_zeros(batch, heads, 1, width, dtype=compute)
    breaks = None
    if seq_idx is not None:
        breaks = torch.zeros(batch, length, dtype=torch.int64, device=x.device)
        breaks[:, 1:] = (seq_idx[:, 1:] != seq_idx[:, :-1]) & (seq_idx[:, 1:] >= 0)
    A = A.to(compute)
    for span in chunks.spans(length):
        delta = step_sizes(dt[:, span].to(compute), dt_bias, dt_softplus, dt_limit)
        ids = None if seq_idx is None else seq_idx[:, span]
        if ids is not None:
            # Padding makes no step and adds nothing.
            delta = torch.where((ids >= 0)[..., None], delta, 0.0)
        u, b, c = (t[:, span].to(compute) for t in (x, B, C))
        out = torch.empty_like(u)
        new = None if breaks is None else breaks[:, span]
        for lo in range(0, u.shape[1], CHUNK):
            own = slice(lo, lo + CHUNK)
            begun = None if new is None else new[:, own]
            inputs = (u[:, own], delta[:, own], A, b[:, own], c[:, own])
            out[:, own], h, spoilt = _chunk(*inputs, begun, h, spoilt)
        gate = None if z is None else z[:, span].to(compute)
        y[:, span] = _finish(out, u, D, gate, ids)
    return h.view(batch, heads, width, states) + spoilt.transpose(-1, -2)


def _chunk(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    breaks: Tensor | None,
    h: Tensor,
    spoilt: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """y (B, q, H, P), the state (B, G, H / G * P, N) after the chunk, and what it spoils from there
    on, (B, H, 1, P), NaN or 0; `breaks` (B, q) is 1 where a document begins."""
    batch, q, heads, width = x.shape
    groups = B.shape[2]
    per_group = heads // groups
    d = delta.transpose(1, 2)  # (batch, heads, q)
    a = torch.cumsum(log_decay(d, A[:, None]), dim=-1)
    visible = torch.ones(q, q, dtype=torch.bool, device=x.device).tril()[None, None]
    from_state = torch.exp(a)
    to_state = d * torch.exp(a[..., -1:] - a)
    k = None
    keep = torch.exp(a[..., -1])
    if breaks is not None:
        k = torch.cumsum(breaks, dim=1)[:, None]  # (batch, 1, q)
        visible = visible & (k[..., :, None] == k[..., None, :])
        from_state = from_state.masked_fill(k != 0, 0.0)
        to_state = to_state.masked_fill(k != k[..., -1:], 0.0)
    bc, cc = (t.transpose(1, 2) for t in (B, C))  # (batch, groups, q, states)
    gap = (a[..., :, None] - a[..., None, :]).masked_fill(~visible, -math.inf)
    scores = (cc @ bc.transpose(-1, -2))[:, :, None]
    weights = (torch.exp(gap) * d[..., None, :]).view(batch, groups, per_group, q, q)
    mixed = torch.where(visible[:, :, None], scores * weights, 0.0)
    mixed = mixed.view(batch, heads, q, q)
    xc = x.transpose(1, 2)  # (batch, heads, q, width)
    # What is no number stays out of the products, where 0 times it would reach tokens before it,
    # and spoils its own channel from its token on. No look at the values: that waits for a GPU, and
    # no graph can hold it.
    spoils = spoilt + torch.cumsum(xc * 0.0, dim=2)
    xc = torch.where(xc.isfinite(), xc, 0.0)
    inter = (cc @ h.transpose(-1, -2)).view(batch, groups, q, per_group, width)
    inter = inter.transpose(2, 3).reshape(batch, heads, q, width)
    if k is not None:
        inter = inter.masked_fill((k != 0)[..., None], 0.0)
    y = (mixed @ xc + from_state[..., None] * inter + spoils).transpose(1, 2)
    added = (to_state[..., None] * xc).transpose(-1, -2).reshape(batch, groups, -1, q) @ bc
    keep = keep.view(batch, groups, per_group, 1).expand(-1, -1, -1, width)
    keep = keep.reshape(batch, groups, -1, 1)
    if k is not None:
        h = h.masked_fill((k[..., -1] != 0)[..., None, None], 0.0)
    return y, h * keep + added, spoils[:, :, -1:]


def _finish(
    y: Tensor, x: Tensor, D: Tensor | None, z: Tensor | None, seq_idx: Tensor | None
) -> Tensor:
    """Skip and gate, in place, and 0 for padding."""
    if D is not None:
        y.addcmul_(x, (D if D.dim() == 2 else D[:, None]).to(y.dtype))
    if z is not None:
        y.mul_(torch.nn.functional.silu(z.to(y.dtype)))
    if seq_idx is not None:
        y = torch.where((seq_idx >= 0)[..., None, None], y, 0.0)
    return y
