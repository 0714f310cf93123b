"""Linear attention with decay in plain torch: the oracle of the tests, the provider on a CPU.

Promises: `*_sequential` follow the recurrence token by token in the dtype asked for; the others
give the same within fp32 rounding by the chunked form. Recurrence, for every head, the state
(K, V): `S_t = D_t S_{t-1} + k_t v_t^T`, `o_t = scale S_t^T q_t`. D_t is a constant of the head
(retention: arXiv:2307.08621, equation 6; lightning attention: arXiv:2401.04658, equation 9) or a
diagonal of gates (GLA: arXiv:2312.06635, equation 3).

The gates of GLA are the sigmoid of `a` to the power 1 / 16 (section 4.4).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ssmprof_kernels.reference import chunks

GATE_ROOT = 16.0


def log_gate(a: Tensor) -> Tensor:
    """Log decay of gates a: log sigmoid(a) / 16."""
    return F.logsigmoid(a) / GATE_ROOT


def retention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    decay: Tensor,
    *,
    scale: float,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """q (B, L, H, K), k (B, L, Hk, K), v (B, L, Hk, V), log decay (H); state (B, H, K, V).

    y (B, L, H, V) in v's dtype.
    """
    if cu_seqlens is not None:
        options = {"scale": scale, "return_final_state": return_final_state or True}
        found = chunks.packed(retention, (q, k, v), (decay,), cu_seqlens, initial_state, options)
        return found[0] if return_final_state is False else found
    each = decay.expand(*q.shape[:2], q.shape[2])
    return _chunked(q, k, v, each, _as_it_is, scale, initial_state, return_final_state)


def lightning(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    decay: Tensor,
    *,
    scale: float,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """As `retention`: only the decays of models differ."""
    return retention(
        q, k, v, decay, scale=scale, initial_state=initial_state,
        return_final_state=return_final_state, cu_seqlens=cu_seqlens,
    )  # fmt: skip


def gla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    *,
    scale: float,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """As `retention`, with gates a (B, L, Hk, K) of each key feature."""
    if cu_seqlens is not None:
        options = {"scale": scale, "return_final_state": return_final_state or True}
        found = chunks.packed(gla, (q, k, v, a), (), cu_seqlens, initial_state, options)
        return found[0] if return_final_state is False else found
    return _chunked(q, k, v, a, log_gate, scale, initial_state, return_final_state)


def gated(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    *,
    scale: float,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """As `retention`, with log decays g (B, L, Hk, K) of each key feature."""
    if cu_seqlens is not None:
        options = {"scale": scale, "return_final_state": return_final_state or True}
        found = chunks.packed(gated, (q, k, v, g), (), cu_seqlens, initial_state, options)
        return found[0] if return_final_state is False else found
    return _chunked(q, k, v, g, _as_it_is, scale, initial_state, return_final_state)


def _as_it_is(g: Tensor) -> Tensor:
    return g


def _chunked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Tensor,
    log_decay: Callable[[Tensor], Tensor],
    scale: float,
    initial_state: Tensor | None,
    wanted: bool | torch.dtype,
) -> Tensor | tuple[Tensor, Tensor]:
    batch, length, heads, key = q.shape
    state = chunks.first_state(initial_state, v, heads, key)
    wide = state.dtype
    y = torch.empty(batch, length, heads, v.shape[-1], dtype=v.dtype, device=v.device)
    for span in chunks.spans(length):
        tokens = span.stop - span.start
        g = log_decay(gates[:, span].to(wide))
        out, state = _span(
            chunks.split(q[:, span], wide, heads) * scale,
            chunks.split(k[:, span], wide, heads),
            chunks.split(v[:, span], wide, heads),
            chunks.split(chunks.floor(g), wide, heads),
            state,
        )
        y[:, span] = chunks.merge(out, tokens)
    return chunks.finish(y, state, wanted)


def _span(q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Chunks (B, H, n, C, ...) of one span: outputs, and the state after it."""
    steps = g if g.dim() == k.dim() else g[..., None]
    so_far = chunks.until(steps).exp_()
    return chunks.walk(
        state,
        queries=q * so_far,
        mixed=chunks.scores(q, k, g),
        values=v,
        known=None,
        keys=k * chunks.after(steps).exp_(),
        kept=so_far[..., -1, :, None],
    )


def retention_step(
    state: Tensor, q: Tensor, k: Tensor, v: Tensor, decay: Tensor, *, scale: float
) -> Tensor:
    """One token: q (B, H, K), k and v (B, Hk, ...). `state` (B, H, K, V) is overwritten."""
    return _step(state, q, k, v, decay[:, None, None], scale)


def lightning_step(
    state: Tensor, q: Tensor, k: Tensor, v: Tensor, decay: Tensor, *, scale: float
) -> Tensor:
    """As `retention_step`."""
    return retention_step(state, q, k, v, decay, scale=scale)


def gla_step(state: Tensor, q: Tensor, k: Tensor, v: Tensor, a: Tensor, *, scale: float) -> Tensor:
    """As `retention_step`, with gates a (B, Hk, K)."""
    wide = torch.promote_types(state.dtype, torch.float32)
    return gated_step(state, q, k, v, log_gate(a.to(wide)), scale=scale)


def gated_step(
    state: Tensor, q: Tensor, k: Tensor, v: Tensor, g: Tensor, *, scale: float
) -> Tensor:
    """As `retention_step`, with log decays g (B, Hk, K)."""
    return _step(state, q, k, v, g.repeat_interleave(q.shape[1] // g.shape[1], 1)[..., None], scale)


def _step(state: Tensor, q: Tensor, k: Tensor, v: Tensor, g: Tensor, scale: float) -> Tensor:
    wide = torch.promote_types(state.dtype, torch.float32)
    per_key = q.shape[1] // k.shape[1]
    k, v = (x.to(wide).repeat_interleave(per_key, dim=1) for x in (k, v))
    new = torch.addcmul(state.to(wide) * g.to(wide).exp(), k[..., None], v[..., None, :])
    state.copy_(new)
    return torch.einsum("bhk,bhkv->bhv", q.to(wide) * scale, new).to(q.dtype)


def linear_attention_sequential(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    decay: Tensor | None = None,
    gates: Tensor | None = None,
    scale: float,
    initial_state: Tensor | None = None,
    compute_dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """One token after the other, by `decay` (H) or by `gates`; y and state in `compute_dtype`."""
    per_key = q.shape[2] // k.shape[2]
    q, k, v = (x.to(compute_dtype) for x in (q, k, v))
    k, v = (x.repeat_interleave(per_key, dim=2) for x in (k, v))
    batch, length, heads, key = q.shape
    state = v.new_zeros(batch, heads, key, v.shape[-1])
    if initial_state is not None:
        state = initial_state.to(compute_dtype)
    y = torch.empty_like(v)
    for t in range(length):
        if gates is not None:
            gate = gates[:, t].to(compute_dtype).sigmoid() ** (1.0 / GATE_ROOT)
            kept = gate.repeat_interleave(per_key, dim=1)[..., None]
        else:
            assert decay is not None
            kept = decay.to(compute_dtype).exp()[:, None, None]
        state = kept * state + k[:, t, :, :, None] * v[:, t, :, None, :]
        y[:, t] = scale * (state.transpose(-1, -2) @ q[:, t, :, :, None])[..., 0]
    return y, state


def retention_sequential(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    decay: Tensor,
    *,
    scale: float,
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    compute_dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """`linear_attention_sequential` by a decay of each head."""
    options = {"scale": scale, "compute_dtype": compute_dtype}
    if cu_seqlens is not None:
        return chunks.packed(
            retention_sequential, (q, k, v), (decay,), cu_seqlens, initial_state, options
        )
    return linear_attention_sequential(q, k, v, decay=decay, initial_state=initial_state, **options)


lightning_sequential = retention_sequential


def gla_sequential(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    *,
    scale: float,
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    compute_dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """`linear_attention_sequential` by gates of each key feature."""
    options = {"scale": scale, "compute_dtype": compute_dtype}
    if cu_seqlens is not None:
        return chunks.packed(gla_sequential, (q, k, v, a), (), cu_seqlens, initial_state, options)
    return linear_attention_sequential(q, k, v, gates=a, initial_state=initial_state, **options)


def retention_step_sequential(
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    decay: Tensor,
    *,
    scale: float,
    compute_dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """One token as `retention_sequential` has it: y and the new state in `compute_dtype`."""
    rows = (q[:, None], k[:, None], v[:, None])
    y, new = retention_sequential(
        *rows, decay, scale=scale, initial_state=state, compute_dtype=compute_dtype
    )
    return y[:, 0], new


lightning_step_sequential = retention_step_sequential


def gla_step_sequential(
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    *,
    scale: float,
    compute_dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """One token as `gla_sequential` has it: y and the new state in `compute_dtype`."""
    tokens = (x[:, None] for x in (q, k, v, a))
    y, new = gla_sequential(*tokens, scale=scale, initial_state=state, compute_dtype=compute_dtype)
    return y[:, 0], new
