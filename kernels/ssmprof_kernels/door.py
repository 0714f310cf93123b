"""Argument checks shared by the operations: one ValueError says what was given and expected.

Promises: nothing here touches a device; a check that passes costs a tuple comparison. Every
function returns None or the value it derived, and raises ValueError naming the argument otherwise.
"""

from __future__ import annotations

import os

import torch

FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def interpreted() -> bool:
    """True when Triton's interpreter runs the kernels on CPU tensors (TRITON_INTERPRET=1)."""
    return os.environ.get("TRITON_INTERPRET", "0") not in ("", "0")


def shape(name: str, tensor: torch.Tensor, expected: tuple[int, ...], letters: str) -> None:
    """`tensor` must have the shape `expected`; `letters` spells it, for example '(B,L,D)'."""
    if tensor.shape != expected:
        raise ValueError(
            f"{name} must have shape {letters} = {tuple(expected)}, got {tuple(tensor.shape)}"
        )


def same_device(first: torch.Tensor, **others: torch.Tensor | None) -> None:
    """All tensors given must live where `first` lives."""
    for name, tensor in others.items():
        if tensor is not None and tensor.device != first.device:
            raise ValueError(
                f"{name} of shape {tuple(tensor.shape)} is on {tensor.device}, "
                f"expected {first.device} like the first argument"
            )


def dtype(name: str, tensor: torch.Tensor, allowed: tuple[torch.dtype, ...]) -> None:
    """`tensor` must have one of the `allowed` dtypes."""
    if tensor.dtype not in allowed:
        names = ", ".join(str(d).removeprefix("torch.") for d in allowed)
        raise ValueError(
            f"{name} of shape {tuple(tensor.shape)} must be {names}, "
            f"got {str(tensor.dtype).removeprefix('torch.')}"
        )


def cu_seqlens(tensor: torch.Tensor, batch: int) -> int:
    """Number of sequences in `cu_seqlens` (n+1) int32; such a batch is packed into B = 1."""
    if tensor.ndim != 1 or tensor.shape[0] < 2 or tensor.dtype != torch.int32:
        raise ValueError(
            "cu_seqlens must be int32 of shape (n+1,) with n >= 1, "
            f"got {str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
        )
    if batch != 1:
        raise ValueError(f"cu_seqlens needs sequences packed into batch 1, got batch {batch}")
    return tensor.shape[0] - 1
