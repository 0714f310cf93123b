"""`ring_state_update`: one decode step of Mamba-1 or Mamba-2, the state written once in W tokens.

Promises: one launch; each state element is read once, and written by one step in W; an fp32 state
that has just been written has the bits `selective_state_update` would have given it; bad input is
refused with one ValueError before the launch; no host synchronisation, and the ring counts on the
device, so that a captured step can be replayed token after token.

A step of a state of s bytes moves s (1 + 1/W) bytes instead of 2 s, and the ring: W (P + N) of a
head's s = P N elements. y is formed from the state in memory and the pending tokens, `y = <a h, C>
+ sum_i a_i d_i <B_i, C> x_i` with the decays a since then (Mamba-2, one decay per head); with a
decay per element (Mamba-1) the state itself is rebuilt in every step, so that fewer places pay.

Prefix and speculation: after a prompt a new ring belongs to its final state. A state can be copied
to another slot together with its ring, or alone after `settle`. Tokens that are rejected are
forgotten by `ring.marks[slots] -= 1` for each, as places (modulo W) and as counts, while the count
is not negative: what has been written into a state is not undone, so that up to W - 1 tokens can be
taken back right after a ring was settled, and W - 2 - (number of tokens since) later on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssmprof_kernels import door, launch
from ssmprof_kernels.device.overlap import possible
from ssmprof_kernels.launch import recorded, replay
from ssmprof_kernels.ring_update import reference
from ssmprof_kernels.ring_update.kernel import ssmprof_scan_ring_update
from ssmprof_kernels.ring_update.ring import ROWS, TILE, Ring
from ssmprof_kernels.state_update.arguments import Arguments

_recordings: recorded.Recordings = {}
_NAMES = (*Arguments._fields[:-1], *(f"ring.{name}" for name in Ring._fields))
_POINTERS = (
    *("state", "x", "dt", "A", "B", "C", "D", "z", "bias", "index", "rx", "rd", "rb", "mark", "y"),
)
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


def ring_state_update(
    state: Tensor,
    ring: Ring,
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
    overlap: bool = False,
) -> Tensor:
    """`h = exp(d A) h + d x B`, `y = <h, C>` for one token (arXiv:2312.00752; 2405.21060).

    Args:
        state: as in `selective_state_update`; lags behind by the tokens in the ring.
        ring: from `new_ring`, for the slots of `state`; **overwritten in place**, as the state.
        x, dt, A, B, C, D, z, dt_bias, dt_softplus, state_indices, pad_index, overlap: as in
            `selective_state_update`. A ring of one step size per head wants A, dt and dt_bias tied
            over each head (stride 0, or per head).

    Returns:
        y as x; 0 in rows that are skipped.

    Raises:
        ValueError: an argument's shape, dtype or device does not fit.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    arguments = Arguments(state, x, dt, A, B, C, D, z, dt_bias, state_indices, None)
    options = (dt_softplus, pad_index, overlap)
    y = torch.empty_like(x)
    return _run(arguments, ring, options, y, settle=False)


def settle(state: Tensor, ring: Ring, A: Tensor, state_indices: Tensor | None = None) -> None:
    """Apply what is pending to the state, in place; the ring is empty afterwards.

    A as in `ring_state_update`; of all slots, or of those of `state_indices` (B), int32, where what
    is below 0 is padding.
    """
    rows = len(state) if state_indices is None else len(state_indices)
    heads = state.dim() == 4
    groups = ring.B.shape[2]
    # Values that are not read, in shapes that fit.
    x = ring.x[:1, 0] if heads else ring.x[:1, 0].flatten(1)
    x = x.expand(rows, *x.shape[1:])
    dt = ring.delta[:1, 0]
    dt = (dt[..., None].expand_as(x[:1]) if dt.dim() == 2 else dt.reshape(x[:1].shape)).expand_as(x)
    B = ring.B[:1, 0].expand(rows, groups, -1)
    arguments = Arguments(state, x, dt, A, B, B, None, None, None, state_indices, None)
    _run(arguments, ring, (False, -1, False), None, settle=True)


def _run(
    arguments: Arguments,
    ring: Ring,
    options: tuple[Any, ...],
    y: Tensor | None,
    *,
    settle: bool,
) -> Any:
    tensors = (*arguments[:-1], *ring)
    door.forward_only(_NAMES, tensors)
    state, x = arguments.state, arguments.x
    key = recorded.key_of(tensors, *options, settle)
    full = arguments
    if key not in _recordings:
        full = arguments.expanded()
        full.check()
        full = full.as_heads()
        _check(full, ring)
    if not (x.is_cuda or door.interpreted()):
        full = arguments.expanded().as_heads()
        return reference.run(full, ring, options, y, settle=settle)
    tied = ring.delta.dim() == 3
    bits = state.element_size() * 8
    rows = x.numel()
    bucket = f"{bits}b-{'tied' if tied else 'full'}-{_size(rows)}"
    meta = launch.pick("ring_state_update", bucket, x.device, default(tied, state.shape[-1])).meta
    call = (*tensors, y)
    if key in _recordings and _recordings[key][1] is not meta:
        full = arguments.expanded().as_heads()
    recorded.run(
        _recordings, key, meta, call, x.device,
        lambda: _record(full, ring, y, options, settle, meta),
    )  # fmt: skip
    return y


def default(tied: bool, states: int) -> dict[str, Any]:
    """Blocks for a shape that no table knows."""
    if tied:
        return {"BLOCK_P": 64 if states <= 128 else 16, "num_warps": 2}
    return {"BLOCK_P": 64, "num_warps": 2}


def _size(rows: int) -> str:
    return "8K" if rows <= 8192 else "64K" if rows <= 65536 else "more"


def _record(
    full: Arguments,
    ring: Ring,
    y: Tensor | None,
    options: tuple[Any, ...],
    settle: bool,
    meta: dict[str, Any],
) -> replay.Recording:
    """The launch for these tensors in the order of `_POINTERS`."""
    x, B, D, z, bias, index = full.x, full.B, full.D, full.z, full.dt_bias, full.state_indices
    states = full.state.shape[-1]
    softplus, pad_index, overlap = options
    batch, heads, width = x.shape
    groups = B.shape[1]
    tied = ring.delta.dim() == 3
    given = dict(zip(_POINTERS, (*full[:-1], *ring, x if y is None else y), strict=True))
    given["y"] = x.new_empty(x.shape) if y is None else y.view(x.shape)
    arguments: dict[str, Any] = {f"{name}_ptr": replay.Arg(i) for i, name in enumerate(_POINTERS)}
    for name, (letter, axes) in _STRIDES.items():
        t = given[name]
        steps = (0,) * len(axes) if t is None else t.stride()
        for axis, step in zip(axes, steps, strict=True):
            arguments[f"s_{letter}{axis}"] = step
    block_p = max(ROWS, min(meta["BLOCK_P"], TILE, 1 << (width - 1).bit_length()))
    early = possible(x.device)
    recording = replay.Recording(len(_POINTERS))
    recording.add(
        ssmprof_scan_ring_update,
        batch * heads * -(-width // block_p),
        replay.launch_options(meta["num_warps"], early=overlap and early),
        pad_index=pad_index, H=heads, P=width, N=states, PER_GROUP=heads // groups,
        W=ring.tokens, BW=1 << (ring.tokens - 1).bit_length(), MARKS=ring.marks.shape[2],
        ROWS=ROWS, HAS_D=D is not None, HAS_Z=z is not None, HAS_BIAS=bias is not None,
        SOFTPLUS=bool(softplus), HAS_INDEX=index is not None, TIED=tied, SETTLE=settle,
        EARLY=early, OVERLAP=overlap and early, BLOCK_P=block_p,
        BLOCK_N=1 << (states - 1).bit_length(), **arguments,
    )  # fmt: skip
    return recording


def _check(full: Arguments, ring: Ring) -> None:
    """ValueError where the ring does not fit the heads form of the arguments."""
    state, x, dt, A, B = full.state, full.x, full.dt, full.A, full.B
    slots, heads, width, states = state.shape
    tokens = ring.tokens
    tied = ring.delta.dim() == 3
    if not 2 <= tokens <= 32:
        raise ValueError(f"ring.x must have 2 to 32 places, got {tokens}")
    inner = (slots, tokens, heads)
    door.shape("ring.x", ring.x, (*inner, width), "(slots,W,H,P)")
    door.shape("ring.delta", ring.delta, inner if tied else (*inner, width), "(slots,W,H[,P])")
    door.shape("ring.B", ring.B, (slots, tokens, B.shape[1], states), "(slots,W,G,N)")
    door.shape("ring.marks", ring.marks, (slots, heads, -(-width // ROWS), 2), "(slots,H,P/8,2)")
    for name, tensor in ring._asdict().items():
        if not tensor.is_contiguous():
            raise ValueError(f"ring.{name} must be contiguous, got strides {tensor.stride()}")
    door.dtype("ring.delta", ring.delta, (torch.float32,))
    door.dtype("ring.marks", ring.marks, (torch.int32,))
    door.dtype("ring.x", ring.x, (x.dtype,))
    door.dtype("ring.B", ring.B, (B.dtype,))
    door.same_device(x, **{f"ring.{n}": t for n, t in ring._asdict().items()})
    bias = full.dt_bias
    loose = A.stride()[1:] != (0, 0) or dt.stride(2) != 0 or (bias is not None and bias.stride(1))
    if tied and width > 1 and loose:
        raise ValueError(
            "A, dt and dt_bias must be tied over each head (stride 0, or given per head) for a "
            "ring of one step size per head"
        )
