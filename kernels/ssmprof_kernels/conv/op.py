"""Short causal convolution over time in Triton.

Promises: one launch; every input is read from memory once but for a halo of W-1 tokens per tile;
accumulation in fp32; any strides. y_t = act(bias + sum_j weight[:, W-1-j] * x_{t-j}); taps before
the first token of a sequence read the initial state, zeros where None. Shapes: x (B,L,D), weight
(D,W) with W = 2..4, bias (D), states (B,D,W-1) with the oldest input first.
"""

from __future__ import annotations

from typing import Any

import torch

from ssmprof_kernels import door, launch
from ssmprof_kernels.conv import plan, reference
from ssmprof_kernels.launch import recorded

_recordings: recorded.Recordings = {}
_lookups = launch.lookups()
_INPUTS = ("x", "weight", "bias", "initial_state", "seq_idx", "cu_seqlens")


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
    """Depthwise causal convolution of width W over the tokens of each sequence.

    Args:
        x: (B,L,D) fp32, fp16 or bf16, any strides (channel-first by strides included).
        weight: (D,W), W = 2, 3 or 4; the last column multiplies the current token.
        bias: (D) or None.
        activation: "silu" or None.
        initial_state: (B,D,W-1), or (n,D,W-1) with `cu_seqlens`; the inputs before the first token.
        return_final_state: also return the last W-1 inputs of each sequence, (B or n,D,W-1).
        cu_seqlens: (n+1) int32 on the device, ascending from 0 to L; sequences packed into batch 1,
            empty ones allowed. On a GPU, which tells nobody its values, y is 0 behind a last
            sequence that ends before L.
        seq_idx: (B,L) int32; taps reach back only while the id stays the same. Where it is below 0
            stands padding: y is 0, and the final state is that of the last token before it.

    Returns:
        y of x's shape and dtype, or (y, final_state).

    Raises:
        ValueError: an argument's shape, dtype, device or value does not fit; names it. On a CPU
            also cu_seqlens that do not ascend from 0 to L.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    inputs = (x, weight, bias, initial_state, seq_idx, cu_seqlens)
    door.forward_only(_INPUTS, inputs)
    if not (x.is_cuda or door.interpreted()):
        _check(*inputs, activation=activation)
        return reference.causal_conv1d(
            x, weight, bias, activation=activation, initial_state=initial_state,
            return_final_state=return_final_state, cu_seqlens=cu_seqlens, seq_idx=seq_idx,
        )  # fmt: skip
    key = recorded.key_of(inputs, activation, return_final_state)
    y = torch.empty_like(x)
    meta = recorded.meta_of(_lookups, key, lambda: _lookup(inputs, y, activation))
    n = x.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
    final = x.new_empty(n, x.shape[2], weight.shape[1] - 1) if return_final_state else None
    tensors = (*inputs, y, final)
    recorded.run(
        _recordings, key, meta, tensors, x.device,
        lambda: plan.record(tensors, n, meta, silu=activation is not None),
    )  # fmt: skip
    return y if final is None else (y, final)


def _lookup(inputs: tuple[Any, ...], y: torch.Tensor, activation: str | None) -> launch.Lookup:
    _check(*inputs, activation=activation)
    x, _, _, _, seq_idx, cu_seqlens = inputs
    return plan.lookup(x, y, varies=seq_idx is not None or cu_seqlens is not None)


def _check(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    initial_state: torch.Tensor | None,
    seq_idx: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    *,
    activation: str | None,
) -> None:
    if x.ndim != 3 or x.numel() == 0:
        raise ValueError(f"x must have shape (B,L,D), none of them 0, got {tuple(x.shape)}")
    batch, length, dim = x.shape
    check_filter(weight, bias, activation, dim)
    n = batch if cu_seqlens is None else door.cu_seqlens(cu_seqlens, batch)
    if initial_state is not None:
        expected = (n, dim, weight.shape[1] - 1)
        door.shape("initial_state", initial_state, expected, "(B,D,W-1)")
    if seq_idx is not None:
        door.shape("seq_idx", seq_idx, (batch, length), "(B,L)")
    door.same_device(
        x, weight=weight, bias=bias, initial_state=initial_state, cu_seqlens=cu_seqlens,
        seq_idx=seq_idx,
    )  # fmt: skip
    if x.is_cuda:
        door.dtype("x", x, door.FLOATS)


def check_filter(
    weight: torch.Tensor, bias: torch.Tensor | None, activation: str | None, dim: int
) -> None:
    """ValueError unless weight (D,W), bias (D) and activation fit `dim` channels."""
    if weight.ndim != 2 or weight.shape[0] != dim or not 2 <= weight.shape[1] <= 4:
        raise ValueError(f"weight must have shape (D,W) = ({dim}, 2..4), got {tuple(weight.shape)}")
    if bias is not None:
        door.shape("bias", bias, (dim,), "(D,)")
    if activation not in (None, "silu"):
        raise ValueError(f"activation must be None or 'silu', got {activation!r}")


def check_slots(
    conv_state: torch.Tensor, dim: int, least: int, rows: int, letter: str, indexed: bool
) -> None:
    """ValueError unless conv_state (slots,D,S) has room for `least` inputs of `dim` channels, and
    a slot for each of `rows` where no index says which."""
    room = conv_state.shape[2] if conv_state.ndim == 3 else 0
    if room < least or conv_state.shape[1] != dim:
        raise ValueError(
            f"conv_state must have shape (slots,D,S) = (slots, {dim}, {least} or more), "
            f"got {tuple(conv_state.shape)}"
        )
    if not indexed and conv_state.shape[0] < rows:
        raise ValueError(
            f"conv_state must have at least {letter} = {rows} slots, got {tuple(conv_state.shape)}"
        )
