"""`selective_scan`: the Mamba-1 scan over a whole prompt (prefill), in one launch or two.

Promises: bad input is refused with one ValueError before the launch; strides and lengths are free;
no host synchronisation, so that a call can be captured in a CUDA graph. CPU tensors take the plain
torch form, unless Triton's interpreter is switched on (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssmprof_kernels import door, launch
from ssmprof_kernels.launch import recorded
from ssmprof_kernels.selective_scan import plan, reference

_MAX_STATES = 256
_recordings: recorded.Recordings = {}
_lookups = launch.lookups()
_INPUTS = ("u", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_state", "cu_seqlens")


def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """`h_t = exp(d_t A) h_{t-1} + d_t u_t B_t`, `y_t = <h_t, C_t>` (arXiv:2312.00752, section 3).

    `d = softplus(dt + dt_bias)`; then `y += D u`, then `y *= silu(z)`.

    Args:
        u: (B, L, D), fp32, fp16 or bf16; any strides, channel-first among them.
        dt: (B, L, D).
        A: (D, N), real, negative for a decay, -inf to forget at once; N up to 256. A step of 0
            leaves the state alone.
        B, C: (B, L, N) or (B, L, G, N); channel d reads group d // (D / G).
        D: (D). z: (B, L, D). dt_bias: (D).
        initial_state: (B, D, N), or (n, D, N) with `cu_seqlens`; zeros if None.
        return_final_state: True for the fp32 state after the last token, a dtype for that dtype.
        cu_seqlens: (n + 1) int32 on the device of u, ascending from 0 to L; the batch must be 1.
            Empty sequences are allowed and return their initial state. On a GPU, which tells
            nobody its values, y is 0 behind a last sequence that ends before L.

    Returns:
        y (B, L, D) in the dtype and the stride order of u, or (y, final state (B or n, D, N)).

    Raises:
        ValueError: an argument's shape, dtype or device does not fit; on a CPU also cu_seqlens that
            do not ascend from 0 to L.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    if B.dim() == 3:
        B = B.unsqueeze(2)
    if C.dim() == 3:
        C = C.unsqueeze(2)
    tensors = (u, dt, A, B, C, D, z, dt_bias, initial_state, cu_seqlens)
    door.forward_only(_INPUTS, tensors)
    if not (u.is_cuda or door.interpreted()):
        _check(*tensors)
        return reference.selective_scan(
            u,
            dt,
            A,
            B,
            C,
            D=D,
            z=z,
            dt_bias=dt_bias,
            dt_softplus=dt_softplus,
            initial_state=initial_state,
            return_final_state=return_final_state,
            cu_seqlens=cu_seqlens,
        )
    key = recorded.key_of(tensors, dt_softplus, return_final_state)
    meta = recorded.meta_of(_lookups, key, lambda: _lookup(tensors))
    sequences = u.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
    final = None
    if return_final_state is not False:
        dtype = torch.float32 if return_final_state is True else return_final_state
        final = torch.empty((sequences, *A.shape), dtype=dtype, device=u.device)
    y = torch.empty_like(u)
    call = (*tensors, final, y)
    recorded.run(
        _recordings, key, meta, call, u.device,
        lambda: plan.record(call, sequences, dt_softplus, meta),
    )  # fmt: skip
    return y if final is None else (y, final)


def _lookup(tensors: tuple[Any, ...]) -> launch.Lookup:
    sequences = _check(*tensors)
    u, A, cu_seqlens = tensors[0], tensors[2], tensors[9]
    return plan.lookup(
        sequences, u.shape[1] if cu_seqlens is None else 0, u.shape[2], A.shape[1],
        u.element_size() * 8, plan.is_rows(u), u.device,
    )  # fmt: skip


def _check(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    h0: Tensor | None,
    cu_seqlens: Tensor | None,
) -> int:
    """Number of sequences; ValueError for the first argument that does not fit."""
    if u.dim() != 3 or min(u.shape) < 1:
        raise ValueError(
            f"u must have shape (B, L, D) with every size at least 1, got {tuple(u.shape)}"
        )
    batch, length, channels = u.shape
    if A.dim() != 2 or A.shape[0] != channels or not 1 <= A.shape[1] <= _MAX_STATES:
        raise ValueError(
            f"A must have shape (D, N) = ({channels}, 1..{_MAX_STATES}), got {tuple(A.shape)}"
        )
    states = A.shape[1]
    groups = B.shape[2] if B.dim() == 4 else 0
    if groups < 1 or channels % groups:
        raise ValueError(
            f"B must have shape (B, L, N) or (B, L, G, N) with G a divisor of {channels}, "
            f"got {tuple(B.shape)}"
        )
    sequences = batch if cu_seqlens is None else door.cu_seqlens(cu_seqlens, batch)
    for name, tensor, shape, letters in (
        ("u", u, u.shape, "(B,L,D)"),
        ("dt", dt, u.shape, "(B,L,D)"),
        ("A", A, A.shape, "(D,N)"),
        ("B", B, (batch, length, groups, states), "(B,L,G,N)"),
        ("C", C, B.shape, "(B,L,G,N)"),
        ("D", D, (channels,), "(D)"),
        ("z", z, u.shape, "(B,L,D)"),
        ("dt_bias", dt_bias, (channels,), "(D)"),
        ("initial_state", h0, (sequences, channels, states), "(sequences,D,N)"),
    ):
        if tensor is not None:
            door.shape(name, tensor, shape, letters)
            door.dtype(name, tensor, door.FLOATS)
    door.same_device(
        u, dt=dt, A=A, B=B, C=C, D=D, z=z, dt_bias=dt_bias, initial_state=h0, cu_seqlens=cu_seqlens
    )
    return sequences
