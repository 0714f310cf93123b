"""`rwkv7_step`: RWKV-7's rule for one token, the state updated in place.

Promises: one launch that reads and writes each state element once; bad input is refused with one
ValueError before it; no host synchronisation. CPU tensors take the plain torch form, unless
Triton's interpreter is switched on (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssmprof_kernels import door, launch, reference
from ssmprof_kernels.device.segments import State, Token
from ssmprof_kernels.launch import recorded, replay
from ssmprof_kernels.rwkv7.plan import tile
from ssmprof_kernels.rwkv7.step_kernel import ssmprof_scan_rwkv7_step

_recordings: recorded.Recordings = {}
#: Order of the tensors of a call.
_NAMES = ("state", "r", "w", "k", "v", "kk", "a")
#: Columns of a state that a program owns, and its launch shape.
DEFAULT: dict[str, Any] = {"BLOCK": 16, "num_warps": 2}


def rwkv7_step(
    state: Tensor, r: Tensor, w: Tensor, k: Tensor, v: Tensor, kk: Tensor, a: Tensor
) -> Tensor:
    """`S = (diag(exp(w)) - (a kk) kk^T) S + k v^T`, `o = S^T r` for one token (arXiv:2503.14456).

    Args:
        state: (B, H, K, V), fp32, bf16 or fp16, any strides; **overwritten in place**.
        r, w, k, kk, a: (B, H, K), fp32, fp16 or bf16. w is the log decay, kk the key that is
            removed, a the step size.
        v: (B, H, V).

    Returns:
        y (B, H, V) in the dtype of v.

    Raises:
        ValueError: an argument's shape, dtype or device does not fit.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    tensors = (state, r, w, k, v, kk, a)
    door.forward_only(_NAMES, tensors)
    key = recorded.key_of(tensors)
    if key not in _recordings:
        _check(*tensors)
    if not state.is_cuda and not door.interpreted():
        return reference.rwkv7_step(*tensors)
    batch, heads, width, _ = state.shape
    fill = launch.fill_bucket(batch * heads, launch.facts(state.device).sm_count)
    bucket = f"{state.element_size() * 8}b-K{tile(width)}-{fill}"
    meta = launch.pick("rwkv7_step", bucket, state.device, DEFAULT).meta
    y = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    recorded.run(
        _recordings, key, meta, (*tensors, y), state.device, lambda: _record(tensors, meta)
    )
    return y


def _record(tensors: tuple[Tensor, ...], meta: dict[str, Any]) -> replay.Recording:
    state = tensors[0]
    batch, heads, key, value = state.shape
    BV = min(meta["BLOCK"], tile(value))
    arguments: dict[str, Any] = {"y_ptr": replay.Arg(len(tensors)), "H": heads}
    for i, (name, t) in enumerate(zip(_NAMES, tensors, strict=True)):
        arguments[f"{name}_ptr"] = replay.Arg(i)
        if i:
            arguments[f"{name}_steps"] = replay.strides(Token, t)
    recording = replay.Recording(len(tensors) + 1)
    recording.add(
        ssmprof_scan_rwkv7_step, batch * heads * -(-value // BV),
        replay.launch_options(meta["num_warps"]), s_steps=replay.strides(State, state), K=key,
        V=value, BK=tile(key), BV=BV, **arguments,
    )  # fmt: skip
    return recording


def _check(
    state: Tensor, r: Tensor, w: Tensor, k: Tensor, v: Tensor, kk: Tensor, a: Tensor
) -> None:
    """ValueError for the first argument that does not fit."""
    if state.dim() != 4 or 0 in state.shape:
        raise ValueError(
            f"state must have shape (B,H,K,V), none of them 0, got {tuple(state.shape)}"
        )
    batch, heads, key, value = state.shape
    for name, t in (("r", r), ("w", w), ("k", k), ("kk", kk), ("a", a)):
        door.shape(name, t, (batch, heads, key), "(B,H,K)")
    door.shape("v", v, (batch, heads, value), "(B,H,V)")
    if state.is_cuda or door.interpreted():
        for name, t in zip(_NAMES, (state, r, w, k, v, kk, a), strict=True):
            door.dtype(name, t, door.FLOATS)
    door.same_device(state, r=r, w=w, k=k, v=v, kk=kk, a=a)
