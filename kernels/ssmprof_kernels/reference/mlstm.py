"""The matrix LSTM in plain torch (arXiv:2405.04517, section 2.3): chunks, step, oracle.

Equations 19 to 27, per head: `C_t = f_t C_{t-1} + i_t v_t k_t^T`, `n_t = f_t n_{t-1} + i_t k_t`,
`h_t = C_t q_t / max(|n_t q_t|, 1)` with `i = exp`, `f = sigmoid` of the gates, both bounded by
`cap tanh(x / cap)` where there is one, and q divided by sqrt(K). C and n are kept times exp(-m),
where m is the running maximum (equation 15 of the paper): no factor exceeds one. The chunked form
is that of arXiv:2503.14376, section 3.

Shapes: q and k (B, L, H, K), v (B, L, H, V), gates (B, L, H); state (B, H K V + H K + H): C with
the key index first, n, and m.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 64
# Chunks that are computed at once, on a CPU and elsewhere: memory grows with them, and not with the
# prompt, and it should be little where it is measured.
CPU_CHUNKS, CHUNKS = 32, 4
EPS = 1e-6


def _capped(gate: Tensor, cap: float | None) -> Tensor:
    return gate if cap is None else cap * torch.tanh(gate / cap)


def parts(state: Tensor, heads: int, key: int, value: int) -> tuple[Tensor, Tensor, Tensor]:
    """Views of a state (B, ...): C (B, H, K, V), n (B, H, K), m (B, H)."""
    C, n, m = state.split((heads * key * value, heads * key, heads), dim=1)
    return C.unflatten(1, (heads, key, value)), n.unflatten(1, (heads, key)), m


def mlstm_scan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    input_gate: Tensor,
    forget_gate: Tensor,
    *,
    cap: float | None = None,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """A whole prompt; memory does not grow with its length. Returns (B, L, H, V)."""
    compute = torch.promote_types(v.dtype, torch.float32)
    batch, length, heads, key = k.shape
    value = v.shape[-1]
    out = torch.empty_like(v, memory_format=torch.contiguous_format)
    state = v.new_zeros(batch, heads * (key * value + key + 1), dtype=compute)
    if initial_state is not None:
        state = initial_state.to(compute)
    C, n, m = parts(state, heads, key, value)
    C = torch.cat([C, n[..., None]], -1)  # the normaliser is one more value, of ones
    size = CHUNK * (CPU_CHUNKS if v.device.type == "cpu" else CHUNKS)
    for lo in range(0, length, size):
        span = slice(lo, min(lo + size, length))
        qs, ks, vs = (t[:, span].to(compute).transpose(1, 2) for t in (q, k, v))
        i, f = (
            _capped(t[:, span].to(compute), cap).transpose(1, 2) for t in (input_gate, forget_gate)
        )
        y, C, m = _segment(qs * key**-0.5, ks, F.pad(vs, (0, 1), value=1.0), i, f, C, m)
        out[:, span] = y.transpose(1, 2)
    if return_final_state is False:
        return out
    wanted = torch.float32 if return_final_state is True else return_final_state
    final = (C[..., :-1].flatten(1), C[..., -1].flatten(1), m)
    return out, torch.cat(final, 1).to(wanted)


def _segment(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, C: Tensor, m: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Chunks at once: q, k (B, H, T, K), v (B, H, T, V + 1), gates (B, H, T); C and m as kept.

    Returns h (B, H, T, V), and C and m after them.
    """
    length = q.shape[2]
    missing = -length % CHUNK
    q, k, v = (F.pad(t, (0, 0, 0, missing)).unflatten(2, (-1, CHUNK)) for t in (q, k, v))
    # Padding forgets nothing and lets nothing in.
    i = F.pad(i, (0, missing), value=-math.inf).unflatten(2, (-1, CHUNK))
    f = F.pad(F.logsigmoid(f), (0, missing)).unflatten(2, (-1, CHUNK))
    summed = f.cumsum(-1)
    left = summed[..., -1:] - summed + i
    most = left.amax(-1)
    added = (k * torch.exp(left - most[..., None])[..., None]).transpose(-1, -2) @ v
    # C before each chunk and behind the last, each times exp(-its maximum).
    ends = summed[..., -1].double().cumsum(-1)
    starts = F.pad(ends, (1, 0))
    reached = torch.cat([m.double()[..., None], most - ends], -1).cummax(-1).values
    top = starts + reached
    chunks = ends.shape[-1]
    known = torch.ones(chunks + 1, chunks, dtype=torch.bool, device=q.device).tril(-1)
    gaps = (starts - top)[..., :, None] + (most - ends)[..., None, :]
    kept = torch.exp(gaps.masked_fill(~known, -math.inf)).to(q.dtype)
    states = (kept @ added.flatten(3)).unflatten(3, added.shape[3:])
    first = torch.exp(starts + m.double()[..., None] - top).to(q.dtype)
    states = states + first[..., None, None] * C[:, :, None]
    # Within the chunks, and from the state before them.
    top = top.to(q.dtype)
    inside = summed[..., :, None] - summed[..., None, :] + i[..., None, :]
    visible = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=q.device).tril()
    inside = inside.masked_fill(~visible, -math.inf)
    before = summed + top[..., :-1, None]
    maximum = torch.maximum(before, inside.amax(-1))
    scores = q @ k.transpose(-1, -2) * torch.exp(inside - maximum[..., None])
    made = scores @ v + torch.exp(before - maximum)[..., None] * (q @ states[:, :, :-1])
    h = _normed(made[..., :-1], made[..., -1], maximum)
    return h.flatten(2, 3)[:, :, :length], states[:, :, -1], top[..., -1]


def _normed(h: Tensor, n: Tensor, m: Tensor) -> Tensor:
    """h (..., V) over the larger of |n| and 1, both times exp(-m)."""
    return h / (torch.maximum(n.abs(), torch.exp(-m)) + EPS)[..., None]


def mlstm_step(
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    input_gate: Tensor,
    forget_gate: Tensor,
    *,
    cap: float | None = None,
) -> Tensor:
    """One token, without the L of the shapes above; the state is overwritten in place."""
    compute = torch.promote_types(v.dtype, torch.float32)
    held = parts(state, k.shape[1], k.shape[2], v.shape[-1])
    C, n, m = (t.to(compute) for t in held)
    qs, ks, vs = (t.to(compute) for t in (q, k, v))
    i, f = (_capped(t.to(compute), cap) for t in (input_gate, forget_gate))
    f = F.logsigmoid(f) + m
    m = torch.maximum(f, i)
    f, i = torch.exp(f - m)[..., None], torch.exp(i - m)[..., None]
    C = f[..., None] * C + (i * ks)[..., None] * vs[:, :, None]
    n = f * n + i * ks
    for old, new in zip(held, (C, n, m), strict=True):
        old.copy_(new)
    qs = qs * k.shape[-1] ** -0.5
    made = (qs[:, :, None] @ C).squeeze(2)
    return _normed(made, (qs * n).sum(-1), m).to(v.dtype)


def mlstm_sequential(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    input_gate: Tensor,
    forget_gate: Tensor,
    *,
    cap: float | None = None,
    compute_dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Token by token as the equations are written, without a maximum; from nothing."""
    q, k, v, i, f = (t.to(compute_dtype) for t in (q, k, v, input_gate, forget_gate))
    batch, length, heads, key = k.shape
    C, n = v.new_zeros(batch, heads, key, v.shape[-1]), v.new_zeros(batch, heads, key)
    y = torch.empty_like(v)
    for t in range(length):
        into = torch.exp(_capped(i[:, t], cap))
        kept = 1 / (1 + torch.exp(-_capped(f[:, t], cap)))
        C = kept[..., None, None] * C + into[..., None, None] * torch.einsum(
            "bhk,bhv->bhkv", k[:, t], v[:, t]
        )
        n = kept[..., None] * n + into[..., None] * k[:, t]
        query = q[:, t] / key**0.5
        most = torch.clamp((n * query).sum(-1).abs(), min=1.0)
        y[:, t] = torch.einsum("bhkv,bhk->bhv", C, query) / most[..., None]
    return y
