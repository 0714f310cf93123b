"""Argument checks shared by the operations: one error says what was given and expected.

Promises: nothing here touches a device but `spans`, which the plain forms alone call; a check that
passes costs a tuple comparison. Every function returns None or the value it derived, and raises
ValueError naming the argument otherwise; `forward_only` raises RuntimeError.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

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


def spans(cu_seqlens: torch.Tensor, length: int) -> list[tuple[int, int]]:
    """(first token, end) of every sequence; reads the values, which must ascend from 0 to `length`.

    For the plain forms. Kernels never read them on the host: there y is 0 behind the last sequence.
    """
    ends = cu_seqlens.tolist()
    found = list(itertools.pairwise(ends))
    if ends[0] != 0 or ends[-1] != length or any(high < low for low, high in found):
        few = ", ".join(
            str(end) for end in (ends if len(ends) < 9 else [*ends[:4], "...", ends[-1]])
        )
        raise ValueError(f"cu_seqlens must ascend from 0 to L = {length}, got [{few}]")
    return found


def forward_only(names: Sequence[str], tensors: Sequence[torch.Tensor | None]) -> None:
    """RuntimeError if gradients are recorded and one of the tensors, called so, wants one.

    An operation is differentiated in none of its forms, on a CPU neither, so that a model behaves
    alike everywhere. A plain form of `ssmprof_kernels.reference`, called itself, is ordinary torch.
    """
    if torch.is_grad_enabled():
        for name, tensor in zip(names, tensors, strict=True):
            if tensor is not None and tensor.requires_grad:
                raise RuntimeError(
                    f"{name} requires a gradient, and ssmprof_kernels computes forwards only; "
                    f"call the model under torch.no_grad() or torch.inference_mode()"
                )
