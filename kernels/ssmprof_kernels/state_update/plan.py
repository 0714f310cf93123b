"""How a decode step is launched: blocks from the tables, strides, the form that is compiled.

Promises: pure functions of shapes, strides, dtypes and options; nothing here launches.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from ssmprof_kernels import launch
from ssmprof_kernels.device.overlap import possible
from ssmprof_kernels.launch import replay
from ssmprof_kernels.state_update import drafts_kernel, kernel
from ssmprof_kernels.state_update.arguments import Arguments


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


def lookup(full: Arguments) -> launch.Lookup:
    """Where the blocks for these tensors, in the form of heads, are looked up."""
    batch, heads, width = full.x.shape
    states = full.B.shape[2]
    key = bucket(batch * heads * width, states, full.state.element_size() * 8, _is_tied(full))
    return "selective_state_update", key, full.x.device, default(states)


def record(
    full: Arguments, meta: dict[str, Any], dt_softplus: bool, pad_index: int, overlap: bool
) -> replay.Recording:
    """The launch for these tensors, in the form of heads."""
    batch, heads, width = full.x.shape
    groups, states = full.B.shape[1:]
    block_p = min(meta["BLOCK_P"], _power_of_two(width))
    early = possible(full.x.device)
    overlap = overlap and early
    whole = width % block_p == 0 and is_span(full.state, block_p)
    written = full._replace(out=torch.empty_like(full.x) if full.out is None else full.out)
    recording = replay.Recording(len(full))
    recording.add(
        kernel.ssmprof_scan_state_update,
        batch * heads * -(-width // block_p),
        replay.launch_options(meta["num_warps"], early=overlap),
        **{f"{name}_ptr": replay.Arg(i) for i, name in enumerate(_POINTERS)},
        pad_index=pad_index,
        rows=_rows(written),
        INNER=_inner(written),
        SHAPE=kernel.Shape(heads, width, states, heads // groups, block_p, _power_of_two(states)),
        FORM=_form(full, dt_softplus),
        START=kernel.Start(early, overlap, overlap and whole and full.state_indices is None),
    )
    return recording


def record_drafts(
    full: Arguments,
    more: tuple[Tensor | None, ...],
    meta: dict[str, Any],
    dt_softplus: bool,
    pad_index: int,
) -> replay.Recording:
    """The launch of `drafts`; `more` are its slots, new slots, bounds and accepted drafts."""
    old, new, cu, accepted = more
    batch, heads, width = full.x.shape
    groups, states = full.B.shape[1:]
    block_p = min(meta["BLOCK_P"], _power_of_two(width))
    written = full._replace(out=torch.empty_like(full.x) if full.out is None else full.out)
    pointers = [name for name in _POINTERS if name != "index"]
    first = len(pointers)
    where = [replay.Arg(first + i) for i in range(4)]
    each = accepted is not None
    if new is None:
        # Written where it was read.
        new, where[1] = old, where[0]
    recording = replay.Recording(first + len(more))
    recording.add(
        drafts_kernel.ssmprof_scan_state_drafts,
        (batch if cu is None else cu.shape[0] - 1) * heads * -(-width // block_p),
        replay.launch_options(meta["num_warps"]),
        **{f"{name}_ptr": replay.Arg(i) for i, name in enumerate(pointers)},
        slots=drafts_kernel.Slots(*where),
        pad_index=pad_index,
        rows=_rows(written),
        old_steps=_table(old),
        new_steps=_table(new),
        INNER=_inner(written),
        SHAPE=kernel.Shape(heads, width, states, heads // groups, block_p, _power_of_two(states)),
        FORM=_form(full, dt_softplus),
        ORDER=drafts_kernel.Order(old is not None, new is not None, cu is not None, each),
        EARLY=possible(full.x.device),
    )
    return recording


def _table(slots: Tensor | None) -> drafts_kernel.Table:
    if slots is None:
        return drafts_kernel.Table(0, 0)
    return drafts_kernel.Table(slots.stride(0), slots.stride(1) if slots.dim() == 2 else 0)


def _form(full: Arguments, dt_softplus: bool) -> kernel.Form:
    return kernel.Form(
        D=full.D is not None,
        Z=full.z is not None,
        BIAS=full.dt_bias is not None,
        INDEX=full.state_indices is not None,
        SOFTPLUS=bool(dt_softplus),
        TIED=_is_tied(full),
        ZERO_PADS=full.out is None,
    )


#: The kernel's pointers, in the order of `Arguments`.
_POINTERS = ("state", "x", "dt", "A", "B", "C", "D", "z", "bias", "index", "y")


def _rows(full: Arguments) -> kernel.Rows:
    per_row = (full.state, full.x, full.dt, full.B, full.C, full.z, full.out)
    return kernel.Rows(*(0 if t is None else t.stride(0) for t in per_row))


def _inner(full: Arguments) -> kernel.Inner:
    def steps(t: Tensor | None, first: int) -> Any:
        return (0, 0) if t is None else t.stride()[first:]

    return kernel.Inner(
        steps(full.state, 1), steps(full.x, 1), steps(full.dt, 1), steps(full.A, 0),
        steps(full.B, 1), steps(full.C, 1), steps(full.D, 0), steps(full.z, 1),
        steps(full.dt_bias, 0), steps(full.out, 1),
    )  # fmt: skip


def _is_tied(full: Arguments) -> bool:
    """Whether one step size and one decay serve all rows and states of a head (Mamba-2)."""
    bias_tied = full.dt_bias is None or full.dt_bias.stride(1) == 0
    return full.A.stride()[1:] == (0, 0) and full.dt.stride(2) == 0 and bias_tied


def is_span(tensor: Tensor, rows: int) -> bool:
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
