"""What every recurrence over a matrix state needs in chunks: decays within one, and the walk.

Shape letters: B batch, L tokens, H heads, n chunks of C tokens, K and V width of a key and a value.
Log decays are none, one per token (..., C) or one per token and key feature (..., C, K). No
exponential of a positive number is ever taken, and no difference of two long sums: a decay between
two tokens is the exponential of the sum over the tokens between them, or a product of two such
(the anchored sub-blocks of arXiv:2312.06635, section 4.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssmprof_kernels import door

CHUNK = 64
# Tokens whose chunks are prepared together: bounds memory, whatever the length.
SPAN = 1024


def spans(length: int) -> Iterator[slice]:
    """Pieces of at most SPAN tokens."""
    for start in range(0, length, SPAN):
        yield slice(start, min(start + SPAN, length))


def split(x: Tensor, dtype: torch.dtype, heads: int) -> Tensor:
    """(B, L, H', ...) -> (B, heads, n, C, ...), missing tokens 0; head h is h // (heads / H')."""
    missing = -x.shape[1] % CHUNK
    x = F.pad(x.to(dtype), (0, 0) * (x.dim() - 2) + (0, missing))
    x = x.unflatten(1, (-1, CHUNK)).movedim(3, 1)
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def merge(y: Tensor, length: int) -> Tensor:
    """(B, H, n, C, V) -> (B, length, H, V)."""
    return y.movedim(1, 3).flatten(1, 2)[:, :length]


def floor(g: Tensor) -> Tensor:
    """Log decays, none so low that sums of them lose their digits: below, exp is 0 anyway."""
    return g.clamp(min=-110.0 if g.dtype == torch.float32 else -750.0)


def until(g: Tensor) -> Tensor:
    """Log decay from before the chunk to each token, its own included; along the axis of tokens."""
    return g.cumsum(-2)


def before(g: Tensor) -> Tensor:
    """Log decay from before the chunk to each token, its own not included."""
    return F.pad(g[..., :-1, :], (0, 0, 1, 0)).cumsum(-2)


def after(g: Tensor) -> Tensor:
    """Log decay from each token, its own not included, to the end of the chunk."""
    return before(g.flip(-2)).flip(-2)


def scores(q: Tensor, k: Tensor, g: Tensor | None, *, strict: bool = False) -> Tensor:
    """[i, j] = sum over features of q_i k_j exp(sum of g over j < s <= i): (..., C, C).

    Zero where j > i, and `strict`ly so where j = i. g is None, (..., C) or (..., C, K).
    """
    if g is None or g.dim() < q.dim():
        found = (q @ k.transpose(-1, -2)).tril(-1 if strict else 0)
        return found if g is None else found * _between(g)
    return _channels(q, k, g, strict=strict, own=True)


def scores_before(q: Tensor, k: Tensor, g: Tensor) -> Tensor:
    """As `scores`, strictly lower, the decay of token i itself left out; g (..., C, K)."""
    return _channels(q, k, g, strict=True, own=False)


def _between(g: Tensor) -> Tensor:
    """(..., C) -> (..., C, C): exp of the sum over j < s <= i, 0 above the diagonal."""
    size = g.shape[-1]
    lower = torch.ones(size, size, dtype=torch.bool, device=g.device).tril()
    sums = g[..., None].expand(*g.shape, size).masked_fill(~lower.tril(-1), 0.0).cumsum(-2)
    return sums.masked_fill_(~lower, -math.inf).exp_()


def _channels(q: Tensor, k: Tensor, g: Tensor, *, strict: bool, own: bool) -> Tensor:
    """By halves: pairs across the middle meet there, pairs within a half by the same rule."""
    size = q.shape[-2]
    if size == 1:
        return torch.zeros_like(q[..., :1]) if strict else (q * k).sum(-1, keepdim=True)
    q, k, g = (x.unflatten(-2, (2, size // 2)) for x in (q, k, g))
    second = g[..., 1, :, :]
    rows = q[..., 1, :, :] * (until(second) if own else before(second)).exp_()
    columns = k[..., 0, :, :] * after(g[..., 0, :, :]).exp_()
    inside = _channels(q, k, g, strict=strict, own=own)
    upper = F.pad(inside[..., 0, :, :], (0, size // 2))
    lower = torch.cat([rows @ columns.transpose(-1, -2), inside[..., 1, :, :]], dim=-1)
    return torch.cat([upper, lower], dim=-2)


def inverse(lower: Tensor) -> Tensor:
    """(I + lower)^-1 of strictly lower matrices (..., C, C), by halves: only products of matrices.

    Powers of `lower` would do, too, but cancel where keys repeat.
    """
    size = lower.shape[-1]
    if size == 1:
        return torch.ones_like(lower)
    half = size // 2
    corners = torch.stack([lower[..., :half, :half], lower[..., half:, half:]], dim=-3)
    corners = inverse(corners)
    first, second = corners.unbind(-3)
    below = second @ (lower[..., half:, :half] @ first)
    upper = F.pad(first, (0, half))
    return torch.cat([upper, torch.cat([-below, second], dim=-1)], dim=-2)


def walk(
    state: Tensor,
    *,
    queries: Tensor,
    mixed: Tensor,
    values: Tensor,
    known: Tensor | None,
    keys: Tensor,
    kept: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Chunk after chunk: w = values - known S, o = queries S + mixed w, S = kept S + keys^T w.

    state (B, H, K, V); queries (B, H, n, C, K); values and keys (B, H, n, R, ...), R rows written
    by a chunk; mixed (B, H, n, C, R); known (B, H, n, R, K) or None; kept (B, H, n, K or 1, 1) or
    None. Returns o (B, H, n, C, V) and the last state.
    """
    out = values.new_empty(*queries.shape[:-1], values.shape[-1])
    for c in range(queries.shape[2]):
        written = values[:, :, c]
        if known is not None:
            written = written - known[:, :, c] @ state
        out[:, :, c] = queries[:, :, c] @ state + mixed[:, :, c] @ written
        old = state if kept is None else state * kept[:, :, c]
        state = old + keys[:, :, c].transpose(-1, -2) @ written
    return out, state


def first_state(initial: Tensor | None, v: Tensor, heads: int, key: int) -> Tensor:
    """The state to begin with, (B, heads, key, V), at least float32; v is (B, L, H', V)."""
    wide = torch.promote_types(v.dtype, torch.float32)
    if initial is not None:
        return initial.to(wide)
    return torch.zeros(v.shape[0], heads, key, v.shape[-1], dtype=wide, device=v.device)


def finish(y: Tensor, state: Tensor, wanted: bool | torch.dtype) -> Tensor | tuple[Tensor, Tensor]:
    """The output, and the state in the dtype asked for, its own where only asked for."""
    if wanted is False:
        return y
    return y, state if wanted is True else state.to(wanted)


def packed(
    call: Callable[..., Any],
    tokens: Sequence[Tensor],
    fixed: Sequence[Tensor],
    cu_seqlens: Tensor,
    initial_state: Tensor | None,
    options: dict[str, Any],
) -> tuple[Tensor, Tensor]:
    """`call` on each of the sequences that are packed into one row, joined: outputs and states.

    `tokens` are cut by `cu_seqlens`, `fixed` are the same for all. A sequence of no tokens returns
    its initial state, or zeros (H, K, V) like those of the others.
    """
    outputs, states = [], []
    spans = door.spans(cu_seqlens, tokens[0].shape[1])
    for i, (low, high) in enumerate(spans):
        state = None if initial_state is None else initial_state[i : i + 1]
        # One token tells the shapes of a sequence that has none.
        some = [x[:, low : max(high, low + 1)] if low < x.shape[1] else x[:, :1] for x in tokens]
        y, last = call(*some, *fixed, initial_state=state, **options)
        if low == high:
            last = torch.zeros_like(last) if state is None else state.to(last.dtype)
        outputs.append(y[:, : high - low])
        states.append(last)
    return torch.cat(outputs, dim=1), torch.cat(states)
