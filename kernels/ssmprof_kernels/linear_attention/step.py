"""`gla_step`, `retention_step`, `lightning_step`: linear attention with decay for one token, the
state updated in place.

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
from ssmprof_kernels.linear_attention.plan import tile
from ssmprof_kernels.linear_attention.step_kernel import ssmprof_scan_linear_step
from ssmprof_kernels.reference import linear_attention

_recordings: recorded.Recordings = {}
#: Order of the tensors of a call.
_NAMES = ("state", "q", "k", "v", "a", "decay")


def retention_step(
    state: Tensor, q: Tensor, k: Tensor, v: Tensor, decay: Tensor, *, scale: float
) -> Tensor:
    """`S = exp(decay) S + k v^T`, `o = scale S^T q` for one token (arXiv:2307.08621).

    Args:
        state: (B, H, K, V), fp32, bf16 or fp16, any strides; **overwritten in place**.
        q: (B, H, K). k: (B, Hk, K). v: (B, Hk, V). fp32, fp16 or bf16; head h reads h // (H / Hk).
        decay: (H), the logarithm of each head's decay.
        scale: of the outputs.

    Returns:
        y (B, H, V) in the dtype of q.

    Raises:
        ValueError: an argument's shape, dtype or device does not fit.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    return step("retention_step", state, q, k, v, None, decay, scale)


def lightning_step(
    state: Tensor, q: Tensor, k: Tensor, v: Tensor, decay: Tensor, *, scale: float
) -> Tensor:
    """Lightning attention for one token, which is `retention_step` with other decays.

    Args:
        state, q, k, v, decay, scale: as of `retention_step`.

    Returns:
        y (B, H, V) in the dtype of q.

    Raises:
        ValueError, RuntimeError: as of `retention_step`.
    """
    return retention_step(state, q, k, v, decay, scale=scale)


def gla_step(state: Tensor, q: Tensor, k: Tensor, v: Tensor, a: Tensor, *, scale: float) -> Tensor:
    """`S = diag(sigmoid(a)^(1/16)) S + k v^T`, `o = scale S^T q` for one token (arXiv:2312.06635).

    Args:
        state, q, k, v, scale: as of `retention_step`.
        a: (B, Hk, K), logits of the gates of each key feature.

    Returns:
        y (B, H, V) in the dtype of q.

    Raises:
        ValueError, RuntimeError: as of `retention_step`.
    """
    return step("gla_step", state, q, k, v, a, None, scale)


def step(
    kind: str,
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor | None,
    decay: Tensor | None,
    scale: float,
    *,
    given: bool = False,
) -> Tensor:
    """The step of `kind`, by `decay` or by the gates `a`: logits, or where `given` logarithms."""
    tensors = (state, q, k, v, a, decay)
    door.forward_only(_NAMES, tensors)
    key = recorded.key_of(tensors, kind, scale, given)
    if key not in _recordings:
        _check(*tensors)
    if not (state.is_cuda or door.interpreted()):
        if a is None:
            assert decay is not None
            return reference.retention_step(state, q, k, v, decay, scale=scale)
        call = linear_attention.gated_step if given else reference.gla_step
        return call(state, q, k, v, a, scale=scale)
    if decay is not None:
        tensors = (*tensors[:-1], decay.contiguous())
    batch, heads, width, value = state.shape
    rows = batch * heads * value
    size = "8K" if rows <= 8192 else "64K" if rows <= 65536 else "more"
    bucket = f"{state.element_size() * 8}b-K{tile(width)}-{size}"
    meta = launch.pick(kind, bucket, state.device, default(width, size)).meta
    y = torch.empty((batch, heads, value), dtype=q.dtype, device=q.device)
    recorded.run(
        _recordings, key, meta, (*tensors, y), state.device,
        lambda: _record(tensors, meta, scale, given),
    )  # fmt: skip
    return y


def default(key: int, size: str) -> dict[str, Any]:
    """Columns of a state that a program owns, and its launch shape: few where programs are few."""
    if size == "8K":
        return {"BLOCK": 16, "num_warps": 4}
    return {"BLOCK": max(16, min(64, 8192 // tile(key))), "num_warps": 4}


def _record(
    tensors: tuple[Tensor | None, ...], meta: dict[str, Any], scale: float, given: bool
) -> replay.Recording:
    state, q, k, v, a, _ = tensors
    assert state is not None
    assert q is not None
    assert k is not None
    assert v is not None
    batch, heads, key, value = state.shape
    BV = min(meta["BLOCK"], tile(value))
    strides = {
        f"{name}_steps": replay.strides(Token, t)
        for name, t in (("q", q), ("k", k), ("v", v), ("g", a))
    }
    ref = [replay.Arg(i) for i in range(len(tensors) + 1)]
    recording = replay.Recording(len(ref))
    recording.add(
        ssmprof_scan_linear_step, batch * heads * -(-value // BV),
        replay.launch_options(meta["num_warps"]), state_ptr=ref[0], q_ptr=ref[1], k_ptr=ref[2],
        v_ptr=ref[3], gate_ptr=ref[4], decay_ptr=ref[5], y_ptr=ref[6], scale=scale,
        H=heads, PER=heads // k.shape[1], K=key, V=value, BK=tile(key), BV=BV,
        GATES=a is not None, GIVEN=given,
        s_steps=replay.strides(State, state), **strides,
    )  # fmt: skip
    return recording


def _check(
    state: Tensor | None,
    q: Tensor | None,
    k: Tensor | None,
    v: Tensor | None,
    a: Tensor | None,
    decay: Tensor | None,
) -> None:
    """ValueError for the first argument that does not fit."""
    assert state is not None
    assert q is not None
    assert k is not None
    assert v is not None
    if state.dim() != 4 or 0 in state.shape:
        raise ValueError(
            f"state must have shape (B,H,K,V), none of them 0, got {tuple(state.shape)}"
        )
    batch, heads, key, value = state.shape
    door.shape("q", q, (batch, heads, key), "(B,H,K)")
    if k.dim() != 3 or k.shape[1] < 1 or heads % k.shape[1]:
        raise ValueError(
            f"k must have shape ({batch}, Hk, {key}) with Hk a divisor of H = {heads}, "
            f"got {tuple(k.shape)}"
        )
    shared = k.shape[1]
    door.shape("k", k, (batch, shared, key), "(B,Hk,K)")
    door.shape("v", v, (batch, shared, value), "(B,Hk,V)")
    if a is not None:
        door.shape("a", a, (batch, shared, key), "(B,Hk,K)")
    if decay is not None:
        door.shape("decay", decay, (heads,), "(H,)")
    if state.is_cuda or door.interpreted():
        for name, t in zip(_NAMES, (state, q, k, v, a, decay), strict=True):
            if t is not None:
                door.dtype(name, t, door.FLOATS)
    door.same_device(state, q=q, k=k, v=v, a=a, decay=decay)
