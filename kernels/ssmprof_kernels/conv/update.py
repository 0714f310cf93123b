"""One decode step of the short causal convolution in Triton; the state changes in place.

Promises: one launch; each channel of a slot belongs to one thread, so reading all taps first
makes the in-place shift safe; rows marked as padding touch no state; the state may have another
dtype than x. Formula: `op`.
"""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ssmprof_kernels import door, launch
from ssmprof_kernels.conv import reference
from ssmprof_kernels.conv.kernels import activate, load_weights
from ssmprof_kernels.conv.op import check_filter
from ssmprof_kernels.device.overlap import let_next_start, possible
from ssmprof_kernels.launch import recorded, replay

DEFAULT = {"BLOCK_D": 128, "num_warps": 4}


@triton.jit
def _update_kernel(
    x_ptr, state_ptr, w_ptr, bias_ptr, index_ptr, at_ptr, y_ptr, length, dim, pad_index,
    stride_xb, stride_xl, stride_xd, stride_sb, stride_sd, stride_sw, stride_wd, stride_ww,
    stride_yb, stride_yl, stride_yd,
    W: tl.constexpr, ROOM: tl.constexpr, SILU: tl.constexpr, HAS_BIAS: tl.constexpr,
    GATHERED: tl.constexpr, RING: tl.constexpr, ONE: tl.constexpr, BLOCK_D: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    let_next_start(EARLY)
    pid = tl.program_id(0)
    n_d = tl.cdiv(dim, BLOCK_D)
    row = (pid // n_d).to(tl.int64)
    d = (pid % n_d) * BLOCK_D + tl.arange(0, BLOCK_D)
    mask = d < dim
    d = d.to(tl.int64)
    x_row = x_ptr + row * stride_xb + d * stride_xd
    y_row = y_ptr + row * stride_yb + d * stride_yd
    slot = row
    if GATHERED:
        slot = tl.load(index_ptr + row).to(tl.int64)
        if (slot < 0) | (slot == pad_index):
            for t in range(length):
                tl.store(y_row + t * stride_yl, tl.zeros_like(d).to(y_ptr.dtype.element_ty), mask)
            return
    state = state_ptr + slot * stride_sb + d * stride_sd
    start = tl.zeros((), tl.int32)
    if RING:
        start = tl.load(at_ptr + row).to(tl.int32)
    taps = load_weights(w_ptr, d, mask, stride_wd, stride_ww, W)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + d, mask, 0.0).to(tl.float32)
    if ONE and not RING:
        kept = ()
        for s in tl.static_range(ROOM):
            kept = kept + (tl.load(state + s * stride_sw, mask, 0.0),)
        only = tl.load(x_row, mask, 0.0)
        acc = only.to(tl.float32) * taps[W - 1]
        for j in tl.static_range(W - 1):
            acc += kept[ROOM - W + 1 + j].to(tl.float32) * taps[j]
        if HAS_BIAS:
            acc += bias
        tl.store(y_row, activate(acc, SILU).to(y_ptr.dtype.element_ty), mask)
        for s in tl.static_range(ROOM - 1):
            tl.store(state + s * stride_sw, kept[s + 1], mask)
        tl.store(state + (ROOM - 1) * stride_sw, only.to(state_ptr.dtype.element_ty), mask)
        return
    for t in range(length):
        acc = tl.zeros((BLOCK_D,), tl.float32)
        for j in tl.static_range(W):
            at = t - (W - 1) + j
            old = ROOM + at
            if RING:
                old = (start + at + ROOM) % ROOM
            from_state = tl.load(state + old * stride_sw, mask & (at < 0), 0.0).to(tl.float32)
            from_x = tl.load(x_row + at * stride_xl, mask & (at >= 0), 0.0).to(tl.float32)
            acc += (from_state + from_x) * taps[j]
        if HAS_BIAS:
            acc += bias
        tl.store(y_row + t * stride_yl, activate(acc, SILU).to(y_ptr.dtype.element_ty), mask)
    # Only now is the state overwritten: every tap above has been read, and each channel belongs to
    # one thread, so ascending order shifts safely in place.
    if RING:
        for t in range(length):
            new = tl.load(x_row + t * stride_xl, mask, 0.0).to(state_ptr.dtype.element_ty)
            tl.store(state + ((start + t) % ROOM) * stride_sw, new, mask)
    else:
        for s in range(ROOM):
            at = s + length
            from_state = tl.load(state + at * stride_sw, mask & (at < ROOM), 0.0)
            from_x = tl.load(x_row + (at - ROOM) * stride_xl, mask & (at >= ROOM), 0.0)
            new = tl.where(at < ROOM, from_state, from_x.to(state_ptr.dtype.element_ty))
            tl.store(state + s * stride_sw, new, mask)


def causal_conv1d_update(
    x: torch.Tensor,
    conv_state: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str | None = None,
    state_indices: torch.Tensor | None = None,
    pad_index: int = -1,
    cache_seqlens: torch.Tensor | None = None,
) -> torch.Tensor:
    """One or a few new tokens per row; `conv_state` is overwritten in place.

    Args:
        x: (B,D), or (B,l,D) for l new tokens.
        conv_state: (slots,D,S), S >= W-1: the last S inputs, oldest first; with `cache_seqlens` a
            ring in which the token at position p stands in column p mod S. fp32, fp16 or bf16,
            whatever x is.
        weight, bias, activation: as in `causal_conv1d`.
        state_indices: (B) int32 rows of `conv_state`; rows with `pad_index` or an index below 0
            yield zeros and touch nothing. None means row b uses slot b.
        cache_seqlens: (B) int32 positions of the first new token.

    Returns:
        y of x's shape and dtype.

    Raises:
        ValueError: an argument's shape, dtype, device or value does not fit; names it.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    inputs = (x, conv_state, weight, bias, state_indices, cache_seqlens)
    door.forward_only(_INPUTS, inputs)
    key = recorded.key_of(inputs, activation, pad_index)
    if key not in _recordings:
        _check(*inputs, activation)
    if not (x.is_cuda or door.interpreted()):
        return reference.causal_conv1d_update(
            x, conv_state, weight, bias, activation=activation, state_indices=state_indices,
            pad_index=pad_index, cache_seqlens=cache_seqlens,
        )  # fmt: skip
    y = torch.empty_like(x)
    meta = launch.pick("causal_conv1d_update", "all", x.device, DEFAULT).meta
    tensors = (*inputs, y)
    recorded.run(
        _recordings, key, meta, tensors, x.device,
        lambda: _record(tensors, activation is not None, pad_index, meta),
    )  # fmt: skip
    return y


_recordings: recorded.Recordings = {}
_INPUTS = ("x", "conv_state", "weight", "bias", "state_indices", "cache_seqlens")


def _record(
    tensors: tuple[torch.Tensor | None, ...], silu: bool, pad_index: int, meta: dict[str, int]
) -> replay.Recording:
    x, state, weight, bias, index, at, y = tensors
    assert x is not None
    assert state is not None
    assert weight is not None
    assert y is not None
    batch, dim = x.shape[0], x.shape[-1]
    length = x.shape[1] if x.ndim == 3 else 1
    strides = dict(zip(("stride_sb", "stride_sd", "stride_sw"), state.stride(), strict=True))
    strides |= {"stride_wd": weight.stride(0), "stride_ww": weight.stride(1)}
    for letter, t in (("x", x), ("y", y)):
        strides[f"stride_{letter}b"] = t.stride(0)
        strides[f"stride_{letter}l"] = t.stride(1) if t.ndim == 3 else 0
        strides[f"stride_{letter}d"] = t.stride(-1)
    names = ("x", "state", "w", "bias", "index", "at", "y")
    recording = replay.Recording(len(tensors))
    recording.add(
        _update_kernel,
        batch * -(-dim // meta["BLOCK_D"]),
        {"num_warps": meta["num_warps"], "enable_fp_fusion": True},
        **{f"{name}_ptr": replay.Arg(i) for i, name in enumerate(names)},
        length=length, dim=dim, pad_index=pad_index, **strides,
        W=weight.shape[1], ROOM=state.shape[2], SILU=silu, HAS_BIAS=bias is not None,
        GATHERED=index is not None, RING=at is not None, ONE=length == 1,
        BLOCK_D=meta["BLOCK_D"], EARLY=possible(x.device),
    )  # fmt: skip
    return recording


def _check(
    x: torch.Tensor,
    conv_state: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    state_indices: torch.Tensor | None,
    cache_seqlens: torch.Tensor | None,
    activation: str | None,
) -> None:
    if x.ndim not in (2, 3) or x.numel() == 0:
        raise ValueError(f"x must have shape (B,D) or (B,l,D), none 0, got {tuple(x.shape)}")
    batch, dim = x.shape[0], x.shape[-1]
    check_filter(weight, bias, activation, dim)
    width = weight.shape[1]
    room = conv_state.shape[2] if conv_state.ndim == 3 else 0
    if room < width - 1 or conv_state.shape[1] != dim:
        raise ValueError(
            f"conv_state must have shape (slots,D,S) = (slots, {dim}, {width - 1} or more), "
            f"got {tuple(conv_state.shape)}"
        )
    if state_indices is not None:
        door.shape("state_indices", state_indices, (batch,), "(B,)")
    elif conv_state.shape[0] < batch:
        raise ValueError(
            f"conv_state must have at least B = {batch} slots, got {tuple(conv_state.shape)}"
        )
    if cache_seqlens is not None:
        door.shape("cache_seqlens", cache_seqlens, (batch,), "(B,)")
    door.same_device(
        x, conv_state=conv_state, weight=weight, bias=bias, state_indices=state_indices,
        cache_seqlens=cache_seqlens,
    )  # fmt: skip
    if x.is_cuda:
        door.dtype("x", x, door.FLOATS)
