"""One decode step of the short causal convolution in Triton; the state changes in place.

Promises: one launch; each channel of a slot belongs to one thread, so reading all taps first
makes the in-place shift safe; rows marked as padding touch no state; the state may have another
dtype than x. Formula: `op`.
"""

from __future__ import annotations

from typing import Any

import torch

from ssmprof_kernels import door, launch
from ssmprof_kernels.conv import plan, reference
from ssmprof_kernels.conv.op import check_filter, check_slots
from ssmprof_kernels.launch import recorded

_recordings: recorded.Recordings = {}
_lookups = launch.lookups()
_INPUTS = ("x", "conv_state", "weight", "bias", "state_indices", "cache_seqlens")


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
    """One or a few new tokens per row; `conv_state` is overwritten in place.

    Args:
        x: (B,D), or (B,l,D) for l new tokens.
        conv_state: (slots,D,S), S >= W-1: the last S inputs, oldest first; with `cache_seqlens` a
            ring in which the token at position p stands in column p mod S. fp32, fp16 or bf16,
            whatever x is.
        weight, bias, activation: as in `causal_conv1d`.
        state_indices: (B) int32 rows of `conv_state`; rows with `pad_index` or an index below 0
            yield zeros and touch nothing. None means row b uses slot b.
        cache_seqlens: (B) int32 positions of the first new token.

    Returns:
        y of x's shape and dtype.

    Raises:
        ValueError: an argument's shape, dtype, device or value does not fit; names it.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    inputs = (x, conv_state, weight, bias, state_indices, cache_seqlens)
    door.forward_only(_INPUTS, inputs)
    if not (x.is_cuda or door.interpreted()):
        _check(*inputs, activation=activation)
        return reference.causal_conv1d_update(
            x, conv_state, weight, bias, activation=activation, state_indices=state_indices,
            pad_index=pad_index, cache_seqlens=cache_seqlens,
        )  # fmt: skip
    key = recorded.key_of(inputs, activation, pad_index)
    meta = recorded.meta_of(_lookups, key, lambda: _lookup(inputs, activation))
    y = torch.empty_like(x)
    tensors = (*inputs, y)
    recorded.run(
        _recordings, key, meta, tensors, x.device,
        lambda: plan.record_update(tensors, pad_index, meta, silu=activation is not None),
    )  # fmt: skip
    return y


def _lookup(inputs: tuple[Any, ...], activation: str | None) -> launch.Lookup:
    _check(*inputs, activation=activation)
    return plan.lookup_update(inputs[0])


def _check(
    x: torch.Tensor,
    conv_state: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    state_indices: torch.Tensor | None,
    cache_seqlens: torch.Tensor | None,
    *,
    activation: str | None,
) -> None:
    if x.ndim not in (2, 3) or x.numel() == 0:
        raise ValueError(f"x must have shape (B,D) or (B,l,D), none 0, got {tuple(x.shape)}")
    batch, dim = x.shape[0], x.shape[-1]
    check_filter(weight, bias, activation, dim)
    check_slots(conv_state, dim, weight.shape[1] - 1, batch, "B", state_indices is not None)
    if state_indices is not None:
        door.shape("state_indices", state_indices, (batch,), "(B,)")
    if cache_seqlens is not None:
        door.shape("cache_seqlens", cache_seqlens, (batch,), "(B,)")
    door.same_device(
        x, conv_state=conv_state, weight=weight, bias=bias, state_indices=state_indices,
        cache_seqlens=cache_seqlens,
    )  # fmt: skip
    if x.is_cuda:
        door.dtype("x", x, door.FLOATS)
