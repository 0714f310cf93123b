"""How a short convolution is launched: blocks by layout, and the form that is compiled.

Promises: pure functions of shapes, strides, dtypes and options; nothing here launches.
"""

from __future__ import annotations

from typing import Any

import torch

from ssmprof_kernels import launch
from ssmprof_kernels.conv import drafts_kernel, kernels, rows_kernel, update_kernel
from ssmprof_kernels.device.overlap import possible
from ssmprof_kernels.launch import replay

#: Tokens and channels of a tile, consecutive tokens a thread takes at once, warps.
DEFAULT = {"BLOCK_L": 16, "BLOCK_D": 256, "U": 8, "num_warps": 4}
#: Where taps differ by token (ids, packed sequences).
DEFAULT_PER_TOKEN = {"BLOCK_L": 16, "BLOCK_D": 128, "U": 1, "num_warps": 2}
#: Where tokens are contiguous in memory, in rows of whole vectors of U, and in any other rows.
DEFAULT_ROWS = {"BLOCK_L": 1024, "BLOCK_D": 1, "U": 8, "num_warps": 2}
DEFAULT_UNEVEN_ROWS = {"BLOCK_L": 512, "BLOCK_D": 4, "U": 1, "num_warps": 4}
#: One decode step.
DEFAULT_UPDATE = {"BLOCK_D": 128, "num_warps": 4}

Tensors = tuple[torch.Tensor | None, ...]


def lookup(x: torch.Tensor, y: torch.Tensor, *, varies: bool) -> launch.Lookup:
    """Where the blocks for x (B,L,D) are looked up; `varies`: taps differ by token."""
    if x.stride(2) != 1 and x.stride(1) == 1:
        if varies or not (_whole_vectors(x) and _whole_vectors(y)):
            bucket, default = "uneven-rows", DEFAULT_UNEVEN_ROWS
        else:
            bucket, default = "rows", DEFAULT_ROWS
    elif varies:
        bucket, default = "per-token", DEFAULT_PER_TOKEN
    else:
        bucket, default = launch.length_bucket(x.shape[0] * x.shape[1]), DEFAULT
    return "causal_conv1d", bucket, x.device, default


def _whole_vectors(x: torch.Tensor) -> bool:
    """Whether every channel's tokens are whole, aligned vectors of 16 bytes."""
    few = 16 // x.element_size()
    sizes = (x.shape[1], x.stride(0), x.stride(2))
    return x.data_ptr() % 16 == 0 and not any(size % few for size in sizes)


#: The kernels' pointers, in the order of the tensors of a call.
_POINTERS = ("x", "w", "bias", "init", "ids", "cu", "y", "final")
_UPDATE_POINTERS = ("x", "state", "w", "bias", "index", "at", "y")


def lookup_update(x: torch.Tensor) -> launch.Lookup:
    """Where the blocks of a decode step are looked up."""
    return "causal_conv1d_update", "all", x.device, DEFAULT_UPDATE


def record(tensors: Tensors, n: int, meta: dict[str, int], *, silu: bool) -> replay.Recording:
    """The launch for `n` sequences; `tensors` in the order of `_POINTERS`."""
    x, weight, bias, init, ids, cu, y, final = tensors
    assert x is not None
    assert weight is not None
    assert y is not None
    batch, length, dim = x.shape
    varies = ids is not None or cu is not None
    n_d = -(-dim // meta["BLOCK_D"])
    n_main = n_d * -(-length // meta["BLOCK_L"]) * batch
    form = kernels.Form(
        weight.shape[1], silu, bias is not None, init is not None, final is not None
    )
    given: dict[str, Any] = {
        **{f"{name}_ptr": replay.Arg(i) for i, name in enumerate(_POINTERS)},
        "length": length, "dim": dim, "n_main": n_main, "n_sequences": n,
        "x_steps": replay.strides(kernels.Tokens, x),
        "w_steps": replay.strides(kernels.Taps, weight),
        "init_steps": replay.strides(kernels.State, init),
        "ids_steps": replay.strides(kernels.Ids, ids),
        "y_steps": replay.strides(kernels.Tokens, y),
        "TILE": kernels.Tile(meta["BLOCK_L"], meta["BLOCK_D"], meta["U"]),
    }  # fmt: skip
    if lookup(x, y, varies=varies)[1] == "rows":
        kernel = rows_kernel.ssmprof_conv_rows
        given["LOG_U"] = meta["U"].bit_length() - 1
    else:
        kernel = kernels.ssmprof_conv_tokens
        search = 0 if cu is None else n.bit_length()
        form = form._replace(IDS=ids is not None, PACKED=cu is not None, SEARCH=search)
    recording = replay.Recording(len(tensors))
    recording.add(
        kernel,
        n_main + (0 if final is None else n_d * n),
        replay.launch_options(meta["num_warps"]),
        **given,
        FORM=form,
    )
    return recording


def record_update(
    tensors: Tensors, pad_index: int, meta: dict[str, int], *, silu: bool
) -> replay.Recording:
    """The launch of one decode step; `tensors` in the order of `_UPDATE_POINTERS`."""
    x, state, weight, bias, index, at, y = tensors
    assert x is not None
    assert state is not None
    assert weight is not None
    assert y is not None
    length = x.shape[1] if x.ndim == 3 else 1
    recording = replay.Recording(len(tensors))
    recording.add(
        update_kernel.ssmprof_conv_update,
        x.shape[0] * -(-x.shape[-1] // meta["BLOCK_D"]),
        replay.launch_options(meta["num_warps"]),
        **{f"{name}_ptr": replay.Arg(i) for i, name in enumerate(_UPDATE_POINTERS)},
        length=length,
        dim=x.shape[-1],
        pad_index=pad_index,
        x_steps=_tokens(x),
        state_steps=replay.strides(kernels.State, state),
        w_steps=replay.strides(kernels.Taps, weight),
        y_steps=_tokens(y),
        FORM=update_kernel.Form(
            W=weight.shape[1],
            ROOM=state.shape[2],
            SILU=silu,
            BIAS=bias is not None,
            GATHERED=index is not None,
            RING=at is not None,
            ONE=length == 1,
            EARLY=possible(x.device),
        ),
        BLOCK_D=meta["BLOCK_D"],
    )
    return recording


_DRAFT_POINTERS = ("x", "state", "w", "bias", "old", "new", "cu", "accepted", "y")


def record_drafts(
    tensors: Tensors, pad_index: int, meta: dict[str, int], *, silu: bool
) -> replay.Recording:
    """The launch of several tokens per sequence; `tensors` in the order of `_DRAFT_POINTERS`."""
    x, state, weight, bias, old, new, cu, accepted, y = tensors
    assert x is not None
    assert state is not None
    assert weight is not None
    assert y is not None
    steps = [
        replay.strides(kernels.Tokens, t) if t.ndim == 3 else kernels.Tokens(0, *t.stride())
        for t in (x, y)
    ]
    recording = replay.Recording(len(tensors))
    recording.add(
        drafts_kernel.ssmprof_conv_drafts,
        (x.shape[0] if cu is None else cu.shape[0] - 1) * -(-x.shape[-1] // meta["BLOCK_D"]),
        replay.launch_options(meta["num_warps"]),
        **{f"{name}_ptr": replay.Arg(i) for i, name in enumerate(_DRAFT_POINTERS)},
        length=x.shape[1] if cu is None else 0,
        dim=x.shape[-1],
        pad_index=pad_index,
        x_steps=steps[0],
        state_steps=replay.strides(kernels.State, state),
        w_steps=replay.strides(kernels.Taps, weight),
        y_steps=steps[1],
        FORM=drafts_kernel.Form(
            W=weight.shape[1],
            ROOM=state.shape[2],
            SILU=silu,
            BIAS=bias is not None,
            OLD=old is not None,
            NEW=new is not None,
            PACKED=cu is not None,
            EACH=accepted is not None,
            EARLY=possible(x.device),
        ),
        BLOCK_D=meta["BLOCK_D"],
    )
    return recording


def _tokens(t: torch.Tensor) -> kernels.Tokens:
    """Strides of (B,D) or (B,l,D)."""
    return kernels.Tokens(t.stride(0), t.stride(1) if t.ndim == 3 else 0, t.stride(-1))
