"""`causal_conv1d_drafts`: a few tokens per sequence at once, inputs kept until they are accepted.

Speculative decoding verifies drafts: only after a call is known how many of its tokens count. So a
slot keeps all of them, and the next call's history ends with the last one that was accepted.
Promises: one launch; otherwise those of `update.causal_conv1d_update`.
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
_INPUTS = (
    *("x", "conv_state", "weight", "bias", "state_indices", "new_indices", "cu_seqlens"),
    "accepted",
)


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
    """Several new tokens of each sequence, from slot to slot.

    Args:
        x: (n,l,D), l tokens of each sequence, or (rows,D) with `cu_seqlens`.
        conv_state: (slots,D,S), overwritten in place. Without `accepted` the last S inputs, S at
            least W-1, oldest first. With it the W-2 inputs before the newest tokens, then these,
            of which there may be S-W+2 in a call.
        weight, bias, activation: as in `causal_conv1d`.
        state_indices: (n) int32, the slot each sequence starts from; sequence i has slot i if None.
        new_indices: (n) int32, the slot it is written to; `state_indices` if None.
        cu_seqlens: (n + 1) int32 on the device, ascending; sequence i has rows cu[i] .. cu[i + 1].
        accepted: (n) int32, how many tokens of the call before were accepted, at least one; the
            inputs behind them never were.
        pad_index: a slot of this index or below 0 is none: a sequence that starts from one has a y
            of 0 and writes nothing, inputs that go to one are not kept.

    Returns:
        y of x's shape and dtype.

    Raises:
        ValueError: an argument's shape, dtype, device or value does not fit; names it.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    inputs = (x, conv_state, weight, bias, state_indices, new_indices, cu_seqlens, accepted)
    door.forward_only(_INPUTS, inputs)
    if not (x.is_cuda or door.interpreted()):
        _check(*inputs, activation=activation)
        return reference.causal_conv1d_drafts(
            x, conv_state, weight, bias, activation=activation, state_indices=state_indices,
            new_indices=new_indices, cu_seqlens=cu_seqlens, accepted=accepted,
            pad_index=pad_index,
        )  # fmt: skip
    key = recorded.key_of(inputs, activation, pad_index)
    meta = recorded.meta_of(_lookups, key, lambda: _lookup(inputs, activation))
    y = torch.empty_like(x)
    tensors = (*inputs, y)
    recorded.run(
        _recordings, key, meta, tensors, x.device,
        lambda: plan.record_drafts(tensors, pad_index, meta, silu=activation is not None),
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
    new_indices: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    accepted: torch.Tensor | None,
    *,
    activation: str | None,
) -> None:
    axes, letters = (3, "(n,l,D)") if cu_seqlens is None else (2, "(rows,D) beside cu_seqlens")
    if x.ndim != axes or x.numel() == 0:
        raise ValueError(f"x must have shape {letters}, none 0, got {tuple(x.shape)}")
    n = x.shape[0] if cu_seqlens is None else door.cu_seqlens(cu_seqlens, 1)
    dim = x.shape[-1]
    check_filter(weight, bias, activation, dim)
    least = weight.shape[1] - 1
    if accepted is not None:
        door.shape("accepted", accepted, (n,), "(n)")
        least += (x.shape[1] if cu_seqlens is None else 1) - 1
    check_slots(conv_state, dim, least, n, "n", state_indices is not None)
    for name, table in (("state_indices", state_indices), ("new_indices", new_indices)):
        if table is not None:
            door.shape(name, table, (n,), "(n)")
            door.dtype(name, table, (torch.int32,))
    door.same_device(
        x, conv_state=conv_state, weight=weight, bias=bias, state_indices=state_indices,
        new_indices=new_indices, cu_seqlens=cu_seqlens, accepted=accepted,
    )  # fmt: skip
    if x.is_cuda:
        door.dtype("x", x, door.FLOATS)
