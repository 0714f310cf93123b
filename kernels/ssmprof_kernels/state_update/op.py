"""`selective_state_update`: one decode step of Mamba-1 or Mamba-2, the state updated in place.

Promises: one launch that reads and writes each state element once; bad input is refused with one
ValueError before it; no host synchronisation. CPU tensors take the plain torch form, unless
Triton's interpreter is switched on (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from ssmprof_kernels import door, launch
from ssmprof_kernels.device.overlap import possible
from ssmprof_kernels.launch import replay
from ssmprof_kernels.state_update import reference
from ssmprof_kernels.state_update.arguments import Arguments
from ssmprof_kernels.state_update.kernel import _state_update_kernel

_INTERPRETED = door.interpreted()
#: Recorded launches by everything a compiled kernel may depend on; a sweep uses a few dozen.
_recordings: dict[Any, tuple[replay.Recording, tuple[Any, ...], dict[str, Any]]] = {}
_MOST_RECORDINGS = 2048
_NAMES = ("state", "x", "dt", "A", "B", "C", "D", "z", "bias", "index", "y")
#: Letter of a tensor's strides in the kernel, and the letters of its axes.
_STRIDES = {
    "state": ("s", "shpn"),
    "x": ("x", "bhp"),
    "dt": ("t", "bhp"),
    "A": ("a", "hpn"),
    "B": ("b", "bgn"),
    "C": ("c", "bgn"),
    "D": ("d", "hp"),
    "z": ("z", "bhp"),
    "bias": ("i", "hp"),
    "y": ("y", "bhp"),
}


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    state_indices: Tensor | None = None,
    pad_index: int = -1,
    out: Tensor | None = None,
    overlap: bool = False,
) -> Tensor:
    """`h = exp(d A) h + d x B`, `y = <h, C>` for one token (arXiv:2312.00752; 2405.21060).

    `d = softplus(dt + dt_bias)`; then `y += D x`, then `y *= silu(z)`. The heads form is Mamba-2,
    the channels form Mamba-1.

    Args:
        state: (slots, H, P, N) or (slots, D, N), fp32, bf16 or fp16; **overwritten in place**.
        x: (B, H, P) or (B, D).
        dt: as x, or (B, H). Stride 0 over P is taken as one step size per head.
        A: (H, P, N), or (H), or (D, N).
        B, C: (B, G, N) or (B, N); head h reads group h // (H / G), channels likewise.
        D, dt_bias: (H, P), (H), or (D). z: as x.
        state_indices: (B) int32, the slot of each row; row b is slot b if None. Live slots must
            differ from one another.
        pad_index: rows with this index or one below 0 are skipped; no state changes and their y is
            0.
        out: as x; rows that are skipped keep what they hold.
        overlap: begin while the kernel before ends (programmatic dependent launch, sm_90 on,
            ignored elsewhere); the result is the same. Worth it if that kernel is one of this
            package's updates, which let their successor start; behind other kernels it costs
            0.4 us on an H100.

    Returns:
        y as x, `out` if given.

    Raises:
        ValueError: an argument's shape, dtype or device does not fit.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    tensors = (state, x, dt, A, B, C, D, z, dt_bias, state_indices, out)
    door.forward_only(Arguments._fields, tensors)
    if not x.is_cuda and not _INTERPRETED:
        Arguments(*tensors).expanded().check()
        return reference.selective_state_update(
            state,
            x,
            dt,
            A,
            B,
            C,
            D=D,
            z=z,
            dt_bias=dt_bias,
            dt_softplus=dt_softplus,
            state_indices=state_indices,
            pad_index=pad_index,
            out=out,
            overlap=overlap,
        )
    # Checks cost more than the launch; what was accepted once is accepted again.
    devices = tuple([None if t is None else t.device for t in tensors])
    key = (replay.facts_of(tensors), devices, dt_softplus, pad_index, overlap)
    known = _recordings.get(key)
    if known is None or launch.pick(*known[1]).meta is not known[2]:
        full = Arguments(*tensors).expanded()
        full.check()
        if len(_recordings) >= _MOST_RECORDINGS:
            _recordings.clear()
        known = _recordings[key] = _record(full.as_heads(), dt_softplus, pad_index, overlap)
    y = torch.empty_like(x) if out is None else out
    # What was expanded or unflattened begins where the tensor that was given begins.
    call = (state, x, dt, A, B, C, D, z, dt_bias, state_indices, y)
    if x.is_cuda and x.device.index != torch.cuda.current_device():
        with torch.cuda.device(x.device):
            known[0].run(call, x.device)
    else:
        known[0].run(call, x.device)
    return y


@functools.lru_cache(1024)
def bucket(rows: int, states: int, bits: int, tied: bool) -> str:
    """Table key: bits of a state element, padded state size, one decay per head, rows of state."""
    size = "8K" if rows <= 8192 else "64K" if rows <= 65536 else "more"
    return f"{bits}b-n{_power_of_two(states)}-{'tied' if tied else 'full'}-{size}"


@functools.lru_cache(1024)
def default(states: int) -> dict[str, Any]:
    """Blocks for a shape that no table knows: about 2,048 state elements per one-warp program."""
    rows = max(4, min(64, 2048 // _power_of_two(states)))
    return {"BLOCK_P": rows, "num_warps": 1}


def _record(
    full: Arguments, dt_softplus: bool, pad_index: int, overlap: bool
) -> tuple[replay.Recording, tuple[Any, ...], dict[str, Any]]:
    """The launch for these tensors, in the order of `_NAMES`, and how its blocks were picked."""
    given: dict[str, Tensor | None] = dict(zip(_NAMES, full, strict=True))
    state, x, dt, A, B, _, D, z, bias, index, out = full
    batch, heads, width = x.shape
    groups, states = B.shape[1:]
    bias_tied = bias is None or bias.stride(1) == 0
    tied = A.stride()[1:] == (0, 0) and dt.stride(2) == 0 and bias_tied
    key = bucket(batch * heads * width, states, state.element_size() * 8, tied)
    pick = ("selective_state_update", key, x.device, default(states))
    meta = launch.pick(*pick).meta
    block_p = min(meta["BLOCK_P"], _power_of_two(width))
    early = possible(x.device)
    overlap = overlap and early
    whole = width % block_p == 0 and _is_span(state, block_p)
    given["y"] = torch.empty_like(x) if out is None else out
    arguments: dict[str, Any] = {f"{name}_ptr": replay.Arg(i) for i, name in enumerate(_NAMES)}
    for name, (letter, axes) in _STRIDES.items():
        tensor = given[name]
        steps = (0,) * len(axes) if tensor is None else tensor.stride()
        for axis, step in zip(axes, steps, strict=True):
            arguments[f"s_{letter}{axis}"] = step
    recording = replay.Recording(len(_NAMES))
    recording.add(
        _state_update_kernel,
        batch * heads * -(-width // block_p),
        _options(meta["num_warps"], overlap),
        pad_index=pad_index,
        H=heads,
        P=width,
        N=states,
        PER_GROUP=heads // groups,
        HAS_D=D is not None,
        HAS_Z=z is not None,
        HAS_BIAS=bias is not None,
        SOFTPLUS=bool(dt_softplus),
        HAS_INDEX=index is not None,
        ZERO_PADS=out is None,
        TIED=tied,
        ASM=not _INTERPRETED,
        EARLY=early,
        OVERLAP=overlap,
        AHEAD=overlap and whole and index is None,
        BLOCK_P=block_p,
        BLOCK_N=_power_of_two(states),
        **arguments,
    )
    return recording, pick, meta


def _options(num_warps: int, overlap: bool) -> dict[str, Any]:
    if _INTERPRETED:
        return {"num_warps": num_warps}
    early = {"launch_pdl": True} if overlap else {}
    return {"num_warps": num_warps, "enable_fp_fusion": True, **early}


def _is_span(tensor: Tensor, rows: int) -> bool:
    """Whether each tile of `rows` rows of (..., P, N) is one span of whole, aligned 16 bytes."""
    size = tensor.element_size()
    steps = (*tensor.stride()[:-2], rows * tensor.shape[-1])
    return (
        tensor.stride()[-2:] == (tensor.shape[-1], 1)
        and tensor.data_ptr() % 16 == 0
        and all(step * size % 16 == 0 for step in steps)
    )


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()
