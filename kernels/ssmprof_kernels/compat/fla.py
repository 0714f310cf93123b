"""The scalar-gate linear attention of fla (`fla.ops.simple_gla`) on our SSD scan.

Signatures follow fla 0.6; the bodies are ours. Forward only. S_t = e^{g_t} S_{t-1} + k_t v_t^T and
o_t = scale * S_t^T q_t is the SSD recurrence (arXiv:2405.21060, section 7) with C = q, B = k, step
size -g and x = v / step: exact up to fp32 rounding, hence computed on fp32 inputs where the gate
varies by token. A gate constant per head (`g_gamma`, retention) needs no division and keeps the
input dtype.
"""

from __future__ import annotations

import torch

import ssmprof_kernels
from ssmprof_kernels.compat import fla_states
from ssmprof_kernels.compat.inference import forward_only

# A gate of exactly 0 still needs a step to divide by; a power of two multiplies back exactly.
_LEAST_STEP = 2.0**-60


def chunk_simple_gla(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor | None = None,
    g_gamma: torch.Tensor | None = None,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    state_v_first: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """q, k (B,L,H,K), v (B,L,H,V), g (B,L,H) or g_gamma (H) log decay -> o (B,L,H,V), state.

    The state is (n,H,K,V) fp32, or (n,H,V,K) with `state_v_first`; None unless asked for.
    """
    del cu_seqlens_cpu  # a copy for the host, which nothing here needs
    forward_only(q=q, k=k, v=v, g=g, g_gamma=g_gamma, initial_state=initial_state)
    if g is not None and g_gamma is not None:
        raise ValueError("g and g_gamma are both given; pass one of them")
    batch, length, heads, width = q.shape
    dtype = v.dtype
    if g is not None:
        step = (-g.float()).clamp(min=_LEAST_STEP)
        rate = torch.full((heads,), -1.0, device=q.device)
        x, q, k = v.float() / step.unsqueeze(-1), q.float(), k.float()
    else:
        step = torch.ones((), device=q.device).expand(batch, length, heads)
        rate = torch.zeros(heads, device=q.device) if g_gamma is None else g_gamma.float()
        x = v
    # The scan's states are (n,H,V,K).
    turned = not state_v_first
    state = fla_states.entering(initial_state, turned)
    o, final = ssmprof_kernels.ssd_scan(
        x,
        step,
        rate,
        k,
        q,
        initial_state=None if state is None else state.float(),
        return_final_state=True,
        cu_seqlens=fla_states.packed_ends(cu_seqlens),
    )
    o = (o * (width**-0.5 if scale is None else scale)).to(dtype)
    return o, fla_states.leaving(final, turned, output_final_state)


def fused_recurrent_simple_gla(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor | None = None,
    g_gamma: torch.Tensor | None = None,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    reverse: bool = False,
    state_v_first: bool = False,
    cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`chunk_simple_gla`; walking backwards in time (`reverse`) is not offered."""
    fla_states.forward_in_time(reverse)
    return chunk_simple_gla(
        q, k, v, g, g_gamma, scale, initial_state, output_final_state, state_v_first, cu_seqlens
    )
