"""Mamba-3 in plain torch (arXiv:2603.15569): the scan, its step, and the oracle.

Recurrence of every head, exponential-trapezoidal with a complex-valued state (section 3): with
`a = -max(softplus(a'), 1e-4)`, `d = softplus(dt' + bias)`, `l = sigmoid(trap)`, `alpha = exp(a d)`
and R_t the rotation of pairs (0, 1), (2, 3) ... by `d pi tanh(angle)`,
`h_t = alpha R_t^-1 (h_{t-1} + d (1 - l) v_{t-1} (x) k_{t-1}) + d l v_t (x) k_t`, `y_t = h_t q_t`,
k and q with their biases. With R ranks there are R keys, queries and values: v_r = v o V_r, outer
products add up, and the output is the sum of the y_r, skipped and gated, times O_r. The oracle
turns keys and queries by the sum of all angles instead of the state, as the paper does.

Shapes: q, k (B, L, R, G, N), v and z (B, L, H, P), a, dt and trap (B, L, H), angles (B, L, S);
biases (H, R, N), bias of dt and D (H), matrices of ranks (H, R, P) or None where R is 1. The state
(B, H P N + H R N + H P) holds h, and the last token's keys and value. `mimo_out` None leaves the
ranks apart: y (B, L, R, H, P) instead of (B, L, H, P).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 64
# Chunks that are computed at once, on a CPU and elsewhere: memory grows with them, and not with the
# prompt, and it should be little where it is measured.
CPU_CHUNKS, CHUNKS = 32, 4
A_FLOOR = 1e-4


class Weights(NamedTuple):
    """What does not depend on the token."""

    dt_bias: Tensor
    q_bias: Tensor
    k_bias: Tensor
    D: Tensor
    mimo_v: Tensor | None = None
    mimo_z: Tensor | None = None
    mimo_out: Tensor | None = None

    def ranks(self, wanted: str, like: Tensor) -> Tensor:
        """(H, R, P), ones where there is no such matrix."""
        found = getattr(self, wanted)
        if found is None:
            heads, rank, _ = self.q_bias.shape
            return like.new_ones(heads, rank, like.shape[-1])
        return found.to(like.dtype)


def parts(state: Tensor, weights: Weights, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Views of a state (B, ...): h (B, H, P, N), keys (B, H, R, N), value (B, H, P)."""
    heads, rank, states = weights.q_bias.shape
    h, k, v = state.split((heads * width * states, heads * rank * states, heads * width), dim=1)
    return (
        h.unflatten(1, (heads, width, states)),
        k.unflatten(1, (heads, rank, states)),
        v.unflatten(1, (heads, width)),
    )


def _turn(x: Tensor, angle: Tensor) -> Tensor:
    """x (..., N) with its first pairs turned by angle (..., S)."""
    pairs = angle.shape[-1]
    cos, sin = angle.cos(), angle.sin()
    even, odd = x[..., : 2 * pairs].unflatten(-1, (pairs, 2)).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)
    return torch.cat((turned, x[..., 2 * pairs :]), -1)


def _rates(a: Tensor, dt: Tensor, trap: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log decay, weight of the token itself, and of the one before it."""
    step = F.softplus(dt + bias.to(dt.dtype))
    own = torch.sigmoid(trap)
    return -F.softplus(a).clamp_min(A_FLOOR) * step, step * own, step * (1 - own)


def _heads(x: Tensor, bias: Tensor) -> Tensor:
    """(B, L, R, G, N) -> (B, H, L, R, N), one row per head, with its bias."""
    each = bias.shape[0] // x.shape[3]
    wide = x.permute(0, 3, 1, 2, 4).repeat_interleave(each, dim=1)
    return wide + bias.to(x.dtype)[:, None]


def _finish(y: Tensor, v: Tensor, z: Tensor | None, weights: Weights) -> Tensor:
    """Skip, gate and sum of ranks: y and v (B, H, ..., R, P), z (B, H, ..., P)."""

    def placed(t: Tensor) -> Tensor:
        return t[:, None] if y.dim() == 5 else t

    y = y + placed(weights.D.to(y.dtype)[:, None, None]) * v
    if z is not None:
        y = y * F.silu(z[..., None, :] * placed(weights.ranks("mimo_z", y)))
    if weights.mimo_out is not None:
        return (y * placed(weights.ranks("mimo_out", y))).sum(-2)
    return y.squeeze(-2) if y.shape[-2] == 1 else y


def mamba3_scan(
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
    return_final_state: bool | torch.dtype = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """A whole prompt, in chunks of 64 / R tokens; memory does not grow with its length."""
    compute = torch.promote_types(v.dtype, torch.float32)
    heads, rank, states = weights.q_bias.shape
    batch, length, _, width = v.shape
    shape = (batch, length, heads, width)
    if weights.mimo_out is None and rank > 1:
        shape = (batch, length, rank, heads, width)
    out = v.new_empty(shape)
    decay, own, before = _rates(a.to(compute), dt.to(compute), trap.to(compute), weights.dt_bias)
    # A token's weight in all that follow: its own, and that of the next one's look back.
    both = own + F.pad(before[:, 1:], (0, 0, 0, 1))
    h = v.new_zeros(batch, heads, width, states, dtype=compute)
    if initial_state is not None:
        held, k_last, v_last = parts(initial_state.to(compute), weights, width)
        values = v_last[:, :, None] * weights.ranks("mimo_v", h[..., 0])
        h = held + before[:, 0, :, None, None] * (values.transpose(-1, -2) @ k_last)
    turns = F.softplus(dt.to(compute) + weights.dt_bias)
    chunk = max(CHUNK // rank, 1)
    k_end = h.new_zeros(batch, heads, rank, states)
    size = chunk * (CPU_CHUNKS if v.device.type == "cpu" else CHUNKS)
    for lo in range(0, length, size):
        span = slice(lo, min(lo + size, length))
        angle = math.pi * torch.tanh(angles[:, span].to(compute))[:, None]
        angle = angle * turns[:, span].transpose(1, 2)[..., None]
        # Many turns of a small angle: summed in double.
        angle = angle.double().cumsum(2).remainder(2 * math.pi).to(compute)
        qs, ks = (
            _heads(t[:, span].to(compute), bias)
            for t, bias in ((q, weights.q_bias), (k, weights.k_bias))
        )
        k_end = ks[:, :, -1]
        vs = v[:, span].to(compute).transpose(1, 2)[..., None, :]
        vs = vs * weights.ranks("mimo_v", vs)[:, None]
        y, h = _segment(
            _turn(qs, angle[..., None, :]),
            _turn(ks, angle[..., None, :]),
            vs,
            *(t[:, span].transpose(1, 2) for t in (decay, own, both)),
            h=h,
            chunk=chunk,
        )
        # The state in the frame of the last token.
        h = _turn(h, -angle[:, :, -1, None])
        gate = None if z is None else z[:, span].to(compute).transpose(1, 2)
        made = _finish(y, vs, gate, weights)
        out[:, span] = made.permute(0, 2, 3, 1, 4) if made.dim() == 5 else made.transpose(1, 2)
    if return_final_state is False:
        return out
    wanted = compute if return_final_state is True else return_final_state
    final = (h.flatten(1), k_end.flatten(1), v[:, -1].flatten(1).to(compute))
    return out, torch.cat(final, 1).to(wanted)


def _segment(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    decay: Tensor,
    own: Tensor,
    both: Tensor,
    *,
    h: Tensor,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """Chunks at once: q, k (B, H, T, R, N), v (B, H, T, R, P), h (B, H, P, N), others (B, H, T).

    Returns y (B, H, T, R, P) and the state after them.
    """
    length, rank = q.shape[2:4]
    missing = -length % chunk
    q, k, v = (F.pad(t, (0, 0, 0, 0, 0, missing)) for t in (q, k, v))
    q, k, v = (t.unflatten(2, (-1, chunk)).flatten(3, 4) for t in (q, k, v))
    # Padding makes no step and has no weight.
    decay, own, both = (
        F.pad(t, (0, missing)).unflatten(2, (-1, chunk)) for t in (decay, own, both)
    )
    summed = decay.cumsum(-1)
    gap = summed[..., :, None] - summed[..., None, :]
    earlier = torch.ones(chunk, chunk, dtype=torch.bool, device=q.device).tril(-1)
    seen = torch.exp(gap.masked_fill(~earlier, -math.inf)) * both[..., None, :]
    seen = seen + torch.diag_embed(own)
    seen = seen.repeat_interleave(rank, -1).repeat_interleave(rank, -2)
    y = (q @ k.transpose(-1, -2) * seen) @ v
    left = torch.exp(summed[..., -1:] - summed) * both
    added = (v * left.repeat_interleave(rank, -1)[..., None]).transpose(-1, -2) @ k
    # States before each chunk and behind the last, from the first and from what each chunk adds.
    ends = summed[..., -1].double().cumsum(-1)
    starts = F.pad(ends, (1, 0))
    spans = starts[..., :, None] - ends[..., None, :]
    chunks = ends.shape[-1]
    known = torch.ones(chunks + 1, chunks, dtype=torch.bool, device=q.device).tril(-1)
    kept = torch.exp(spans.masked_fill(~known, -math.inf)).to(q.dtype)
    states = (kept @ added.flatten(3)).unflatten(3, added.shape[3:])
    states = states + torch.exp(starts).to(q.dtype)[..., None, None] * h[:, :, None]
    reach = torch.exp(summed).repeat_interleave(rank, -1)[..., None]
    y = y + reach * (q @ states[:, :, :-1].transpose(-1, -2))
    return y.unflatten(3, (chunk, rank)).flatten(2, 3)[:, :, :length], states[:, :, -1]


def mamba3_step(
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
) -> Tensor:
    """One token, without the L of the shapes above; the state is overwritten in place."""
    compute = torch.promote_types(v.dtype, torch.float32)
    h, k_last, v_last = parts(state, weights, v.shape[-1])
    decay, own, before = _rates(a.to(compute), dt.to(compute), trap.to(compute), weights.dt_bias)
    step = F.softplus(dt.to(compute) + weights.dt_bias)
    angle = math.pi * torch.tanh(angles.to(compute))[:, None] * step[..., None]
    q, k = (
        _heads(t[:, None].to(compute), bias)[:, :, 0]
        for t, bias in ((q, weights.q_bias), (k, weights.k_bias))
    )
    value = v.to(compute)
    into = weights.ranks("mimo_v", value)
    past = (v_last.to(compute)[:, :, None] * into).transpose(-1, -2) @ k_last.to(compute)
    values = value[:, :, None] * into
    new = _turn(h.to(compute) + before[..., None, None] * past, -angle[:, :, None])
    new = torch.exp(decay)[..., None, None] * new
    new = new + own[..., None, None] * (values.transpose(-1, -2) @ k)
    y = q @ new.transpose(-1, -2)
    for held, latest in ((h, new), (k_last, k), (v_last, value)):
        held.copy_(latest)
    made = _finish(y, values, None if z is None else z.to(compute), weights)
    return (made.transpose(1, 2) if made.dim() == 4 else made).to(v.dtype)


def mamba3_sequential(
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
) -> Tensor:
    """Token by token, head by head and rank by rank, with a running sum of angles; from nothing."""
    q, k, v, a, dt, trap, angles = (t.to(compute_dtype) for t in (q, k, v, a, dt, trap, angles))
    batch, length, heads, width = v.shape
    rank, states = weights.q_bias.shape[1:]
    each, pairs = heads // q.shape[3], angles.shape[-1]
    y = v.new_zeros(batch, length, rank, heads, width)
    into, gates, outs = (weights.ranks(f"mimo_{name}", v) for name in ("v", "z", "out"))
    for b in range(batch):
        for n in range(heads):
            h, past = v.new_zeros(width, states), v.new_zeros(width, states)
            turned = v.new_zeros(pairs)
            for t in range(length):
                step = F.softplus(dt[b, t, n] + weights.dt_bias[n].to(compute_dtype))
                turned = turned + step * math.pi * torch.tanh(angles[b, t])
                alpha = torch.exp(-F.softplus(a[b, t, n]).clamp_min(A_FLOOR) * step)
                share = torch.sigmoid(trap[b, t, n])
                now = torch.zeros_like(h)
                for r in range(rank):
                    key = k[b, t, r, n // each] + weights.k_bias[n, r].to(compute_dtype)
                    now += torch.outer(v[b, t, n] * into[n, r], _turn(key, turned))
                h = alpha * h + alpha * step * (1 - share) * past + step * share * now
                past = now
                for r in range(rank):
                    query = q[b, t, r, n // each] + weights.q_bias[n, r].to(compute_dtype)
                    made = h @ _turn(query, turned)
                    made = made + weights.D[n].to(compute_dtype) * v[b, t, n] * into[n, r]
                    if z is not None:
                        made = made * F.silu(z[b, t, n].to(compute_dtype) * gates[n, r])
                    y[b, t, r, n] = made
    if weights.mimo_out is not None:
        return torch.einsum("blrhp,hrp->blhp", y, outs)
    return y[:, :, 0] if rank == 1 else y
