"""`gated_delta` and `kda`: the delta rules over a whole prompt (prefill), in two to four launches.

Promises: bad input is refused with one ValueError before any launch; strides and lengths are free;
no host synchronisation, so that a call can be captured in a CUDA graph. CPU tensors take the plain
torch form, unless Triton's interpreter is switched on (`TRITON_INTERPRET=1`). A number that is not
finite reaches its chunk of at most 64 tokens and what follows in its sequence and head only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssmprof_kernels import door, reference
from ssmprof_kernels.gated_delta import arguments, launches, plan
from ssmprof_kernels.gated_delta.arguments import Inputs
from ssmprof_kernels.launch import recorded

_NAMES = (*Inputs._fields, "initial_state")
_recordings: recorded.Recordings = {}


def gated_delta(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    beta: Tensor,
    *,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    scale: float | None = None,
    qk_l2norm: bool = False,
    beta_sigmoid: bool = False,
    negative: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """`S_t = (I - beta_t k_t k_t^T) e^{g_t} S_{t-1} + beta_t k_t v_t^T`, `o_t = scale S_t^T q_t`.

    arXiv:2412.06464, equation 10; without g the delta rule of arXiv:2406.06484, equation 2.

    Args:
        q, k: (B, L, Hk, K) of the dtype of v; head h reads head h // (H / Hk). K up to 256.
        v: (B, L, H, V), fp32, fp16 or bf16; any strides.
        g: (B, L, H) log decays; logits of decays with `A_log`; None for no decay.
        beta: (B, L, H) step sizes.
        A_log: (H); then the log decay is -exp(A_log) softplus(g + dt_bias).
        dt_bias: (H), 0 if None.
        scale: 1 / sqrt(K) if None.
        qk_l2norm: divide queries and keys by their lengths, sqrt(x^2 + 1e-6).
        beta_sigmoid: beta are logits of step sizes. negative: double these (arXiv:2411.12537).
        initial_state: (B, H, K, V), or (n, H, K, V) with `cu_seqlens`; zeros if None.
        return_final_state: True for the fp32 state after the last token, a dtype for that dtype.
        cu_seqlens: (n + 1) int32 on the device of v, ascending from 0 to L; B must be 1. Empty
            sequences are allowed and return their initial state. On a GPU, which tells nobody its
            values, o is 0 behind a last sequence that ends before L.

    Returns:
        o (B, L, H, V) in the dtype of v, or (o, final state).

    Raises:
        ValueError: an argument's shape, dtype or device does not fit; on a CPU also cu_seqlens that
            do not ascend from 0 to L.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    given = Inputs(q, k, v, g, beta, A_log, dt_bias)
    return _run(
        "gated_delta", given, scale, qk_l2norm, beta_sigmoid, negative, initial_state,
        return_final_state, cu_seqlens,
    )  # fmt: skip


def kda(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    scale: float | None = None,
    qk_l2norm: bool = False,
    beta_sigmoid: bool = False,
    negative: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """`gated_delta` with a decay for each key feature: Kimi delta attention (arXiv:2510.26692,
    equation 1).

    Args:
        g: (B, L, H, K). dt_bias: (H, K). All others are those of `gated_delta`.

    Returns:
        As `gated_delta`.

    Raises:
        ValueError, RuntimeError: as `gated_delta`.
    """
    given = Inputs(q, k, v, g, beta, A_log, dt_bias)
    return _run(
        "kda", given, scale, qk_l2norm, beta_sigmoid, negative, initial_state,
        return_final_state, cu_seqlens,
    )  # fmt: skip


def _run(
    op: str,
    given: Inputs,
    scale: float | None,
    qk_l2norm: bool,
    beta_sigmoid: bool,
    negative: bool,
    initial_state: Tensor | None,
    wanted: bool | torch.dtype,
    cu_seqlens: Tensor | None,
) -> Any:
    door.forward_only(_NAMES, (*given, initial_state))
    arguments.check(
        given, tokens=True, channels=op == "kda", beta_sigmoid=beta_sigmoid, negative=negative
    )
    sequences = arguments.sequences(given, cu_seqlens)
    if initial_state is not None:
        arguments.check_state("initial_state", initial_state, given, sequences)
    q, k, v, g, beta, A_log, dt_bias = given
    if not v.is_cuda and not door.interpreted():
        return getattr(reference, op)(
            q, k, v, g, beta, A_log=A_log, dt_bias=dt_bias, scale=scale, qk_l2norm=qk_l2norm,
            beta_sigmoid=beta_sigmoid, negative=negative, initial_state=initial_state,
            return_final_state=wanted, cu_seqlens=cu_seqlens,
        )  # fmt: skip
    y = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    final = None
    if wanted is not False:
        state = (sequences, v.shape[2], q.shape[3], v.shape[3])
        final = torch.empty(state, dtype=arguments.state_dtype(wanted), device=v.device)
    # Small tensors that kernels read as plain arrays; `contiguous` returns one that already is.
    A_log, dt_bias = (t if t is None else t.contiguous() for t in (A_log, dt_bias))
    tensors = (q, k, v, g, beta, A_log, dt_bias, initial_state, cu_seqlens, y, final)
    meta = plan.choose(
        op, q.shape[3], v.shape[3], v.shape[1], v.dtype, v.device, negative=bool(negative)
    ).meta
    factor = q.shape[3] ** -0.5 if scale is None else float(scale)
    options = launches.Options(bool(qk_l2norm), bool(beta_sigmoid), bool(negative), factor)
    recorded.run(
        _recordings,
        recorded.key_of(tensors, options),
        meta,
        tensors,
        v.device,
        lambda: launches.record(tensors, sequences, options, meta),
    )
    return y if final is None else (y, final)
