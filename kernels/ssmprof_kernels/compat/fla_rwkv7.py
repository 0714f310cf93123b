"""RWKV-7's rule of fla (`fla.ops.rwkv7`) on our scan.

Signatures follow fla 0.6; the bodies are ours. Forward only. S_t = (diag(e^{w_t}) + b_t a_t^T)
S_{t-1} + k_t v_t^T and o_t = scale S_t^T r_t. States are (n,H,K,V) fp32; None unless asked for.
"""

from __future__ import annotations

import torch

from ssmprof_kernels.compat.inference import forward_only
from ssmprof_kernels.rwkv7.op import scan

Found = tuple[torch.Tensor, torch.Tensor | None]


def _run(
    inputs: tuple[torch.Tensor, ...],
    scale: float | None,
    initial_state: torch.Tensor | None,
    output_final_state: bool,
    cu_seqlens: torch.Tensor | None,
    *,
    pair: bool,
) -> Found:
    r, w, k, v, removed, a = inputs
    packed = None if cu_seqlens is None else cu_seqlens.to(torch.int32)
    times = r.shape[-1] ** -0.5 if scale is None else scale
    found = scan(
        r, w, k, v, removed, a, initial_state, packed, times, output_final_state, pair=pair
    )
    return found if isinstance(found, tuple) else (found, None)


def chunk_rwkv7(
    r: torch.Tensor,
    w: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    scale: float = 1.0,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
    safe_gate: bool = False,
    chunk_size: int | None = None,
    disable_recompute: bool = False,
    cp_context: object | None = None,
    lower_bound: float | None = None,
) -> Found:
    """r, w, k, a, b (B,L,H,K), v (B,L,H,V), w the log decay -> o (B,L,H,V), state.

    What promises a range of w (`safe_gate`, `lower_bound`) or cuts the work (`chunk_size`) cannot
    change the result; contexts of several devices (`cp_context`) are not offered.
    """
    # The last two are a copy for the host and a matter of gradients.
    del safe_gate, chunk_size, lower_bound, cu_seqlens_cpu, disable_recompute
    forward_only(r=r, w=w, k=k, v=v, a=a, b=b, initial_state=initial_state)
    if cp_context is not None:
        raise ValueError("cp_context is not offered; a call runs on one device")
    inputs = (r, w, k, v, a, b)
    return _run(inputs, scale, initial_state, output_final_state, cu_seqlens, pair=False)


def fused_recurrent_rwkv7(
    r: torch.Tensor,
    w: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = True,
    cu_seqlens: torch.Tensor | None = None,
) -> Found:
    """`chunk_rwkv7`, but for its defaults."""
    forward_only(r=r, w=w, k=k, v=v, a=a, b=b, initial_state=initial_state)
    inputs = (r, w, k, v, a, b)
    return _run(inputs, scale, initial_state, output_final_state, cu_seqlens, pair=False)


def fused_mul_recurrent_rwkv7(
    r: torch.Tensor,
    w: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    kk: torch.Tensor,
    a: torch.Tensor,
    scale: float = 1.0,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    reverse: bool = False,
    cu_seqlens: torch.Tensor | None = None,
) -> Found:
    """`chunk_rwkv7` with a = -kk and b = kk a; walking backwards in time is not offered."""
    forward_only(r=r, w=w, k=k, v=v, kk=kk, a=a, initial_state=initial_state)
    if reverse:
        raise ValueError("reverse=True is not offered; the recurrence runs forward in time")
    inputs = (r, w, k, v, kk, a)
    return _run(inputs, scale, initial_state, output_final_state, cu_seqlens, pair=True)
