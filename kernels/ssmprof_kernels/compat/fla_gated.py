"""Linear attention with decay of fla (`fla.ops.gla`, `.retention`, `.lightning_attn`) on our scans.

Signatures follow fla 0.6; the bodies are ours. Forward only. States are (n,H,K,V) fp32, or
(n,H,V,K) with `state_v_first`; None unless asked for.
"""

from __future__ import annotations

import torch

from ssmprof_kernels.compat import fla_states
from ssmprof_kernels.compat.inference import forward_only
from ssmprof_kernels.linear_attention.op import scan
from ssmprof_kernels.linear_attention.step import step

Found = tuple[torch.Tensor, torch.Tensor | None]


def _run(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    gates: torch.Tensor | None,
    decay: torch.Tensor | None,
    scale: float | None,
    initial_state: torch.Tensor | None,
    output_final_state: bool,
    state_v_first: bool,
    cu_seqlens: torch.Tensor | None,
) -> Found:
    times = q.shape[-1] ** -0.5 if scale is None else scale
    kind = "retention" if gates is None else "gla"
    state = fla_states.entering(initial_state, state_v_first)
    if q.shape[1] == 1 and cu_seqlens is None:
        final = fla_states.copied(state, q, v, q.shape[2])
        gate = None if gates is None else gates[:, 0]
        o = step(
            f"{kind}_step", final, q[:, 0], k[:, 0], v[:, 0], gate, decay, times, given=True
        ).unsqueeze(1)
    else:
        packed = fla_states.packed_ends(cu_seqlens)
        found = scan(
            kind, q, k, v, gates, decay, state, packed, times, output_final_state, given=True
        )
        o, final = found if isinstance(found, tuple) else (found, None)
    return o, fla_states.leaving(final, state_v_first, output_final_state)


def chunk_gla(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    state_v_first: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> Found:
    """q, k (B,L,H,K), v (B,L,H,V), g (B,L,H,K) log decay -> o (B,L,H,V), state."""
    del cu_seqlens_cpu  # a copy for the host, which nothing here needs
    forward_only(q=q, k=k, v=v, g=g, initial_state=initial_state)
    return _run(
        q, k, v, g, None, scale, initial_state, output_final_state, state_v_first, cu_seqlens
    )


def fused_recurrent_gla(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    gk: torch.Tensor | None = None,
    gv: torch.Tensor | None = None,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    reverse: bool = False,
    state_v_first: bool = False,
    cu_seqlens: torch.Tensor | None = None,
) -> Found:
    """`chunk_gla` by gates of keys, or none; gates of values (`gv`) and walking backwards in time
    (`reverse`) are not offered."""
    forward_only(q=q, k=k, v=v, gk=gk, gv=gv, initial_state=initial_state)
    fla_states.forward_in_time(reverse)
    if gv is not None:
        raise ValueError("gv is not offered; only the gates of keys, gk, are")
    decay = torch.zeros(q.shape[2], device=q.device) if gk is None else None
    return _run(
        q, k, v, gk, decay, scale, initial_state, output_final_state, state_v_first, cu_seqlens
    )


def chunk_retention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    chunk_size: int | None = None,
) -> Found:
    """Retention with decays of 1 - 2^(-5 - h) for head h."""
    del chunk_size  # cannot change the result
    forward_only(q=q, k=k, v=v, initial_state=initial_state)
    decay = _retention_decay(q)
    return _run(q, k, v, None, decay, scale, initial_state, output_final_state, False, cu_seqlens)


def fused_recurrent_retention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    reverse: bool = False,
    state_v_first: bool = False,
    cu_seqlens: torch.Tensor | None = None,
) -> Found:
    """`chunk_retention`; walking backwards in time (`reverse`) is not offered."""
    forward_only(q=q, k=k, v=v, initial_state=initial_state)
    fla_states.forward_in_time(reverse)
    decay = _retention_decay(q)
    return _run(
        q, k, v, None, decay, scale, initial_state, output_final_state, state_v_first, cu_seqlens
    )


def chunk_lightning_attn(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layer_idx: int,
    num_layers: int,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    chunk_size: int | None = None,
) -> Found:
    """Lightning attention, log decays -8 / H (1 - layer / layers) h for head h."""
    del chunk_size  # cannot change the result
    forward_only(q=q, k=k, v=v, initial_state=initial_state)
    decay = _lightning_decay(q, layer_idx, num_layers)
    return _run(q, k, v, None, decay, scale, initial_state, output_final_state, False, cu_seqlens)


def fused_recurrent_lightning_attn(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layer_idx: int,
    num_layers: int,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    reverse: bool = False,
    cu_seqlens: torch.Tensor | None = None,
) -> Found:
    """`chunk_lightning_attn`; walking backwards in time (`reverse`) is not offered."""
    forward_only(q=q, k=k, v=v, initial_state=initial_state)
    fla_states.forward_in_time(reverse)
    decay = _lightning_decay(q, layer_idx, num_layers)
    return _run(q, k, v, None, decay, scale, initial_state, output_final_state, False, cu_seqlens)


def _retention_decay(q: torch.Tensor) -> torch.Tensor:
    heads = torch.arange(q.shape[2], dtype=torch.float32, device=q.device)
    return torch.log1p(-torch.exp2(-5.0 - heads))


def _lightning_decay(q: torch.Tensor, layer: int, layers: int) -> torch.Tensor:
    heads = torch.arange(q.shape[2], dtype=torch.float32, device=q.device)
    return -(8.0 / q.shape[2] * (1.0 - layer / layers)) * heads
