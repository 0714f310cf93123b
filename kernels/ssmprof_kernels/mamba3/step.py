"""`mamba3_step`: one token of Mamba-3 (decode), the state updated in place.

Promises: one launch that reads and writes each state element once; bad input is refused with one
ValueError before it; no host synchronisation. CPU tensors take the plain torch form, unless
Triton's interpreter is switched on (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssmprof_kernels import door, launch, reference
from ssmprof_kernels.launch import recorded, replay
from ssmprof_kernels.mamba3 import checks
from ssmprof_kernels.mamba3.launches import power_of_two
from ssmprof_kernels.mamba3.step_kernel import ssmprof_scan_mamba3_step
from ssmprof_kernels.reference.mamba3 import Weights

_recordings: recorded.Recordings = {}
_accepted: set[recorded.Key] = set()
_NAMES = ("state", *checks.NAMES[:8], *checks.NAMES[9:])
_STRIDES = {
    "q": (1, "q", "brgn"),
    "k": (2, "k", "brgn"),
    "v": (3, "v", "bhp"),
    "a": (4, "a", "bh"),
    "dt": (5, "dt", "bh"),
    "trap": (6, "trap", "bh"),
    "angles": (7, "angle", "bs"),
    "z": (8, "z", "bhp"),
}


def mamba3_step(
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    dt: Tensor,
    trap: Tensor,
    angles: Tensor,
    *,
    weights: Weights,
    z: Tensor | None = None,
) -> Tensor:
    """One token of the recurrence of `mamba3_scan` (arXiv:2603.15569, section 3).

    Args:
        state: (B, H P N + H R N + H P), fp32, bf16 or fp16; **overwritten in place**; the last
            stride is 1.
        q, k, v, a, dt, trap, angles, z: as in `mamba3_scan`, without L.
        weights: as in `mamba3_scan`.

    Returns:
        y (B, H, P), or (B, R, H, P) where ranks stay apart, in the dtype of v.

    Raises:
        ValueError: an argument's shape, dtype or device does not fit.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    tokens = (q, k, v, a, dt, trap, angles)
    door.forward_only(_NAMES, (state, *tokens, z, *weights))
    asked = recorded.key_of((state, *tokens, z, *weights))
    if asked not in _accepted:
        wide = [t[:, None] for t in tokens]
        checks.scan(*wide, weights, None if z is None else z[:, None], state)  # type: ignore[arg-type]
        if state.stride(1) != 1:
            raise ValueError(f"state must have a last stride of 1, got {state.stride()}")
        _accepted.add(asked)
    if not v.is_cuda and not door.interpreted():
        return reference.mamba3_step(state, q, k, v, a, dt, trap, angles, weights=weights, z=z)
    weights = checks.completed(weights, v.shape[-1], z is not None)
    batch, heads, width = v.shape
    rank = q.shape[1]
    apart = weights.mimo_out is None and rank > 1
    shape = (batch, rank, heads, width) if apart else v.shape
    out = torch.empty(shape, dtype=v.dtype, device=v.device)
    tensors = (state, *tokens, z, *weights, out)
    meta = launch.pick("mamba3_step", bucket(batch * heads), v.device, DEFAULT).meta
    recorded.run(
        _recordings, recorded.key_of(tensors), meta, tensors, v.device,
        lambda: _record(tensors, meta),
    )  # fmt: skip
    return out


DEFAULT = {"num_warps": 4}


def bucket(heads: int) -> str:
    """Table key: programs of the launch."""
    return "64" if heads <= 64 else "512" if heads <= 512 else "more"


def _record(tensors: tuple[Tensor | None, ...], meta: dict[str, Any]) -> replay.Recording:
    state, q, v, angles, z, mix_v, mix_o = (tensors[i] for i in (0, 1, 3, 7, 8, 13, 15))
    assert state is not None
    assert q is not None
    assert v is not None
    assert angles is not None
    batch, heads, width = v.shape
    rank, groups, states = q.shape[1:]
    strides = {"s_b": state.stride(0)}
    for index, letter, axes in _STRIDES.values():
        t = tensors[index]
        steps = (0,) * len(axes) if t is None else t.stride()
        strides |= {f"{letter}_s{a}": s for a, s in zip(axes, steps, strict=True)}
    pointers = (
        *("state", "q", "k", "v", "a", "dt", "trap", "angle", "z", "bias", "q_bias", "k_bias"),
        *("d", "mix_v", "mix_z", "mix_o", "out"),
    )
    recording = replay.Recording(len(tensors))
    recording.add(
        ssmprof_scan_mamba3_step,
        batch * heads,
        replay.launch_options(meta["num_warps"]),
        **{f"{name}_ptr": replay.Arg(i) for i, name in enumerate(pointers)},
        **strides, H=heads, PER_GROUP=heads // groups, N=states, P=width, R=rank,
        ANGLES=angles.shape[1], BN=max(4, power_of_two(states)), BP=power_of_two(width),
        GATE=z is not None, MIXED=mix_v is not None, SUM=mix_o is not None,
    )  # fmt: skip
    return recording
