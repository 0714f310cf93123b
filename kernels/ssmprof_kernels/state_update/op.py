"""`selective_state_update`: one decode step of Mamba-1 or Mamba-2, the state updated in place.

Promises: one launch that reads and writes each state element once; bad input is refused with one
ValueError before it; no host synchronisation. CPU tensors take the plain torch form, unless
Triton's interpreter is switched on (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

from torch import Tensor, empty_like

from ssmprof_kernels import door, launch
from ssmprof_kernels.launch import recorded
from ssmprof_kernels.state_update import plan, reference
from ssmprof_kernels.state_update.arguments import Arguments

_recordings: recorded.Recordings = {}
_lookups = launch.lookups()


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
    if not (x.is_cuda or door.interpreted()):
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
    key = recorded.key_of(tensors, dt_softplus, pad_index, overlap)
    meta = recorded.meta_of(_lookups, key, lambda: _lookup(Arguments(*tensors)))
    y = empty_like(x) if out is None else out
    # What was expanded or unflattened begins where the tensor that was given begins.
    call = (state, x, dt, A, B, C, D, z, dt_bias, state_indices, y)
    recorded.run(
        _recordings, key, meta, call, x.device,
        lambda: plan.record(
            Arguments(*tensors).expanded().as_heads(), meta, dt_softplus, pad_index, overlap
        ),
    )  # fmt: skip
    return y


def _lookup(given: Arguments) -> launch.Lookup:
    full = given.expanded()
    full.check()
    return plan.lookup(full.as_heads())
