"""The functions of causal_conv1d on our kernels: channel-first in, channel-first out.

Signatures follow causal_conv1d 1.7; the bodies are ours. Forward only.
"""

from __future__ import annotations

from typing import Any

import torch

import ssmprof_kernels
from ssmprof_kernels.compat.inference import forward_only

_ACTIVATIONS = {None: None, "silu": "silu", "swish": "silu"}


def _activation(name: str | None) -> str | None:
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation must be None, 'silu' or 'swish', got {name!r}")
    return _ACTIVATIONS[name]


def causal_conv1d_fn(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    seq_idx: torch.Tensor | None = None,
    initial_states: torch.Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: torch.Tensor | None = None,
    activation: str | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """x (B,D,L), weight (D,W), states (B,D,W-1) -> y (B,D,L), or (y, final_states).

    Tokens whose `seq_idx` is below 0 are padding: their y is 0 and they change no state.
    """
    forward_only(x=x, weight=weight, bias=bias, initial_states=initial_states)
    found: Any = ssmprof_kernels.causal_conv1d(
        x.transpose(1, 2),
        weight,
        bias,
        activation=_activation(activation),
        initial_state=initial_states,
        return_final_state=return_final_states,
        seq_idx=seq_idx,
    )
    if not return_final_states:
        return found.transpose(1, 2)
    y, final = found
    if final_states_out is not None:
        final = final_states_out.copy_(final)
    return y.transpose(1, 2), final


def causal_conv1d_varlen_states(
    x: torch.Tensor, cu_seqlens: torch.Tensor, state_len: int
) -> torch.Tensor:
    """The last S = `state_len` inputs of packed sequences: x (L,D), cu_seqlens (n+1) -> (n,D,S), 0
    before a sequence's first token."""
    forward_only(x=x)
    if x.ndim != 2 or cu_seqlens.ndim != 1:
        raise ValueError(
            f"x and cu_seqlens must have shape (L,D) and (n+1), got {tuple(x.shape)} and "
            f"{tuple(cu_seqlens.shape)}"
        )
    starts, ends = cu_seqlens[:-1, None].long(), cu_seqlens[1:, None].long()
    at = ends - state_len + torch.arange(state_len, device=x.device)
    inside = (at >= starts).unsqueeze(-1)
    return torch.where(inside, x[at.clamp(min=0)], 0).transpose(1, 2)


def causal_conv1d_update(
    x: torch.Tensor,
    conv_state: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    activation: str | None = None,
    cache_seqlens: torch.Tensor | None = None,
    conv_state_indices: torch.Tensor | None = None,
) -> torch.Tensor:
    """x (B,D) or (B,D,l); `conv_state` (slots,D,S) changes in place -> y of x's shape.

    A row whose index is below 0 is padding: its y is 0 and no state changes.
    """
    forward_only(x=x, conv_state=conv_state, weight=weight, bias=bias)
    tokens = x.transpose(1, 2) if x.ndim == 3 else x
    y = ssmprof_kernels.causal_conv1d_update(
        tokens,
        conv_state,
        weight,
        bias,
        activation=_activation(activation),
        state_indices=conv_state_indices,
        cache_seqlens=cache_seqlens,
    )
    return y.transpose(1, 2) if x.ndim == 3 else y
