"""What fla's operations share beside the recurrence: layout of states, one token, packed ends.

fla's states are (n,H,K,V), or (n,H,V,K) with `state_v_first`; they are never overwritten.
"""

from __future__ import annotations

import torch
from torch import Tensor


def entering(state: Tensor | None, turned: bool) -> Tensor | None:
    """The state that was passed, as our kernel reads it: a view, turned where layouts differ."""
    return state if state is None or not turned else state.transpose(-1, -2)


def leaving(final: Tensor | None, turned: bool, wanted: bool) -> Tensor | None:
    """The state that is handed back, None unless it is wanted."""
    if final is None or not wanted:
        return None
    return final.transpose(-1, -2).contiguous() if turned else final


def copied(state: Tensor | None, q: Tensor, v: Tensor, heads: int) -> Tensor:
    """A state (B,H,K,V) in fp32 that a kernel of one token may overwrite: 0 where none is given."""
    size = (q.shape[0], heads, q.shape[3], v.shape[3])
    made = torch.empty(size, dtype=torch.float32, device=q.device)
    return made.zero_() if state is None else made.copy_(state)


def packed_ends(cu_seqlens: Tensor | None) -> Tensor | None:
    """The ends as our kernels read them, in int32; fla takes int64 too."""
    return None if cu_seqlens is None else cu_seqlens.to(torch.int32)


def forward_in_time(reverse: bool) -> None:
    """ValueError where a walk backwards is asked for."""
    if reverse:
        raise ValueError("reverse=True is not offered; the recurrence runs forward in time")
