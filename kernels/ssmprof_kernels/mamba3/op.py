"""`mamba3_scan`: Mamba-3 over a whole prompt (prefill), in three to eight launches.

Promises: bad input is refused with one ValueError before any launch; strides and lengths are free,
and no length makes a kernel compile again; no host synchronisation, so that a call can be captured
in a CUDA graph. CPU tensors take the plain torch form, unless Triton's interpreter is switched on
(`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssmprof_kernels import door, reference
from ssmprof_kernels.launch import recorded
from ssmprof_kernels.mamba3 import checks, launches, plan
from ssmprof_kernels.reference.mamba3 import Weights

_recordings: recorded.Recordings = {}
_accepted: set[recorded.Key] = set()


def mamba3_scan(
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
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Exponential-trapezoidal rule, complex-valued state, R ranks (arXiv:2603.15569, section 3).

    The recurrence, its weights and the layout of a state stand in `reference.mamba3`. A number that
    is not finite spoils its chunk of 64 rows and all tokens behind it.

    Args:
        q, k: (B, L, R, G, N), normed, without their biases; head h reads group h // (H / G); R up
            to 16, N up to 256.
        v: (B, L, H, P), fp32, fp16 or bf16; q and k have the same dtype.
        a, dt, trap: (B, L, H), as projected. angles: (B, L, S), 2 S <= N, the same for all heads.
        weights: biases (H, R, N) of q and k, bias of dt and skip D (H), and matrices of ranks (H,
            R, P), or None for ones; without `mimo_out` ranks stay apart.
        z: (B, L, H, P), the gate, or None.
        initial_state: (B, H P N + H R N + H P); nothing has been read if None.
        return_final_state: True for the fp32 state after the last token, a dtype for that dtype.

    Returns:
        y (B, L, H, P), or (B, L, R, H, P) where ranks stay apart, in the dtype of v; or (y, final
        state).

    Raises:
        ValueError: an argument's shape, dtype or device does not fit.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    tokens = (q, k, v, a, dt, trap, angles)
    door.forward_only(checks.NAMES, (*tokens, z, initial_state, *weights))
    if not v.is_cuda and not door.interpreted():
        checks.scan(*tokens, weights, z, initial_state)
        return reference.mamba3_scan(
            q,
            k,
            v,
            a,
            dt,
            trap,
            angles,
            weights=weights,
            z=z,
            initial_state=initial_state,
            return_final_state=return_final_state,
        )
    # What was accepted once is accepted again.
    asked = recorded.key_of((*tokens, z, initial_state, *weights), return_final_state)
    if asked not in _accepted:
        checks.scan(*tokens, weights, z, initial_state)
        _accepted.add(asked)
    weights = checks.completed(weights, v.shape[-1], z is not None)
    batch, length, heads, width = v.shape
    rank, _, states = q.shape[2:]
    apart = weights.mimo_out is None and rank > 1
    shape = (batch, length, rank, heads, width) if apart else v.shape
    out = torch.empty(shape, dtype=v.dtype, device=v.device)
    final = None
    if return_final_state is not False:
        dtype = torch.float32 if return_final_state is True else return_final_state
        size = heads * (width * states + rank * states + width)
        final = torch.empty(batch, size, dtype=dtype, device=v.device)
    if initial_state is not None and initial_state.stride(1) != 1:
        initial_state = initial_state.contiguous()
    tensors = (*tokens, z, initial_state, *weights, out, final)
    ranks = launches.power_of_two(rank)
    meta = plan.choose(length * ranks, ranks, width, states, v).meta
    recorded.run(
        _recordings, recorded.key_of(tensors), meta, tensors, v.device,
        lambda: launches.record(tensors, meta),
    )  # fmt: skip
    return out if final is None else (out, final)
