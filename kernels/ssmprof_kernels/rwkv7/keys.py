"""`rwkv7_keys`: what RWKV-7's rule is given, from what projections and low-rank products give.

Promises: one launch that reads each input once and writes each output once; bad input is refused
with one ValueError before it; no host synchronisation. CPU tensors take the plain torch form,
unless Triton's interpreter is switched on (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssmprof_kernels import door, reference
from ssmprof_kernels.launch import recorded, replay
from ssmprof_kernels.rwkv7.mixing_kernels import features, ssmprof_elementwise_rwkv7_keys
from ssmprof_kernels.rwkv7.plan import choose_heads, heads_of_program

_recordings: recorded.Recordings = {}
#: Order of the tensors of a call; what the kernel reads by token comes first.
_NAMES = ("w", "k", "a", "v", "v_first", "share", "removed", "added")


def rwkv7_keys(
    w: Tensor,
    k: Tensor,
    a: Tensor,
    v: Tensor,
    removed: Tensor,
    added: Tensor,
    *,
    v_first: Tensor | None = None,
    share: Tensor | None = None,
    heads: int,
    lowest: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Decays, keys, values and step sizes of RWKV-7 (arXiv:2503.14456, section 4).

    Args:
        w, a: (B, L, H K) or (B, H K), fp32, fp16 or bf16, any strides: logits of the decay and of
            the step size.
        k, v: like w, in k's dtype.
        removed, added: (H K): factors of the key that is removed and of the one that is added.
        v_first: like w: values that v is mixed with, by the sigmoid of `share`; neither is none.
        share: like w; logits.
        heads: H.
        lowest: the log decay is this times a sigmoid.

    Returns:
        Log decay, key that is added, values, key that is removed (of length one), step size, each
        (B, L, H, K) or (B, H, K) in the dtype of k; the values are v itself where nothing is mixed.

    Raises:
        ValueError: an argument's shape, dtype, device or value does not fit.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    tensors = (w, k, a, v, v_first, share, removed, added)
    door.forward_only(_NAMES, tensors)
    key = recorded.key_of(tensors, heads, lowest)
    if key not in _recordings:
        _check(tensors, heads)
    if not (k.is_cuda or door.interpreted()):
        return reference.rwkv7_keys(
            w, k, a, v, removed, added, v_first=v_first, share=share, heads=heads, lowest=lowest
        )
    shape = (*k.shape[:-1], heads, k.shape[-1] // heads)
    made = 4 if share is None else 5
    out = torch.empty((made, *shape), dtype=k.dtype, device=k.device)
    meta = choose_heads("rwkv7_keys", shape, k.device).meta
    recorded.run(
        _recordings, key, meta, (*tensors, out), k.device,
        lambda: _record(tensors, heads, lowest, meta),
    )  # fmt: skip
    if share is None:
        log_decay, added_key, removed_key, step_size = out.unbind(0)
        values = v.unflatten(-1, shape[-2:])
    else:
        log_decay, added_key, removed_key, step_size, values = out.unbind(0)
    return log_decay, added_key, values, removed_key, step_size


def _record(
    tensors: tuple[Tensor | None, ...], heads: int, lowest: float, meta: dict[str, Any]
) -> replay.Recording:
    k = tensors[1]
    assert k is not None
    batch, length = k.shape[0], k.shape[1] if k.dim() == 3 else 1
    width = k.shape[-1] // heads
    tile, most, warps = heads_of_program(heads, width, meta)
    blocks = -(-heads // most)
    arguments: dict[str, Any] = {}
    for i, (name, tensor) in enumerate(zip(_NAMES, tensors, strict=True)):
        arguments[f"{name}_ptr"] = replay.Arg(i)
        if name in ("removed", "added"):
            assert tensor is not None
            arguments[f"{name}_step"] = tensor.stride(0)
        else:
            arguments[f"{name}_steps"] = features(tensor)
    recording = replay.Recording(len(tensors) + 1)
    recording.add(
        ssmprof_elementwise_rwkv7_keys, batch * length * blocks, replay.launch_options(warps),
        **arguments, out_ptr=replay.Arg(len(tensors)), length=length, tokens=batch * length,
        blocks=blocks, lowest=lowest, H=heads, K=width, HEADS=most, BK=tile,
        MIXED=tensors[5] is not None,
    )  # fmt: skip
    return recording


def _check(tensors: tuple[Tensor | None, ...], heads: int) -> None:
    """ValueError for the first argument that does not fit."""
    given = dict(zip(_NAMES, tensors, strict=True))
    k, v_first, share = tensors[1], tensors[4], tensors[5]
    assert k is not None
    if k.dim() not in (2, 3) or 0 in k.shape:
        raise ValueError(
            f"k must have shape (B,L,HK) or (B,HK), none of them 0, got {tuple(k.shape)}"
        )
    if heads < 1 or k.shape[-1] % heads:
        raise ValueError(f"heads must divide HK = {k.shape[-1]}, got {heads}")
    if (v_first is None) != (share is None):
        raise ValueError("v_first and share are given together or not at all")
    for name, tensor in given.items():
        if tensor is None:
            continue
        if name in ("removed", "added"):
            door.shape(name, tensor, (k.shape[-1],), "(HK,)")
        else:
            door.shape(name, tensor, tuple(k.shape), "k's")
        if k.is_cuda or door.interpreted():
            door.dtype(name, tensor, door.FLOATS)
    v = tensors[3]
    if v is not None and v.dtype != k.dtype:
        raise ValueError(f"v must have k's dtype {k.dtype}, got {v.dtype}")
    door.same_device(k, **given)
