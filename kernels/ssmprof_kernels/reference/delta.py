"""Delta rules in plain torch: the oracle of the tests, and the provider on a CPU.

Promises: `*_sequential` follow the recurrence token by token in the dtype asked for; the others
give the same within fp32 rounding by the chunked form. Recurrence, for every head, the state
(K, V): `S_t = (I - beta_t k_t k_t^T) D_t S_{t-1} + beta_t k_t v_t^T`, `o_t = S_t^T q_t / sqrt(K)`,
with queries and keys of length one. D_t is none (arXiv:2406.06484, equation 2), one number of a
head (arXiv:2412.06464, equation 10) or a diagonal (arXiv:2510.26692, equation 1).

The log decay of gates `a` is -exp(A_log) softplus(a + dt_bias); the step size of `b` is its
sigmoid, doubled where eigenvalues may be negative (arXiv:2411.12537). Chunked: what a chunk writes
is W = U - Y S with U, Y from one triangular system, the WY form (arXiv:2406.06484, section 3.2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ssmprof_kernels.reference import chunks

NORM_EPS = 1e-6


def unit(x: Tensor) -> Tensor:
    """Vectors (..., K) of length one, as published code makes them."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + NORM_EPS)


def log_decay(a: Tensor, A_log: Tensor, dt_bias: Tensor) -> Tensor:
    """-exp(A_log) softplus(a + dt_bias): a (..., H) or (..., H, K), A_log (H), dt_bias like a."""
    rate = A_log.to(a.dtype).exp()
    rate = rate[:, None] if dt_bias.dim() == 2 else rate
    return -rate * F.softplus(a + dt_bias.to(a.dtype), threshold=20.0)


def step_size(b: Tensor, negative: bool) -> Tensor:
    """Sigmoid of b, doubled where eigenvalues may be negative."""
    return b.sigmoid() * (2.0 if negative else 1.0)


def delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    b: Tensor,
    *,
    negative: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """q, k (B, L, Hk, K), v (B, L, H, V), b (B, L, H); state (B, H, K, V). y is like v."""
    return _chunked(q, k, v, b, None, negative, initial_state, return_final_state)


def gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    A_log: Tensor,
    dt_bias: Tensor,
    *,
    negative: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """As `delta_rule`, decayed by gates a: (B, L, H) with dt_bias (H), or of each key feature,
    (B, L, H, K) with dt_bias (H, K). A_log (H).
    """
    decay = (a, A_log, dt_bias)
    return _chunked(q, k, v, b, decay, negative, initial_state, return_final_state)


def _chunked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    b: Tensor,
    decay: tuple[Tensor, Tensor, Tensor] | None,
    negative: bool,
    initial_state: Tensor | None,
    wanted: bool | torch.dtype,
) -> Tensor | tuple[Tensor, Tensor]:
    heads, key = v.shape[2], q.shape[3]
    state = chunks.first_state(initial_state, v, heads, key)
    wide = state.dtype
    y = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    for span in chunks.spans(v.shape[1]):
        g = None
        if decay is not None:
            a, A_log, dt_bias = decay
            g = chunks.floor(log_decay(a[:, span].to(wide), A_log, dt_bias))
            g = chunks.split(g, wide, heads)
        out, state = span_of(
            unit(chunks.split(q[:, span], wide, heads)) * key**-0.5,
            unit(chunks.split(k[:, span], wide, heads)),
            chunks.split(v[:, span], wide, heads),
            chunks.split(step_size(b[:, span].to(wide), negative), wide, heads),
            g,
            state,
        )
        y[:, span] = chunks.merge(out, span.stop - span.start)
    return chunks.finish(y, state, wanted)


def span_of(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Chunks (B, H, n, C, ...) of one span, queries and keys of their length, log decays g
    (B, H, n, C) or (B, H, n, C, K): outputs, and the state after it."""
    beta = beta[..., None]
    seen, keys, queries, kept = k, k, q, None
    if g is not None:
        steps = g if g.dim() == k.dim() else g[..., None]
        so_far = chunks.until(steps).exp_()
        seen, queries = k * so_far, q * so_far
        keys = k * chunks.after(steps).exp_()
        kept = so_far[..., -1, :, None]
    system = beta * chunks.scores(k, k, g, strict=True)
    solved = chunks.inverse(system) @ (beta * torch.cat([v, seen], dim=-1))
    values, known = solved.split((v.shape[-1], k.shape[-1]), dim=-1)
    return chunks.walk(
        state,
        queries=queries,
        mixed=chunks.scores(q, k, g),
        values=values,
        known=known,
        keys=keys,
        kept=kept,
    )


def delta_step(
    state: Tensor, q: Tensor, k: Tensor, v: Tensor, b: Tensor, *, negative: bool = False
) -> Tensor:
    """One token: q, k (B, Hk, K), v (B, H, V), b (B, H). `state` (B, H, K, V) is overwritten."""
    return _step(state, q, k, v, b, None, negative)


def gated_delta_step(
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    A_log: Tensor,
    dt_bias: Tensor,
    *,
    negative: bool = False,
) -> Tensor:
    """As `delta_step`, decayed by gates a, (B, H) or (B, H, K)."""
    wide = torch.promote_types(state.dtype, torch.float32)
    return _step(state, q, k, v, b, log_decay(a.to(wide), A_log, dt_bias), negative)


def _step(
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    b: Tensor,
    g: Tensor | None,
    negative: bool,
) -> Tensor:
    wide = torch.promote_types(state.dtype, torch.float32)
    per_key = v.shape[1] // q.shape[1]
    q, k = (unit(x.to(wide)).repeat_interleave(per_key, dim=1) for x in (q, k))
    old = state.to(wide)
    if g is not None:
        decay = g.exp()
        old = old * (decay[..., None] if g.dim() == 3 else decay[..., None, None])
    error = v.to(wide) - torch.einsum("bhk,bhkv->bhv", k, old)
    error = error * step_size(b.to(wide), negative)[..., None]
    new = torch.addcmul(old, k[..., None], error[..., None, :])
    state.copy_(new)
    return torch.einsum("bhk,bhkv->bhv", q * q.shape[-1] ** -0.5, new).to(v.dtype)


def delta_rule_sequential(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    b: Tensor,
    *,
    a: Tensor | None = None,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    negative: bool = False,
    initial_state: Tensor | None = None,
    compute_dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """One token after the other, as the papers write it; y and the state in `compute_dtype`."""
    per_key = v.shape[2] // q.shape[2]
    q, k, v, b = (x.to(compute_dtype) for x in (q, k, v, b))
    q, k = (unit(x).repeat_interleave(per_key, dim=2) for x in (q, k))
    batch, length, heads, key = q.shape
    state = v.new_zeros(batch, heads, key, v.shape[-1])
    if initial_state is not None:
        state = initial_state.to(compute_dtype)
    identity = torch.eye(key, dtype=compute_dtype, device=q.device)
    y = torch.empty_like(v)
    for t in range(length):
        if a is not None and A_log is not None and dt_bias is not None:
            alpha = log_decay(a[:, t].to(compute_dtype), A_log, dt_bias).exp()
            state = (alpha if alpha.dim() == 3 else alpha[..., None])[..., None] * state
        beta = step_size(b[:, t], negative)[..., None, None]
        erase = identity - beta * k[:, t, :, :, None] * k[:, t, :, None, :]
        state = erase @ state + beta * k[:, t, :, :, None] * v[:, t, :, None, :]
        y[:, t] = (state.transpose(-1, -2) @ q[:, t, :, :, None])[..., 0] * key**-0.5
    return y, state
