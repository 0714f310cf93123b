"""The functions of mamba_ssm on our kernels.

Signatures follow mamba_ssm 2.3; the bodies are ours. Forward only. Not offered:
`mamba_split_conv1d_scan_combined` (a training shortcut; models call the single functions without
it), a complex A, time-invariant B and C.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

import ssmprof_kernels
from ssmprof_kernels.compat.causal_conv1d import causal_conv1d_fn
from ssmprof_kernels.compat.inference import forward_only, fp32


def _by_token(name: str, tensor: torch.Tensor) -> torch.Tensor:
    # (B,N,L) or (B,G,N,L) -> (B,L,N) or (B,L,G,N), by strides.
    if tensor.ndim == 3:
        return tensor.transpose(1, 2)
    if tensor.ndim == 4:
        return tensor.permute(0, 3, 1, 2)
    raise ValueError(
        f"{name} must have shape (B,N,L) or (B,G,N,L), got {tuple(tensor.shape)}; "
        f"time-invariant {name} is not offered"
    )


def selective_scan_fn(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None = None,
    z: torch.Tensor | None = None,
    delta_bias: torch.Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Any:
    """u, delta, z (B,D,L), A (D,N), B, C (B,N,L) or (B,G,N,L) -> y (B,D,L), or (y, (B,D,N))."""
    forward_only(u=u, delta=delta, A=A, B=B, C=C, D=D, z=z, delta_bias=delta_bias)
    if A.is_complex():
        raise ValueError("A is complex, which is not offered; a real A is expected")
    found: Any = ssmprof_kernels.selective_scan(
        u.transpose(1, 2),
        delta.transpose(1, 2),
        A.float(),
        _by_token("B", B),
        _by_token("C", C),
        D=fp32(D),
        z=None if z is None else z.transpose(1, 2),
        dt_bias=fp32(delta_bias),
        dt_softplus=delta_softplus,
        return_final_state=return_last_state,
    )
    if not return_last_state:
        return found.transpose(1, 2)
    return found[0].transpose(1, 2), found[1]


def mamba_inner_fn(
    xz: torch.Tensor,
    conv1d_weight: torch.Tensor,
    conv1d_bias: torch.Tensor | None,
    x_proj_weight: torch.Tensor,
    delta_proj_weight: torch.Tensor,
    out_proj_weight: torch.Tensor,
    out_proj_bias: torch.Tensor | None,
    A: torch.Tensor,
    B: torch.Tensor | None = None,
    C: torch.Tensor | None = None,
    D: torch.Tensor | None = None,
    delta_bias: torch.Tensor | None = None,
    B_proj_bias: torch.Tensor | None = None,
    C_proj_bias: torch.Tensor | None = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
    b_rms_weight: torch.Tensor | None = None,
    c_rms_weight: torch.Tensor | None = None,
    dt_rms_weight: torch.Tensor | None = None,
    b_c_dt_rms_eps: float = 1e-6,
) -> torch.Tensor:
    """A Mamba-1 mixer behind its input projection: xz (B,2D,L) -> (B,L,d_model).

    conv1d_weight (D,1,W); x_proj_weight (R + 2N,D) or less where B or C is given, (B,N,L) each;
    delta_proj_weight (D,R); out_proj_weight (d_model,D). `checkpoint_lvl` is about gradients.
    """
    del checkpoint_lvl
    forward_only(
        xz=xz, conv1d_weight=conv1d_weight, conv1d_bias=conv1d_bias, x_proj_weight=x_proj_weight,
        delta_proj_weight=delta_proj_weight, out_proj_weight=out_proj_weight,
        out_proj_bias=out_proj_bias, A=A, B=B, C=C, D=D, delta_bias=delta_bias,
        B_proj_bias=B_proj_bias, C_proj_bias=C_proj_bias, b_rms_weight=b_rms_weight,
        c_rms_weight=c_rms_weight, dt_rms_weight=dt_rms_weight,
    )  # fmt: skip
    x, z = xz.chunk(2, dim=1)
    x = causal_conv1d_fn(x, conv1d_weight.squeeze(1), conv1d_bias, activation="silu")
    assert isinstance(x, torch.Tensor)
    rank, states = delta_proj_weight.shape[1], A.shape[1]
    projected = F.linear(x.transpose(1, 2), x_proj_weight)
    parts = [projected[..., :rank], *projected[..., rank:].split(states, dim=-1)]

    def by_token(
        given: torch.Tensor | None, at: int, bias: torch.Tensor | None, norm: torch.Tensor | None
    ) -> torch.Tensor:
        found = parts[at] if given is None else given.transpose(-1, -2)
        if given is None and bias is not None:
            found = found + bias.to(found.dtype)
        return found if norm is None else _rms(found, norm, b_c_dt_rms_eps)

    delta = F.linear(parts[0], delta_proj_weight)
    if dt_rms_weight is not None:
        delta = _rms(delta, dt_rms_weight, b_c_dt_rms_eps)
    y = selective_scan_fn(
        x,
        delta.transpose(1, 2),
        A,
        by_token(B, 1, B_proj_bias, b_rms_weight).transpose(1, 2),
        by_token(C, -1, C_proj_bias, c_rms_weight).transpose(1, 2),
        D,
        z=z,
        delta_bias=delta_bias,
        delta_softplus=delta_softplus,
    )
    bias = None if out_proj_bias is None else out_proj_bias.to(out_proj_weight.dtype)
    return F.linear(y.transpose(1, 2).to(out_proj_weight.dtype), out_proj_weight, bias)


def _rms(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return ssmprof_kernels.gated_rmsnorm(x, weight, eps=eps)


def mamba_chunk_scan_combined(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    chunk_size: int,
    D: torch.Tensor | None = None,
    z: torch.Tensor | None = None,
    dt_bias: torch.Tensor | None = None,
    initial_states: torch.Tensor | None = None,
    seq_idx: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, math.inf),
    return_final_states: bool = False,
    return_varlen_states: bool = False,
) -> Any:
    """x, z (B,L,H,P), dt (B,L,H), A (H), B, C (B,L,G,N) -> y, and the states that were asked for.

    `chunk_size` cannot change the result and is not used. Tokens whose `seq_idx` is below 0 are
    padding: y is 0 and no state changes. With `cu_seqlens` the sequences are
    packed into batch 1; `return_varlen_states` gives their (n,H,P,N) end states.
    """
    del chunk_size
    forward_only(
        x=x, dt=dt, A=A, B=B, C=C, D=D, z=z, dt_bias=dt_bias, initial_states=initial_states
    )
    if cu_seqlens is not None and initial_states is not None:
        raise ValueError("initial_states together with cu_seqlens is not offered; pass one of them")
    if return_varlen_states and cu_seqlens is None:
        raise ValueError("return_varlen_states needs cu_seqlens, got None")
    wanted = return_final_states or return_varlen_states
    found = ssmprof_kernels.ssd_scan(
        x,
        dt,
        A.float(),
        B,
        C,
        D=fp32(D),
        z=z,
        dt_bias=fp32(dt_bias),
        dt_softplus=dt_softplus,
        dt_limit=dt_limit,
        initial_state=initial_states,
        return_final_state=wanted,
        cu_seqlens=None if cu_seqlens is None else cu_seqlens.to(torch.int32),
        seq_idx=seq_idx,
    )
    if not wanted:
        return found
    y, state = found
    last = state if cu_seqlens is None else state[-1:]
    if not return_varlen_states:
        return y, last
    return (y, last, state) if return_final_states else (y, state)


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
) -> torch.Tensor:
    """state (slots,H,P,N) or (slots,D,N) changes in place; x, dt (B,H,P) or (B,D) -> y like x.

    A row whose index is below 0 is padding: its y is 0 and no state changes.
    """
    forward_only(state=state, x=x, dt=dt, A=A, B=B, C=C, D=D, z=z, dt_bias=dt_bias)
    return ssmprof_kernels.selective_state_update(
        state,
        x,
        dt,
        fp32(A),
        B,
        C,
        D=fp32(D),
        z=z,
        dt_bias=fp32(dt_bias),
        dt_softplus=dt_softplus,
        state_indices=state_batch_indices,
    )


def layernorm_fn(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    z: torch.Tensor | None = None,
    eps: float = 1e-6,
    group_size: int | None = None,
    norm_before_gate: bool = True,
    is_rms_norm: bool = False,
) -> torch.Tensor:
    """Layer norm of (...,D) over groups of channels, RMS norm with `is_rms_norm`; gated by silu(z)
    behind or before it."""
    forward_only(x=x, weight=weight, bias=bias, z=z)
    return ssmprof_kernels.gated_rmsnorm(
        x,
        weight,
        z=z,
        group_size=group_size,
        norm_before_gate=norm_before_gate,
        eps=eps,
        bias=bias,
        subtract_mean=not is_rms_norm,
    )


def rmsnorm_fn(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    z: torch.Tensor | None = None,
    eps: float = 1e-6,
    group_size: int | None = None,
    norm_before_gate: bool = True,
) -> torch.Tensor:
    """`layernorm_fn` with `is_rms_norm=True`."""
    return layernorm_fn(x, weight, bias, z, eps, group_size, norm_before_gate, True)
