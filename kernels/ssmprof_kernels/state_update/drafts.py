"""`selective_state_drafts`: a few tokens per sequence at once, states kept where they are wanted.

Speculative decoding verifies drafts: a model runs several tokens of a sequence, and only then is
known how many of them count. So the state after each token is kept in a slot of its own, and the
next call starts from the slot of the last token that was accepted. Promises: one launch; otherwise
those of `op.selective_state_update`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssmprof_kernels import door, launch
from ssmprof_kernels.launch import recorded
from ssmprof_kernels.state_update import plan, reference
from ssmprof_kernels.state_update.arguments import Arguments

_recordings: recorded.Recordings = {}
_lookups = launch.lookups()


class Sequences(NamedTuple):
    """Which rows belong together, and where their states are."""

    state_indices: Tensor | None
    new_indices: Tensor | None
    cu_seqlens: Tensor | None
    accepted: Tensor | None

    def check(self, x: Tensor, slots: int) -> None:
        """ValueError for the first argument that does not fit x (rows, ...) and `slots`."""
        rows = x.shape[0]
        n = rows if self.cu_seqlens is None else door.cu_seqlens(self.cu_seqlens, 1)
        old, new, accepted = self.state_indices, self.new_indices, self.accepted
        if accepted is not None:
            door.shape("accepted", accepted, (n,), "(n)")
            if old is None or old.dim() != 2:
                shape = None if old is None else tuple(old.shape)
                raise ValueError(
                    f"state_indices must have shape (n,T) = ({n}, T) beside accepted, got {shape}"
                )
        for name, table in (("state_indices", old), ("new_indices", new)):
            if table is not None:
                width = table.shape[1:] if accepted is not None else ()
                door.shape(name, table, (n, *width), "(n,T)" if accepted is not None else "(n)")
                door.dtype(name, table, (torch.int32,))
        if old is None and n > slots:
            raise ValueError(f"state must have a slot for each of {n} sequences, got {slots}")
        door.same_device(x, **self._asdict())


def selective_state_drafts(
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
    new_indices: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    accepted: Tensor | None = None,
    pad_index: int = -1,
    out: Tensor | None = None,
) -> Tensor:
    """`selective_state_update` for several tokens of each sequence, from slot to slot.

    Args:
        state, x, dt, A, B, C, D, z, dt_bias, dt_softplus: as there; a row of x is one token.
        state_indices: (n) int32, the slot each sequence starts from, (n,T) with `accepted`;
            sequence i starts from slot i if None.
        new_indices: the slot the state after the last token is written to, (n); with `accepted`
            (n,T), the slots after tokens 0, 1, ... `state_indices` if None.
        cu_seqlens: (n + 1) int32 on the device, ascending; sequence i has rows cu[i] .. cu[i + 1].
            Each row is a sequence if None.
        accepted: (n) int32, how many tokens of the call before were accepted: sequence i starts
            from slot state_indices[i, max(accepted[i], 1) - 1].
        pad_index: a slot of this index or below 0 is none: a sequence that starts from one has a y
            of 0 and writes nothing, a state that goes to one is not kept.
        out: as x.

    Returns:
        y as x, `out` if given.

    Raises:
        ValueError: an argument's shape, dtype or device does not fit.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    tensors = (state, x, dt, A, B, C, D, z, dt_bias, None, out)
    more = Sequences(state_indices, new_indices, cu_seqlens, accepted)
    door.forward_only(Arguments._fields, tensors)
    if not (x.is_cuda or door.interpreted()):
        _lookup(Arguments(*tensors), more)
        return reference.selective_state_drafts(
            state, x, dt, A, B, C, D=D, z=z, dt_bias=dt_bias, dt_softplus=dt_softplus,
            state_indices=state_indices, new_indices=new_indices, cu_seqlens=cu_seqlens,
            accepted=accepted, pad_index=pad_index, out=out,
        )  # fmt: skip
    key = recorded.key_of((*tensors, *more), dt_softplus, pad_index)
    meta = recorded.meta_of(_lookups, key, lambda: _lookup(Arguments(*tensors), more))
    y = torch.empty_like(x) if out is None else out
    call = (state, x, dt, A, B, C, D, z, dt_bias, y, *more)
    recorded.run(
        _recordings, key, meta, call, x.device,
        lambda: plan.record_drafts(
            Arguments(*tensors).expanded().as_heads(), more, meta, dt_softplus, pad_index
        ),
    )  # fmt: skip
    return y


def _lookup(given: Arguments, more: Sequences) -> launch.Lookup:
    full = given.expanded()
    # Rows share slots, so that there may be fewer slots than rows.
    full._replace(state_indices=full.x.new_empty(len(full.x), dtype=torch.int32)).check()
    more.check(full.x, full.state.shape[0])
    return plan.lookup(full.as_heads())
