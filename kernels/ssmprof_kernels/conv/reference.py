"""Short causal convolution over time and its one-token update in plain torch.

Promises: y_t = act(bias + sum_j weight[:, W-1-j] * x_{t-j}), taps before the first token of a
sequence read the initial state (zeros where None). The `_sequential` forms keep a window and walk
token by token in the dtype of `x` (fp64 capable); the others compute in fp32 (fp64 stays fp64), so
many tokens at once that what they hold between does not grow with the length. A token whose id is
below 0 is padding: y is 0, its input reaches nothing, and what follows begins anew. Shapes: x
(B,L,D), weight (D,W), bias (D), states (B,D,W-1), oldest input first.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ssmprof_kernels import door

#: Numbers of one piece of tokens: 16 MiB in fp32.
PIECE = 1 << 22


def _wide(x: torch.Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _ranges(x: torch.Tensor, cu_seqlens: torch.Tensor | None) -> list[tuple[int, int, int]]:
    """(row, first token, end) of every sequence."""
    if cu_seqlens is None:
        return [(b, 0, x.shape[1]) for b in range(x.shape[0])]
    return [(0, a, b) for a, b in door.spans(cu_seqlens, x.shape[1])]


def causal_conv1d_sequential(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str | None = None,
    initial_state: torch.Tensor | None = None,
    return_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    seq_idx: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Token by token with a sliding window; the oracle of the tests."""
    width = weight.shape[1]
    ranges = _ranges(x, cu_seqlens)
    y = torch.zeros_like(x)
    final = x.new_zeros(len(ranges), x.shape[2], width - 1)
    for n, (row, first, end) in enumerate(ranges):
        window = x.new_zeros(x.shape[2], width - 1)
        if initial_state is not None:
            window = initial_state[n].to(x.dtype)
        for t in range(first, end):
            if seq_idx is not None and seq_idx[row, t] < 0:
                continue
            if seq_idx is not None and t > first and seq_idx[row, t] != seq_idx[row, t - 1]:
                window = torch.zeros_like(window)
            taps = torch.cat([window, x[row, t][:, None]], dim=1)
            out = (taps * weight.to(x.dtype)).sum(1)
            if bias is not None:
                out = out + bias.to(x.dtype)
            y[row, t] = F.silu(out) if activation == "silu" else out
            window = taps[:, 1:]
        final[n] = window
    return (y, final) if return_final_state else y


def causal_conv1d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str | None = None,
    initial_state: torch.Tensor | None = None,
    return_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    seq_idx: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Many tokens at once, W shifted products; the signature and result of the kernel."""
    if cu_seqlens is not None:
        parts = []
        for n, (_, a, b) in enumerate(_ranges(x, cu_seqlens)):
            parts.append(
                _one_length(
                    x[:, a:b],
                    weight,
                    bias,
                    activation,
                    None if initial_state is None else initial_state[n : n + 1],
                    None if seq_idx is None else seq_idx[:, a:b],
                )
            )
        y = torch.cat([p[0] for p in parts], dim=1)
        final = torch.cat([p[1] for p in parts], dim=0)
    else:
        y, final = _one_length(x, weight, bias, activation, initial_state, seq_idx)
    return (y, final) if return_final_state else y


def _one_length(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str | None,
    initial_state: torch.Tensor | None,
    seq_idx: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    batch, length, dim = x.shape
    taps = weight.shape[1] - 1
    if initial_state is None:
        head = x.new_zeros(batch, taps, dim)
    else:
        head = initial_state.transpose(1, 2).to(x.dtype)
    ids = None
    if seq_idx is not None:
        # The initial state belongs to the first id.
        ids = torch.cat([seq_idx[:, :1].expand(-1, taps), seq_idx], dim=1)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    piece = max(taps, 1, PIECE // max(1, batch * dim))
    for start in range(0, length, piece):
        stop = min(start + piece, length)
        seen = torch.cat([head, x[:, :stop]], dim=1) if start == 0 else x[:, start - taps : stop]
        here = None if ids is None else ids[:, start : stop + taps]
        y[:, start:stop] = _tokens(seen, weight, bias, activation, here)
    if seq_idx is not None and length:
        final = _last_inputs(torch.cat([head, x], dim=1), seq_idx, taps)
    else:
        final = torch.cat([head, x[:, max(0, length - taps) :]], dim=1)
        final = final[:, final.shape[1] - taps :].transpose(1, 2)
    return y, final.contiguous()


def _tokens(
    seen: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str | None,
    ids: torch.Tensor | None,
) -> torch.Tensor:
    """(B,W-1+q,D) -> (B,q,D): what q tokens read, and the ids (B,W-1+q) of it."""
    wide = _wide(seen)
    taps = weight.shape[1] - 1
    length = seen.shape[1] - taps
    w = weight.to(wide)
    keep = None
    out = seen[:, taps:].to(wide) * w[:, taps]
    for j in range(1, taps + 1):
        part = seen[:, taps - j : taps - j + length].to(wide) * w[:, taps - j]
        if ids is not None:
            # A tap counts while no id changed between it and the token.
            same = ids[:, taps:] == ids[:, taps - j : taps - j + length]
            keep = same if keep is None else keep & same
            part = torch.where(keep[..., None], part, 0)
        out += part
    if bias is not None:
        out += bias.to(wide)
    if activation == "silu":
        out = F.silu(out)
    if ids is not None:
        out = torch.where((ids[:, taps:] >= 0)[..., None], out, 0)
    return out.to(seen.dtype)


def _last_inputs(padded: torch.Tensor, seq_idx: torch.Tensor, count: int) -> torch.Tensor:
    """(B,D,count) inputs up to the last token that is no padding, 0 where another id lies between;
    `padded` (B,count+L,D) begins with the initial state, which belongs to the first id."""
    length = seq_idx.shape[1]
    after = torch.arange(1, length + 1, device=seq_idx.device)
    ends = torch.where(seq_idx >= 0, after, 0).amax(1)  # tokens up to the last one; 0 if none
    at = ends[:, None] + torch.arange(count, device=seq_idx.device)
    ids = torch.cat([seq_idx[:, :1].expand(-1, count), seq_idx], dim=1)
    last = ids.gather(1, (ends + count - 1)[:, None])
    keep = (ids.gather(1, at) == last).flip(1).int().cumprod(1).flip(1).bool()
    found = padded.gather(1, at[..., None].expand(-1, -1, padded.shape[2]))
    return torch.where(keep[..., None], found, 0).transpose(1, 2)


def causal_conv1d_update_sequential(
    x: torch.Tensor,
    conv_state: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str | None = None,
    state_indices: torch.Tensor | None = None,
    pad_index: int = -1,
    cache_seqlens: torch.Tensor | None = None,
) -> torch.Tensor:
    """Row by row, token by token; `conv_state` is overwritten in place. The oracle of the tests."""
    tokens = x if x.ndim == 3 else x[:, None]
    y = torch.zeros_like(tokens)
    width, room = weight.shape[1], conv_state.shape[2]
    for row in range(tokens.shape[0]):
        slot = row if state_indices is None else int(state_indices[row])
        if slot < 0 or (state_indices is not None and slot == pad_index):
            continue
        state = conv_state[slot]
        for t in range(tokens.shape[1]):
            if cache_seqlens is None:
                history = state[:, room - width + 1 :].to(x.dtype)
            else:
                at = int(cache_seqlens[row]) + t
                ring = [(at - width + 1 + k) % room for k in range(width - 1)]
                history = state[:, ring].to(x.dtype)
            taps = torch.cat([history, tokens[row, t][:, None]], dim=1)
            out = (taps * weight.to(x.dtype)).sum(1)
            if bias is not None:
                out = out + bias.to(x.dtype)
            y[row, t] = F.silu(out) if activation == "silu" else out
            new = tokens[row, t].to(state.dtype)
            if cache_seqlens is None:
                state.copy_(torch.cat([state[:, 1:], new[:, None]], dim=1))
            else:
                state[:, (int(cache_seqlens[row]) + t) % room] = new
    return y.reshape(x.shape)


def causal_conv1d_update(
    x: torch.Tensor,
    conv_state: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str | None = None,
    state_indices: torch.Tensor | None = None,
    pad_index: int = -1,
    cache_seqlens: torch.Tensor | None = None,
) -> torch.Tensor:
    """All rows at once; the signature and result of the kernel. `conv_state` changes in place."""
    wide = _wide(x)
    tokens = x if x.ndim == 3 else x[:, None]
    batch, length, _ = tokens.shape
    width, room = weight.shape[1], conv_state.shape[2]
    rows = torch.arange(batch, device=x.device)
    slots = rows if state_indices is None else state_indices.long()
    if state_indices is not None:
        rows = rows[(slots >= 0) & (slots != pad_index)]
        slots = slots[rows]
    out = torch.zeros_like(tokens)
    state = conv_state[slots]
    at = None
    if cache_seqlens is not None:
        # Turn the ring so that the oldest input comes first; it is turned back below.
        at = cache_seqlens[rows].long()
        order = (at[:, None] + torch.arange(room, device=x.device)) % room
        state = state.gather(2, order[:, None].expand_as(state))
    taps = torch.cat([state.to(wide), tokens[rows].transpose(1, 2).to(wide)], dim=2)
    y = torch.zeros_like(taps[:, :, :length])
    for j in range(width):
        start = room - width + 1 + j
        y += taps[:, :, start : start + length] * weight[:, j].to(wide)[:, None]
    if bias is not None:
        y += bias.to(wide)[:, None]
    if activation == "silu":
        y = F.silu(y)
    out[rows] = y.transpose(1, 2).to(x.dtype)
    new = taps[:, :, length : length + room].to(conv_state.dtype)
    if at is not None:
        order = (at[:, None] + length + torch.arange(room, device=x.device)) % room
        new = torch.empty_like(new).scatter_(2, order[:, None].expand_as(new), new)
    conv_state[slots] = new
    return out.reshape(x.shape)


def causal_conv1d_drafts(
    x: torch.Tensor,
    conv_state: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str | None = None,
    state_indices: torch.Tensor | None = None,
    new_indices: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    accepted: torch.Tensor | None = None,
    pad_index: int = -1,
) -> torch.Tensor:
    """Sequence by sequence; the signature and result of the kernel. `conv_state` changes in place.

    fp64 inputs are computed in fp64: then the oracle of the tests.
    """
    wide, taps = _wide(x), weight.shape[1]
    new_indices = state_indices if new_indices is None else new_indices
    y = torch.zeros_like(x)
    spans = None if cu_seqlens is None else cu_seqlens.tolist()
    for i in range(len(x) if spans is None else len(spans) - 1):
        tokens, out = (t[i] if spans is None else t[spans[i] : spans[i + 1]] for t in (x, y))
        slot, new = (i if t is None else int(t[i]) for t in (state_indices, new_indices))
        if slot < 0 or slot == pad_index or not len(tokens):
            continue
        state = conv_state[slot]
        if accepted is not None:
            # What lies behind the last accepted draft never was.
            state = state[:, : max(int(accepted[i]), 1) + taps - 2]
        inputs = torch.cat([state.to(wide), tokens.T.to(wide)], dim=1)
        windows = inputs[:, -(len(tokens) + taps - 1) :].unfold(1, taps, 1)
        result = (windows * weight.to(wide)[:, None]).sum(2)
        if bias is not None:
            result = result + bias.to(wide)[:, None]
        out.copy_((F.silu(result) if activation == "silu" else result).T)
        if new >= 0 and new != pad_index:
            room = conv_state.shape[2]
            if accepted is not None:
                room = min(room, taps - 2 + len(tokens))
                inputs = inputs[:, -(taps - 2 + len(tokens)) :]
            else:
                inputs = inputs[:, -room:]
            conv_state[new, :, :room] = inputs[:, :room].to(conv_state.dtype)
    return y
