"""`token_shift`: each token mixed with the one before it, by several weights at once.

Promises: one launch that reads each token once and writes each mixture once; bad input is refused
with one ValueError before it; no host synchronisation. CPU tensors take the plain torch form,
unless Triton's interpreter is switched on (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from ssmprof_kernels import door, launch, reference
from ssmprof_kernels.launch import recorded, replay
from ssmprof_kernels.rwkv7.mixing_kernels import Row, features, ssmprof_elementwise_token_shift

_recordings: recorded.Recordings = {}
_NAMES = ("x", "mix", "last")
#: Tokens and features of a program. One warp: a thread has all the tokens of its features, and what
#: is of a feature needs no exchange between threads.
STEP: dict[str, Any] = {"TOKENS": 1, "BLOCK": 256, "num_warps": 1}
PROMPT: dict[str, Any] = {"TOKENS": 4, "BLOCK": 256, "num_warps": 1}


def token_shift(x: Tensor, mix: Tensor, last: Tensor, *, resumed: bool) -> Tensor:
    """`x_t + (x_{t-1} - x_t) mix` (arXiv:2503.14456, section 4).

    Args:
        x: (B, L, d), or (B, d) for one token; fp32, fp16 or bf16, any strides.
        mix: (M, d), or (d) for one mixture.
        last: (B, d), any strides; **overwritten** with the last token of x.
        resumed: what stood in `last` is the token before the first; without it that one is zero.

    Returns:
        (M, B, L, d) or (M, B, d), contiguous, without M where mix has none; in the dtype of x.

    Raises:
        ValueError: an argument's shape, dtype or device does not fit.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    tensors = (x, mix, last)
    door.forward_only(_NAMES, tensors)
    key = recorded.key_of(tensors, resumed)
    if key not in _recordings:
        _check(x, mix, last)
    if not (x.is_cuda or door.interpreted()):
        return reference.token_shift(x, mix, last, resumed=resumed)
    out = torch.empty((*mix.shape[:-1], *x.shape), dtype=x.dtype, device=x.device)
    one = x.dim() == 2 or x.shape[1] == 1
    bucket, default = ("step", STEP) if one else ("prompt", PROMPT)
    meta = launch.pick("token_shift", bucket, x.device, default).meta
    recorded.run(
        _recordings, key, meta, (*tensors, out), x.device,
        lambda: _record(x, mix, last, resumed, meta),
    )  # fmt: skip
    return out


def _record(
    x: Tensor, mix: Tensor, last: Tensor, resumed: bool, meta: dict[str, Any]
) -> replay.Recording:
    batch, width = last.shape
    length = x.shape[1] if x.dim() == 3 else 1
    block = min(meta["BLOCK"], triton.next_power_of_2(width))
    blocks = -(-width // block)
    mixes = mix.shape[0] if mix.dim() == 2 else 1
    recording = replay.Recording(4)
    recording.add(
        ssmprof_elementwise_token_shift, batch * -(-length // meta["TOKENS"]) * blocks,
        replay.launch_options(meta["num_warps"]),
        x_ptr=replay.Arg(0), mix_ptr=replay.Arg(1), last_ptr=replay.Arg(2), out_ptr=replay.Arg(3),
        length=length, tokens=batch * length, width=width, blocks=blocks,
        x_steps=features(x),
        mix_steps=Row(mix.stride(0), mix.stride(-1)), last_steps=replay.strides(Row, last),
        M=mixes, RESUMED=resumed, TOKENS=meta["TOKENS"], BLOCK=block,
    )  # fmt: skip
    return recording


def _check(x: Tensor, mix: Tensor, last: Tensor) -> None:
    """ValueError for the first argument that does not fit."""
    if x.dim() not in (2, 3) or 0 in x.shape:
        raise ValueError(
            f"x must have shape (B,L,d) or (B,d), none of them 0, got {tuple(x.shape)}"
        )
    batch, width = x.shape[0], x.shape[-1]
    if mix.dim() not in (1, 2) or mix.shape[-1] != width or mix.shape[0] < 1:
        raise ValueError(f"mix must have shape (M,{width}) or ({width},), got {tuple(mix.shape)}")
    door.shape("last", last, (batch, width), "(B,d)")
    if x.is_cuda or door.interpreted():
        for name, tensor in zip(_NAMES, (x, mix, last), strict=True):
            door.dtype(name, tensor, door.FLOATS)
    door.same_device(x, mix=mix, last=last)
