"""Short causal convolution over time in Triton.

Promises: one launch; every input is read from memory once but for a halo of W-1 tokens per tile;
accumulation in fp32; any strides. y_t = act(bias + sum_j weight[:, W-1-j] * x_{t-j}); taps before
the first token of a sequence read the initial state, zeros where None. Shapes: x (B,L,D), weight
(D,W) with W = 2..4, bias (D), states (B,D,W-1) with the oldest input first.
"""

from __future__ import annotations

from typing import Any

import torch

from ssmprof_kernels import door, launch
from ssmprof_kernels.conv import reference
from ssmprof_kernels.conv.kernels import _causal_conv_rows_kernel, _conv_kernel
from ssmprof_kernels.launch import recorded, replay

#: Tokens and channels of a tile, consecutive tokens a thread takes at once, warps.
DEFAULT = {"BLOCK_L": 16, "BLOCK_D": 256, "U": 8, "num_warps": 4}
#: Where taps differ by token (ids, packed sequences).
DEFAULT_PER_TOKEN = {"BLOCK_L": 16, "BLOCK_D": 128, "U": 1, "num_warps": 2}
#: Where tokens are contiguous in memory, in rows of whole vectors of U, and in any other rows.
DEFAULT_ROWS = {"BLOCK_L": 1024, "BLOCK_D": 1, "U": 8, "num_warps": 2}
DEFAULT_UNEVEN_ROWS = {"BLOCK_L": 512, "BLOCK_D": 4, "U": 1, "num_warps": 4}


def causal_conv1d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str | None = None,
    initial_state: torch.Tensor | None = None,
    return_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    seq_idx: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Depthwise causal convolution of width W over the tokens of each sequence.

    Args:
        x: (B,L,D) fp32, fp16 or bf16, any strides (channel-first by strides included).
        weight: (D,W), W = 2, 3 or 4; the last column multiplies the current token.
        bias: (D) or None.
        activation: "silu" or None.
        initial_state: (B,D,W-1), or (n,D,W-1) with `cu_seqlens`; the inputs before the first token.
        return_final_state: also return the last W-1 inputs of each sequence, (B or n,D,W-1).
        cu_seqlens: (n+1) int32 on the device, ascending from 0 to L; sequences packed into batch 1,
            empty ones allowed. On a GPU, which tells nobody its values, y is 0 behind a last
            sequence that ends before L.
        seq_idx: (B,L) int32; taps reach back only while the id stays the same. Where it is below 0
            stands padding: y is 0, and the final state is that of the last token before it.

    Returns:
        y of x's shape and dtype, or (y, final_state).

    Raises:
        ValueError: an argument's shape, dtype, device or value does not fit; names it. On a CPU
            also cu_seqlens that do not ascend from 0 to L.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    inputs = (x, weight, bias, initial_state, seq_idx, cu_seqlens)
    door.forward_only(_INPUTS, inputs)
    key = recorded.key_of(inputs, activation, return_final_state)
    if key not in _recordings:
        _check(*inputs, activation)
    if not (x.is_cuda or door.interpreted()):
        return reference.causal_conv1d(
            x, weight, bias, activation=activation, initial_state=initial_state,
            return_final_state=return_final_state, cu_seqlens=cu_seqlens, seq_idx=seq_idx,
        )  # fmt: skip
    y = torch.empty_like(x)
    n = x.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
    final = x.new_empty(n, x.shape[2], weight.shape[1] - 1) if return_final_state else None
    varies = seq_idx is not None or cu_seqlens is not None
    if x.stride(2) != 1 and x.stride(1) == 1:
        if varies or not (_whole_vectors(x) and _whole_vectors(y)):
            bucket, default = "uneven-rows", DEFAULT_UNEVEN_ROWS
        else:
            bucket, default = "rows", DEFAULT_ROWS
    elif varies:
        bucket, default = "per-token", DEFAULT_PER_TOKEN
    else:
        bucket, default = launch.length_bucket(x.shape[0] * x.shape[1]), DEFAULT
    meta = launch.pick("causal_conv1d", bucket, x.device, default).meta
    tensors = (*inputs, y, final)
    recorded.run(
        _recordings, key, meta, tensors, x.device,
        lambda: _record(tensors, n, activation is not None, meta, rows=bucket == "rows"),
    )  # fmt: skip
    return y if final is None else (y, final)


_recordings: recorded.Recordings = {}
_INPUTS = ("x", "weight", "bias", "initial_state", "seq_idx", "cu_seqlens")


def _whole_vectors(x: torch.Tensor) -> bool:
    """Whether every channel's tokens are whole, aligned vectors of 16 bytes."""
    few = 16 // x.element_size()
    sizes = (x.shape[1], x.stride(0), x.stride(2))
    return x.data_ptr() % 16 == 0 and not any(size % few for size in sizes)


def _record(
    tensors: tuple[torch.Tensor | None, ...],
    n: int,
    silu: bool,
    meta: dict[str, int],
    *,
    rows: bool,
) -> replay.Recording:
    x, weight, bias, init, ids, cu, y, final = tensors
    assert x is not None
    assert weight is not None
    batch, length, dim = x.shape
    n_d = -(-dim // meta["BLOCK_D"])
    n_main = n_d * -(-length // meta["BLOCK_L"]) * batch
    strides: dict[str, int] = {}
    for t, letters in ((x, "xb xl xd"), (weight, "wd ww"), (init, "ib id iw"),
                       (ids, "sb sl"), (y, "yb yl yd")):  # fmt: skip
        names = [f"stride_{a}" for a in letters.split()]
        strides |= (
            dict.fromkeys(names, 0) if t is None else dict(zip(names, t.stride(), strict=True))
        )
    names = ("x", "w", "bias", "init", "ids", "cu", "y", "final")
    given: dict[str, Any] = {f"{name}_ptr": replay.Arg(i) for i, name in enumerate(names)}
    given |= {**strides, "length": length, "dim": dim, "n_main": n_main, "n_sequences": n}
    if rows:
        kernel, own = _causal_conv_rows_kernel, {"LOG_U": meta["U"].bit_length() - 1}
    else:
        kernel, own = _conv_kernel, {
            "HAS_IDS": ids is not None, "PACKED": cu is not None, "U": meta["U"],
            "SEARCH": 0 if cu is None else n.bit_length(),
        }  # fmt: skip
    recording = replay.Recording(len(tensors))
    recording.add(
        kernel,
        n_main + (0 if final is None else n_d * n),
        {"num_warps": meta["num_warps"], "enable_fp_fusion": True},
        **given, **own, W=weight.shape[1], SILU=silu, HAS_BIAS=bias is not None,
        HAS_INIT=init is not None, HAS_FINAL=final is not None,
        BLOCK_L=meta["BLOCK_L"], BLOCK_D=meta["BLOCK_D"],
    )  # fmt: skip
    return recording


def _check(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    initial_state: torch.Tensor | None,
    seq_idx: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    activation: str | None,
) -> None:
    if x.ndim != 3 or x.numel() == 0:
        raise ValueError(f"x must have shape (B,L,D), none of them 0, got {tuple(x.shape)}")
    batch, length, dim = x.shape
    check_filter(weight, bias, activation, dim)
    n = batch if cu_seqlens is None else door.cu_seqlens(cu_seqlens, batch)
    if initial_state is not None:
        expected = (n, dim, weight.shape[1] - 1)
        door.shape("initial_state", initial_state, expected, "(B,D,W-1)")
    if seq_idx is not None:
        door.shape("seq_idx", seq_idx, (batch, length), "(B,L)")
    door.same_device(
        x, weight=weight, bias=bias, initial_state=initial_state, cu_seqlens=cu_seqlens,
        seq_idx=seq_idx,
    )  # fmt: skip
    if x.is_cuda:
        door.dtype("x", x, door.FLOATS)


def check_filter(
    weight: torch.Tensor, bias: torch.Tensor | None, activation: str | None, dim: int
) -> None:
    """ValueError unless weight (D,W), bias (D) and activation fit `dim` channels."""
    if weight.ndim != 2 or weight.shape[0] != dim or not 2 <= weight.shape[1] <= 4:
        raise ValueError(f"weight must have shape (D,W) = ({dim}, 2..4), got {tuple(weight.shape)}")
    if bias is not None:
        door.shape("bias", bias, (dim,), "(D,)")
    if activation not in (None, "silu"):
        raise ValueError(f"activation must be None or 'silu', got {activation!r}")
