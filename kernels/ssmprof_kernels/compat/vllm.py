"""The decode steps of vLLM (`vllm.model_executor.layers.mamba.ops`) on our kernels.

Signatures follow vLLM's `mamba_ssm.selective_state_update` and
`causal_conv1d.causal_conv1d_update`; the bodies are ours. Speculative decoding:
`num_accepted_tokens` says from which of the states that the call before has kept a sequence goes
on. Not offered: stochastic rounding of the state.
"""

from __future__ import annotations

import torch

import ssmprof_kernels
from ssmprof_kernels.compat.inference import forward_only, fp32
from ssmprof_kernels.conv.drafts import causal_conv1d_drafts
from ssmprof_kernels.state_update.drafts import selective_state_drafts

PAD_SLOT_ID = -1


def selective_state_update(
    state: torch.Tensor,
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None = None,
    z: torch.Tensor | None = None,
    dt_bias: torch.Tensor | None = None,
    dt_softplus: bool = False,
    state_batch_indices: torch.Tensor | None = None,
    dst_state_batch_indices: torch.Tensor | None = None,
    pad_slot_id: int = PAD_SLOT_ID,
    out: torch.Tensor | None = None,
    num_accepted_tokens: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    is_blackwell: bool = False,
    enable_stochastic_rounding: bool = False,
    cache_philox_rounds: int = 0,
) -> torch.Tensor:
    """state (slots,H,P,N) or (slots,D,N) changes in place; x, dt (rows,H,P) or (rows,D) -> y as x.

    Slots (n) or (n,T); with `num_accepted_tokens` (n) the state after token t of a sequence goes to
    column t, and a sequence starts from the column of its last accepted token.
    """
    del is_blackwell, cache_philox_rounds  # blocks come from our tables
    forward_only(state=state, x=x, dt=dt, A=A, B=B, C=C, D=D, z=z, dt_bias=dt_bias)
    if enable_stochastic_rounding:
        raise ValueError("enable_stochastic_rounding=True is not offered")
    n = len(x) if cu_seqlens is None else len(cu_seqlens) - 1
    each = num_accepted_tokens is not None
    slots = _slots(state_batch_indices, n, each)
    new = _slots(dst_state_batch_indices, n, each)
    if new is None and cu_seqlens is None and not each:
        return ssmprof_kernels.selective_state_update(
            state, x, dt, fp32(A), B, C, D=fp32(D), z=z, dt_bias=fp32(dt_bias),
            dt_softplus=dt_softplus, state_indices=slots, pad_index=pad_slot_id, out=out,
        )  # fmt: skip
    return selective_state_drafts(
        state, x, dt, fp32(A), B, C, D=fp32(D), z=z, dt_bias=fp32(dt_bias),
        dt_softplus=dt_softplus, state_indices=slots, new_indices=new,
        cu_seqlens=None if cu_seqlens is None else cu_seqlens.to(torch.int32),
        accepted=num_accepted_tokens, pad_index=pad_slot_id, out=out,
    )  # fmt: skip


def causal_conv1d_update(
    x: torch.Tensor,
    conv_state: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    activation: bool | str | None = None,
    conv_state_indices: torch.Tensor | None = None,
    num_accepted_tokens: torch.Tensor | None = None,
    query_start_loc: torch.Tensor | None = None,
    max_query_len: int = -1,
    pad_slot_id: int = PAD_SLOT_ID,
    block_idx_last_scheduled_token: torch.Tensor | None = None,
    initial_state_idx: torch.Tensor | None = None,
    validate_data: bool = False,
) -> torch.Tensor:
    """x (n,D), (n,D,l), or (rows,D) with `query_start_loc`; `conv_state` (slots,D,S) changes in
    place -> y of x's shape, in memory of its own.

    With `block_idx_last_scheduled_token` and `initial_state_idx` (n) the slots are columns of
    `conv_state_indices` (n,T): the first is written, the second read.
    """
    del validate_data  # our checks are always made
    forward_only(x=x, conv_state=conv_state, weight=weight, bias=bias)
    name = {True: "silu", False: None, "swish": "silu"}.get(activation, activation)  # type: ignore[arg-type]
    packed = query_start_loc is not None
    n = len(x) if query_start_loc is None else len(query_start_loc) - 1
    old = new = _slots(conv_state_indices, n, False)
    if conv_state_indices is not None and conv_state_indices.ndim == 2:
        if initial_state_idx is not None:
            old = _column(conv_state_indices, initial_state_idx)
        if block_idx_last_scheduled_token is not None:
            new = _column(conv_state_indices, block_idx_last_scheduled_token)
    tokens = x if packed else x.unsqueeze(1) if x.ndim == 2 else x.transpose(1, 2)
    room = weight.shape[1] - 1
    if num_accepted_tokens is not None:
        room += (max_query_len if packed else tokens.shape[1]) - 1
    y = causal_conv1d_drafts(
        tokens, conv_state[..., :room], weight, bias, activation=name, state_indices=old,
        new_indices=None if new is old else new,
        cu_seqlens=None if query_start_loc is None else query_start_loc.to(torch.int32),
        accepted=num_accepted_tokens, pad_index=pad_slot_id,
    )  # fmt: skip
    return y if packed else y.squeeze(1) if x.ndim == 2 else y.transpose(1, 2)


def _slots(table: torch.Tensor | None, n: int, each: bool) -> torch.Tensor | None:
    """The slots of n sequences: all columns with `each`, else the first."""
    if table is None:
        return None
    table = table[:n].to(torch.int32)
    return table if each or table.ndim == 1 else table[:, 0]


def _column(table: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Entry at[i] of row i."""
    return table[: len(at)].gather(1, at.long()[:, None])[:, 0].to(torch.int32)
