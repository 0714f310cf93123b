"""`ssd_scan`: the Mamba-2 scan over a whole prompt (prefill), in one to three launches.

Promises: bad input is refused with one ValueError before any launch; strides and lengths are free;
no host synchronisation, so that a call can be captured in a CUDA graph. CPU tensors take the plain
torch form, unless Triton's interpreter is switched on (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ssmprof_kernels import door, launch
from ssmprof_kernels.launch import recorded
from ssmprof_kernels.ssd import launches, plan, reference

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_INPUTS = (
    *("x", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_state", "cu_seqlens", "seq_idx"),
)


def ssd_scan(
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
    dt_limit: tuple[float, float] = (0.0, math.inf),
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
    seq_idx: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """`h_t = exp(d_t A) h_{t-1} + d_t x_t (x) B_t`, `y_t = h_t C_t` (arXiv:2405.21060).

    `d = clamp(softplus(dt + dt_bias), *dt_limit)`; then `y += D x`, then `y *= silu(z)`.

    Args:
        x: (B, L, H, P), fp32, fp16 or bf16; any strides.
        dt: (B, L, H).
        A: (H), negative for a decay, -inf to forget at once. A step of 0 leaves the state alone.
        B, C: (B, L, G, N) of the dtype of x; head h reads group h // (H / G).
        D: (H) or (H, P). z: (B, L, H, P). dt_bias: (H).
        dt_limit: bounds of the step size.
        initial_state: (B, H, P, N), or (n, H, P, N) with `cu_seqlens`; zeros if None.
        return_final_state: True for the fp32 state after the last token, a dtype for that dtype.
        cu_seqlens: (n + 1) int32 on the device of x, ascending from 0 to L; B must be 1. Empty
            sequences are allowed and return their initial state. On a GPU, which tells nobody its
            values, y is 0 behind a last sequence that ends before L.
        seq_idx: (B, L) int32; the state is forgotten where the id changes. Where it is below 0
            stands padding: y is 0, and the final state is that of the last token before it.

    Returns:
        y (B, L, H, P) in the dtype of x, or (y, final state).

    Raises:
        ValueError: an argument's shape, dtype or device does not fit; on a CPU also cu_seqlens that
            do not ascend from 0 to L.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    inputs = (x, dt, A, B, C, D, z, dt_bias, initial_state, cu_seqlens, seq_idx)
    door.forward_only(_INPUTS, inputs)
    if not x.is_cuda and not door.interpreted():
        _check(*inputs)
        return reference.ssd_scan(
            x,
            dt,
            A,
            B,
            C,
            D=D,
            z=z,
            dt_bias=dt_bias,
            dt_softplus=dt_softplus,
            dt_limit=dt_limit,
            initial_state=initial_state,
            return_final_state=return_final_state,
            cu_seqlens=cu_seqlens,
            seq_idx=seq_idx,
        )
    key = recorded.key_of(inputs, dt_softplus, dt_limit, return_final_state)
    meta = recorded.meta_of(_lookups, key, lambda: _lookup(inputs))
    sequences = x.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
    final = None
    if return_final_state is not False:
        dtype = torch.float32 if return_final_state is True else return_final_state
        final = torch.empty((sequences, *x.shape[2:], B.shape[3]), dtype=dtype, device=x.device)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    # Small tensors that kernels read as plain arrays; `contiguous` returns one that already is.
    A = A.contiguous()
    D, dt_bias, initial_state = (
        t if t is None else t.contiguous() for t in (D, dt_bias, initial_state)
    )
    tensors = (x, dt, A, B, C, D, z, dt_bias, initial_state, cu_seqlens, seq_idx, y, final)
    recorded.run(
        _recordings, key, meta, tensors, x.device,
        lambda: launches.record(tensors, sequences, dt_softplus, dt_limit, meta),
    )  # fmt: skip
    return y if final is None else (y, final)


_recordings: recorded.Recordings = {}
_lookups = launch.lookups()


def _lookup(inputs: tuple[Any, ...]) -> launch.Lookup:
    _check(*inputs)
    x, B = inputs[0], inputs[3]
    return plan.lookup(x.shape, B.shape[3], x.dtype, x.device)


def _check(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    h0: Tensor | None,
    cu_seqlens: Tensor | None,
    seq_idx: Tensor | None,
) -> int:
    """Number of sequences; ValueError for the first argument that does not fit."""
    if x.dim() != 4 or min(x.shape[0], *x.shape[1:]) < 1:
        raise _misfit("x", "(B, L, H, P) with every size at least 1", x)
    if x.dtype not in _DTYPES:
        raise ValueError(f"ssd_scan: x must be float32, float16 or bfloat16, got {x.dtype}")
    batch, length, heads, width = x.shape
    if B.dim() != 4 or B.shape[:2] != x.shape[:2]:
        raise _misfit("B", f"({batch}, {length}, G, N)", B)
    groups, states = B.shape[2:]
    if groups < 1 or heads % groups or not 1 <= states <= 256:
        raise _misfit("B", f"(B, L, G, N) with G a divisor of {heads} and N in 1..256", B)
    sequences = batch
    if cu_seqlens is not None:
        if cu_seqlens.dim() != 1 or len(cu_seqlens) < 2 or cu_seqlens.dtype != torch.int32:
            raise _misfit("cu_seqlens", "(n + 1) of int32", cu_seqlens)
        if batch != 1:
            raise _misfit("x", f"(1, {length}, {heads}, {width}) beside cu_seqlens", x)
        sequences = len(cu_seqlens) - 1
    for name, t, shapes in (
        ("dt", dt, ((batch, length, heads),)),
        ("A", A, ((heads,),)),
        ("C", C, (B.shape,)),
        ("D", D, ((heads,), (heads, width))),
        ("z", z, (x.shape,)),
        ("dt_bias", dt_bias, ((heads,),)),
        ("initial_state", h0, ((sequences, heads, width, states),)),
        ("seq_idx", seq_idx, ((batch, length),)),
    ):
        if t is not None and tuple(t.shape) not in shapes:
            raise _misfit(name, " or ".join(str(tuple(s)) for s in shapes), t)
    for name, t in (("B", B), ("C", C)):
        if t.dtype != x.dtype:
            raise ValueError(f"ssd_scan: {name} must have the dtype of x, {x.dtype}; got {t.dtype}")
    for name, t in (
        ("dt", dt),
        ("A", A),
        ("B", B),
        ("C", C),
        ("D", D),
        ("z", z),
        ("dt_bias", dt_bias),
        ("initial_state", h0),
        ("cu_seqlens", cu_seqlens),
        ("seq_idx", seq_idx),
    ):
        if t is not None and t.device != x.device:
            raise ValueError(f"ssd_scan: {name} is on {t.device}, expected {x.device} as x")
    return sequences


def _misfit(name: str, expected: str, given: Tensor) -> ValueError:
    return ValueError(
        f"ssd_scan: {name} must have shape {expected}, got {tuple(given.shape)} of {given.dtype}"
    )
