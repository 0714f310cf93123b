"""The delta rules with the arguments of our kernels: gates, step sizes and lengths are options.

Promises: as `delta`, whose recurrences these are. Shapes are those of `gated_delta` (package
`ssmprof_kernels.gated_delta`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssmprof_kernels import door
from ssmprof_kernels.reference import chunks, delta


def gated_delta(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    beta: Tensor,
    *,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    scale: float | None = None,
    qk_l2norm: bool = False,
    beta_sigmoid: bool = False,
    negative: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """The gated delta rule, plain where g is None, in chunks."""
    heads, key = v.shape[2], q.shape[3]
    y = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    states = []
    for i, (low, high) in enumerate(_sequences(v, cu_seqlens)):
        first = initial_state
        if first is not None and cu_seqlens is not None:
            first = first[i : i + 1]
        state = chunks.first_state(first, v, heads, key)
        for part in chunks.spans(high - low):
            span = slice(low + part.start, low + part.stop)
            options = (A_log, dt_bias, scale, qk_l2norm, beta_sigmoid, negative, state.dtype)
            taken = _taken(q[:, span], k[:, span], v[:, span], _at(g, span), beta[:, span], options)
            inputs: Any = [
                None if x is None else chunks.split(x, state.dtype, heads) for x in taken
            ]
            queries, keys, values, decays, steps = inputs
            out, state = delta.span_of(queries, keys, values, steps, decays, state)
            y[:, span] = chunks.merge(out, span.stop - span.start)
        states.append(state)
    return chunks.finish(y, torch.cat(states), return_final_state)


def gated_delta_sequential(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    beta: Tensor,
    *,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    scale: float | None = None,
    qk_l2norm: bool = False,
    beta_sigmoid: bool = False,
    negative: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = True,
    cu_seqlens: Tensor | None = None,
    compute_dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """One token after the other; y and the states in `compute_dtype`."""
    del return_final_state
    options = (A_log, dt_bias, scale, qk_l2norm, beta_sigmoid, negative, compute_dtype)
    heads = v.shape[2]
    q, k, v, g, beta = _taken(q, k, v, g, beta, options)
    q, k = (x.repeat_interleave(heads // x.shape[2], dim=2) for x in (q, k))
    y, states = torch.empty_like(v), []
    for i, (low, high) in enumerate(_sequences(v, cu_seqlens)):
        state = v.new_zeros(v.shape[0], heads, q.shape[3], v.shape[3])
        if initial_state is not None:
            first = initial_state if cu_seqlens is None else initial_state[i : i + 1]
            state = first.to(compute_dtype)
        for t in range(low, high):
            y[:, t], state = _token(state, q[:, t], k[:, t], v[:, t], _at(g, t), beta[:, t])
        states.append(state)
    return y, torch.cat(states)


def kda(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    scale: float | None = None,
    qk_l2norm: bool = False,
    beta_sigmoid: bool = False,
    negative: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Kimi delta attention: `gated_delta` knows a decay per key feature by its shape."""
    return gated_delta(
        q, k, v, g, beta, A_log=A_log, dt_bias=dt_bias, scale=scale, qk_l2norm=qk_l2norm,
        beta_sigmoid=beta_sigmoid, negative=negative, initial_state=initial_state,
        return_final_state=return_final_state, cu_seqlens=cu_seqlens,
    )  # fmt: skip


kda_sequential = gated_delta_sequential


def gated_delta_step(
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    beta: Tensor,
    *,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    scale: float | None = None,
    qk_l2norm: bool = False,
    beta_sigmoid: bool = False,
    negative: bool = False,
    overlap: bool = False,
) -> Tensor:
    """One token; `state` is overwritten. `overlap` says when a kernel begins, which is no matter
    here."""
    del overlap
    wide = torch.promote_types(state.dtype, torch.float32)
    options = (A_log, dt_bias, scale, qk_l2norm, beta_sigmoid, negative, wide)
    y, new = _one(state, q, k, v, g, beta, options)
    state.copy_(new)
    return y.to(v.dtype)


def gated_delta_step_sequential(
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    beta: Tensor,
    *,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    scale: float | None = None,
    qk_l2norm: bool = False,
    beta_sigmoid: bool = False,
    negative: bool = False,
    overlap: bool = False,
    compute_dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """One token: y and the new state in `compute_dtype`; `state` stays."""
    del overlap
    options = (A_log, dt_bias, scale, qk_l2norm, beta_sigmoid, negative, compute_dtype)
    return _one(state, q, k, v, g, beta, options)


def kda_step(
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    scale: float | None = None,
    qk_l2norm: bool = False,
    beta_sigmoid: bool = False,
    negative: bool = False,
    overlap: bool = False,
) -> Tensor:
    """As `gated_delta_step`."""
    return gated_delta_step(
        state, q, k, v, g, beta, A_log=A_log, dt_bias=dt_bias, scale=scale, qk_l2norm=qk_l2norm,
        beta_sigmoid=beta_sigmoid, negative=negative, overlap=overlap,
    )  # fmt: skip


kda_step_sequential = gated_delta_step_sequential


def _sequences(v: Tensor, cu_seqlens: Tensor | None) -> list[tuple[int, int]]:
    return [(0, v.shape[1])] if cu_seqlens is None else door.spans(cu_seqlens, v.shape[1])


def _at(g: Tensor | None, where: Any) -> Tensor | None:
    return None if g is None else g[:, where]


def _taken(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, beta: Tensor, options: tuple[Any, ...]
) -> Any:
    """What a token takes part with, in the last of `options`: queries and keys of their length,
    values, log decays, step sizes."""
    A_log, dt_bias, scale, qk_l2norm, beta_sigmoid, negative, dtype = options
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q, k, v, beta = (x.to(dtype) for x in (q, k, v, beta))
    if qk_l2norm:
        q, k = delta.unit(q), delta.unit(k)
    if beta_sigmoid:
        beta = delta.step_size(beta, negative)
    if g is not None:
        g = g.to(dtype)
        if A_log is not None:
            bias = torch.zeros_like(g[0, 0]) if dt_bias is None else dt_bias
            g = delta.log_decay(g, A_log, bias)
        g = chunks.floor(g)
    return q * scale, k, v, g, beta


def _one(
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    beta: Tensor,
    options: tuple[Any, ...],
) -> tuple[Tensor, Tensor]:
    given: list[Any] = [None if x is None else x[:, None] for x in (q, k, v, g, beta)]
    q, k, v, g, beta = given
    taken: list[Any] = [None if x is None else x[:, 0] for x in _taken(q, k, v, g, beta, options)]
    heads = v.shape[2]
    for i in range(2):
        taken[i] = taken[i].repeat_interleave(heads // taken[i].shape[1], dim=1)
    return _token(state.to(options[-1]), *taken)


def _token(
    state: Tensor, q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, beta: Tensor
) -> tuple[Tensor, Tensor]:
    if g is not None:
        decay = g.exp()
        state = state * (decay[..., None] if g.dim() == 3 else decay[..., None, None])
    error = (v - torch.einsum("bhk,bhkv->bhv", k, state)) * beta[..., None]
    state = torch.addcmul(state, k[..., None], error[..., None, :])
    return torch.einsum("bhk,bhkv->bhv", q, state), state
