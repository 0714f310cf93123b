"""RWKV-7 in plain torch: the oracle of the tests, and the provider on a CPU.

Promises: `rwkv7_sequential` follows the recurrence token by token in the dtype asked for; the
others give the same within fp32 rounding. Recurrence, for every head, the state (K, K) with keys
first: `S_t = (diag(exp(w_t)) - (a_t kk_t) kk_t^T) S_{t-1} + k_t v_t^T`, `o_t = S_t^T r_t`
(arXiv:2503.14456, equations 17 to 19, transposed); kk is the key that is removed, a the step size.

Chunked: with u_t = -kk_t^T S_{t-1} a chunk writes a kk u^T + k v^T, and all u of a chunk follow
from one unit lower triangular system.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ssmprof_kernels.reference import chunks


def rwkv7(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    kk: Tensor,
    a: Tensor,
    *,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """All (B, L, H, K), w the log decay; state (B, H, K, K). y is like v."""
    inputs = (r, w, k, v, kk, a)
    return _whole(rwkv7, inputs, True, initial_state, return_final_state, cu_seqlens)


def low_rank(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    removed: Tensor,
    added: Tensor,
    *,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """`rwkv7` by the key that is removed and the row that is added in its place: the transition is
    diag(exp(w)) - added removed^T."""
    inputs = (r, w, k, v, removed, added)
    return _whole(low_rank, inputs, False, initial_state, return_final_state, cu_seqlens)


def _whole(
    call: Callable[..., Any],
    inputs: tuple[Tensor, ...],
    by_rate: bool,
    initial_state: Tensor | None,
    wanted: bool | torch.dtype,
    cu_seqlens: Tensor | None,
) -> Tensor | tuple[Tensor, Tensor]:
    """A prompt of `call`; `by_rate`: the last input is the rate of the key that is removed."""
    if cu_seqlens is not None:
        options = {"return_final_state": wanted or True}
        found = chunks.packed(call, inputs, (), cu_seqlens, initial_state, options)
        return found[0] if wanted is False else found
    r, v = inputs[0], inputs[3]
    heads, key = v.shape[2], r.shape[3]
    state = chunks.first_state(initial_state, v, heads, key)
    y = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    for span in chunks.spans(v.shape[1]):
        *split, removed, last = (chunks.split(x[:, span], state.dtype, heads) for x in inputs)
        out, state = _span(*split, removed, removed * last if by_rate else last, state)
        y[:, span] = chunks.merge(out, span.stop - span.start)
    return chunks.finish(y, state, wanted)


def _span(
    r: Tensor, w: Tensor, k: Tensor, v: Tensor, kk: Tensor, added: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Chunks (B, H, n, C, K) of one span: outputs, and the state after it."""
    w = chunks.floor(w)
    so_far, to_end = chunks.until(w).exp_(), chunks.after(w).exp_()
    asked = kk * chunks.before(w).exp_()
    # u = -(kk S_before), part of it written by earlier tokens of the chunk.
    system = chunks.scores_before(kk, added, w)
    right = torch.cat([chunks.scores_before(kk, k, w) @ v, asked], dim=-1)
    solved = chunks.inverse(system) @ right
    inside, known = solved.split((v.shape[-1], k.shape[-1]), dim=-1)
    # Two rows are written by a token: u under the key that is removed, v under its own key.
    return chunks.walk(
        state,
        queries=r * so_far,
        mixed=torch.cat([chunks.scores(r, added, w), chunks.scores(r, k, w)], dim=-1),
        values=torch.cat([-inside, v], dim=-2),
        known=torch.cat([known, torch.zeros_like(known)], dim=-2),
        keys=torch.cat([added * to_end, k * to_end], dim=-2),
        kept=so_far[..., -1, :, None],
    )


def rwkv7_step(
    state: Tensor, r: Tensor, w: Tensor, k: Tensor, v: Tensor, kk: Tensor, a: Tensor
) -> Tensor:
    """One token, all (B, H, K). `state` (B, H, K, K) is overwritten."""
    wide = torch.promote_types(state.dtype, torch.float32)
    r, w, k, value, kk, a = (x.to(wide) for x in (r, w, k, v, kk, a))
    old = state.to(wide)
    asked = torch.einsum("bhk,bhkv->bhv", kk, old)
    new = torch.addcmul(old * w.exp()[..., None], k[..., None], value[..., None, :])
    new.addcmul_((kk * a)[..., None], asked[..., None, :], value=-1)
    state.copy_(new)
    return torch.einsum("bhk,bhkv->bhv", r, new).to(v.dtype)


def rwkv7_sequential(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    kk: Tensor,
    a: Tensor,
    *,
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    compute_dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """One token after the other, as the paper writes it; y and the state in `compute_dtype`."""
    if cu_seqlens is not None:
        options = {"compute_dtype": compute_dtype}
        return chunks.packed(
            rwkv7_sequential, (r, w, k, v, kk, a), (), cu_seqlens, initial_state, options
        )
    r, w, k, v, kk, a = (x.to(compute_dtype) for x in (r, w, k, v, kk, a))
    batch, length, heads, key = r.shape
    state = v.new_zeros(batch, heads, v.shape[-1], key)  # the paper's: values first
    if initial_state is not None:
        state = initial_state.to(compute_dtype).transpose(-1, -2)
    y = torch.empty_like(v)
    for t in range(length):
        removed = kk[:, t, :, :, None] * (a[:, t] * kk[:, t])[:, :, None, :]
        state = state @ (torch.diag_embed(w[:, t].exp()) - removed)
        state = state + v[:, t, :, :, None] * k[:, t, :, None, :]
        y[:, t] = (state @ r[:, t, :, :, None])[..., 0]
    return y, state.transpose(-1, -2)


def rwkv7_step_sequential(
    state: Tensor,
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    kk: Tensor,
    a: Tensor,
    *,
    compute_dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """One token as `rwkv7_sequential` has it: y and the new state in `compute_dtype`."""
    tokens = (x[:, None] for x in (r, w, k, v, kk, a))
    y, new = rwkv7_sequential(*tokens, initial_state=state, compute_dtype=compute_dtype)
    return y[:, 0], new
