"""`rwkv7_output`: what follows RWKV-7's rule, before the output projection.

Promises: one launch that reads each input once and writes each output once; bad input is refused
with one ValueError before it; no host synchronisation. CPU tensors take the plain torch form,
unless Triton's interpreter is switched on (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssmprof_kernels import door, reference
from ssmprof_kernels.device.segments import Tokens
from ssmprof_kernels.launch import recorded, replay
from ssmprof_kernels.rwkv7.mixing_kernels import features, ssmprof_norm_rwkv7_output
from ssmprof_kernels.rwkv7.plan import choose_heads, heads_of_program

_recordings: recorded.Recordings = {}
#: Order of the tensors of a call.
_NAMES = ("y", "r", "k", "v", "gate", "weight", "bonus", "bias")


def rwkv7_output(
    y: Tensor,
    r: Tensor,
    k: Tensor,
    v: Tensor,
    gate: Tensor,
    weight: Tensor,
    bonus: Tensor,
    *,
    bias: Tensor | None = None,
    eps: float,
) -> Tensor:
    """`(group_norm(y) + sum(r k bonus) v) gate` over the heads (arXiv:2503.14456, section 4).

    Args:
        y, r, k, v: (B, L, H, K) or (B, H, K), fp32, fp16 or bf16, any strides: what the rule gave,
            its queries, the keys that were added, values.
        gate: (B, L, H K) or (B, H K).
        weight, bonus: (H K).
        bias: (H K), of the norm.
        eps: added to the variance of a head.

    Returns:
        (B, L, H K) or (B, H K), contiguous, in the dtype of y.

    Raises:
        ValueError: an argument's shape, dtype or device does not fit.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    tensors = (y, r, k, v, gate, weight, bonus, bias)
    door.forward_only(_NAMES, tensors)
    key = recorded.key_of(tensors, eps)
    if key not in _recordings:
        _check(tensors)
    if not (y.is_cuda or door.interpreted()):
        return reference.rwkv7_output(y, r, k, v, gate, weight, bonus, bias=bias, eps=eps)
    out = torch.empty(gate.shape, dtype=y.dtype, device=y.device)
    meta = choose_heads("rwkv7_output", y.shape, y.device).meta
    recorded.run(
        _recordings, key, meta, (*tensors, out), y.device, lambda: _record(tensors, eps, meta)
    )
    return out


def _record(
    tensors: tuple[Tensor | None, ...], eps: float, meta: dict[str, Any]
) -> replay.Recording:
    y = tensors[0]
    assert y is not None
    batch, length = y.shape[0], y.shape[1] if y.dim() == 4 else 1
    heads, width = y.shape[-2:]
    tile, most, warps = heads_of_program(heads, width, meta)
    blocks = -(-heads // most)
    arguments: dict[str, Any] = {}
    for i, (name, tensor) in enumerate(zip(_NAMES, tensors, strict=True)):
        arguments[f"{name}_ptr"] = replay.Arg(i)
        if i < 4:
            assert tensor is not None
            between = tensor.stride(1) if tensor.dim() == 4 else 0
            steps = Tokens(tensor.stride(0), between, tensor.stride(-2), tensor.stride(-1))
            arguments[f"{name}_steps"] = steps
        elif name == "gate":
            arguments["gate_steps"] = features(tensor)
        else:
            arguments[f"{name}_step"] = 0 if tensor is None else tensor.stride(0)
    recording = replay.Recording(len(tensors) + 1)
    recording.add(
        ssmprof_norm_rwkv7_output, batch * length * blocks, replay.launch_options(warps),
        **arguments, out_ptr=replay.Arg(len(tensors)), length=length, blocks=blocks, eps=eps,
        H=heads, K=width, HEADS=most, BK=tile, BIAS=tensors[7] is not None,
    )  # fmt: skip
    return recording


def _check(tensors: tuple[Tensor | None, ...]) -> None:
    """ValueError for the first argument that does not fit."""
    given = {n: t for n, t in zip(_NAMES, tensors, strict=True) if t is not None}
    y = given["y"]
    if y.dim() not in (3, 4) or 0 in y.shape:
        raise ValueError(
            f"y must have shape (B,L,H,K) or (B,H,K), none of them 0, got {tuple(y.shape)}"
        )
    width = y.shape[-2] * y.shape[-1]
    for name, tensor in given.items():
        if name in ("y", "r", "k", "v"):
            door.shape(name, tensor, tuple(y.shape), "y's")
        elif name == "gate":
            door.shape(name, tensor, (*y.shape[:-2], width), "(B,L,HK) or (B,HK)")
        else:
            door.shape(name, tensor, (width,), "(HK,)")
        if y.is_cuda or door.interpreted():
            door.dtype(name, tensor, door.FLOATS)
    door.same_device(y, **given)
