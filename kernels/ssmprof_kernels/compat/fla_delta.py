"""The delta rules of fla (`fla.ops.delta_rule`, `.gated_delta_rule`, `.kda`) on our kernels.

Signatures follow fla 0.6, what it takes by `**kwargs` spelled out; the bodies are ours. Forward
only. A call of one token takes the kernel of a step, on a copy of its state. `chunk_size`,
`safe_gate`, `disable_recompute`, `use_graph` with `max_num_seqs`, `chunk_indices` and
`cu_seqlens_cpu` choose how fla computes and cannot change a result; they are accepted.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

import ssmprof_kernels
from ssmprof_kernels.compat import fla_states
from ssmprof_kernels.compat.inference import forward_only

Result = tuple[Tensor, Tensor | None]


def chunk_gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    use_beta_sigmoid_in_kernel: bool = False,
    allow_neg_eigval: bool = False,
    state_v_first: bool = False,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_cpu: Tensor | None = None,
    chunk_indices: Tensor | None = None,
    cp_context: Any = None,
    use_gate_in_kernel: bool = False,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    chunk_size: int = 64,
    transpose_state_layout: bool = False,
) -> Result:
    """q, k (B,L,H,K), v (B,L,HV,V), g and beta (B,L,HV) -> o (B,L,HV,V), state (n,HV,K,V) or None.

    g are log decays, or with `use_gate_in_kernel` logits of decays beside A_log (HV), dt_bias (HV).
    """
    del cu_seqlens_cpu, chunk_indices, chunk_size
    _refuse(cp_context=cp_context)
    return _rule(
        "gated_delta", q, k, v, g, beta, scale, initial_state, output_final_state,
        use_qk_l2norm_in_kernel, use_beta_sigmoid_in_kernel, allow_neg_eigval,
        state_v_first or transpose_state_layout, cu_seqlens,
        (A_log, dt_bias) if use_gate_in_kernel else None,
    )  # fmt: skip


def fused_recurrent_gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    gk: Tensor | None = None,
    gv: Tensor | None = None,
    beta: Tensor | None = None,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    use_gate_in_kernel: bool = False,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    use_beta_sigmoid_in_kernel: bool = False,
    allow_neg_eigval: bool = False,
    state_v_first: bool = False,
    cu_seqlens: Tensor | None = None,
    transpose_state_layout: bool = False,
) -> Result:
    """`chunk_gated_delta_rule`, with g optional; decays of single features, gk and gv, are not
    offered here (gk: see `fused_recurrent_kda`)."""
    _refuse(gk=gk, gv=gv)
    if beta is None:
        beta = v.new_ones(v.shape[:3])
    return _rule(
        "gated_delta", q, k, v, g, beta, scale, initial_state, output_final_state,
        use_qk_l2norm_in_kernel, use_beta_sigmoid_in_kernel, allow_neg_eigval,
        state_v_first or transpose_state_layout, cu_seqlens,
        (A_log, dt_bias) if use_gate_in_kernel else None,
    )  # fmt: skip


def chunk_kda(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    use_gate_in_kernel: bool = False,
    use_beta_sigmoid_in_kernel: bool = False,
    allow_neg_eigval: bool = False,
    safe_gate: bool = False,
    lower_bound: float | None = None,
    disable_recompute: bool = False,
    return_intermediate_states: bool = False,
    state_v_first: bool = False,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_cpu: Tensor | None = None,
    cp_context: Any = None,
    use_graph: bool = False,
    max_num_seqs: int | None = None,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    chunk_size: int = 64,
    transpose_state_layout: bool = False,
) -> Result:
    """q, k (B,L,H,K), v (B,L,HV,V), g (B,L,HV,K), beta (B,L,HV) -> o (B,L,HV,V), state or None.

    g are log decays; with `use_gate_in_kernel` logits beside A_log (HV) and dt_bias (HV K): of
    -exp(A_log) softplus(g + dt_bias), or of lower_bound sigmoid(exp(A_log) (g + dt_bias)).
    """
    del safe_gate, disable_recompute, cu_seqlens_cpu, use_graph, max_num_seqs, chunk_size
    _refuse(cp_context=cp_context, return_intermediate_states=return_intermediate_states or None)
    g, gate = _channel_gate(g, use_gate_in_kernel, A_log, dt_bias, lower_bound)
    return _rule(
        "kda", q, k, v, g, beta, scale, initial_state, output_final_state,
        use_qk_l2norm_in_kernel, use_beta_sigmoid_in_kernel, allow_neg_eigval,
        state_v_first or transpose_state_layout, cu_seqlens, gate,
    )  # fmt: skip


def fused_recurrent_kda(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    use_gate_in_kernel: bool = False,
    use_beta_sigmoid_in_kernel: bool = False,
    allow_neg_eigval: bool = False,
    lower_bound: float | None = None,
    state_v_first: bool = False,
    cu_seqlens: Tensor | None = None,
    transpose_state_layout: bool = False,
) -> Result:
    """`chunk_kda`."""
    g, gate = _channel_gate(g, use_gate_in_kernel, A_log, dt_bias, lower_bound)
    return _rule(
        "kda", q, k, v, g, beta, scale, initial_state, output_final_state,
        use_qk_l2norm_in_kernel, use_beta_sigmoid_in_kernel, allow_neg_eigval,
        state_v_first or transpose_state_layout, cu_seqlens, gate,
    )  # fmt: skip


def chunk_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_cpu: Tensor | None = None,
    chunk_size: int = 64,
) -> Result:
    """The delta rule without decay: q, k (B,L,H,K), v (B,L,H,V), beta (B,L,H) -> o, state."""
    del cu_seqlens_cpu, chunk_size
    return _rule(
        "gated_delta", q, k, v, None, beta, scale, initial_state, output_final_state,
        use_qk_l2norm_in_kernel, False, False, False, cu_seqlens, None,
    )  # fmt: skip


def fused_recurrent_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None = None,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    cu_seqlens: Tensor | None = None,
) -> Result:
    """`chunk_delta_rule`."""
    beta = v.new_ones(v.shape[:3]) if beta is None else beta
    return chunk_delta_rule(
        q, k, v, beta, scale, initial_state, output_final_state, use_qk_l2norm_in_kernel, cu_seqlens
    )


def _refuse(**values: Any) -> None:
    for name, value in values.items():
        if value is not None:
            raise ValueError(f"{name} is not offered")


def _channel_gate(
    g: Tensor,
    gate: bool,
    A_log: Tensor | None,
    dt_bias: Tensor | None,
    lower_bound: float | None,
) -> tuple[Tensor, tuple[Tensor | None, Tensor | None] | None]:
    """Log decays and None, or logits with the gate that makes decays of them."""
    forward_only(g=g, A_log=A_log, dt_bias=dt_bias)
    if not gate:
        return g, None
    bias = None if dt_bias is None else dt_bias.view(g.shape[2:])
    if lower_bound is None:
        return g, (A_log, bias)
    logits = g.float() if bias is None else g.float() + bias.float()
    if A_log is not None:
        logits = logits * A_log.float().exp().unsqueeze(-1)
    return lower_bound * logits.sigmoid(), None


def _rule(
    op: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    beta: Tensor,
    scale: float | None,
    initial_state: Tensor | None,
    output_final_state: bool,
    qk_l2norm: bool,
    beta_sigmoid: bool,
    negative: bool,
    v_first: bool,
    cu_seqlens: Tensor | None,
    gate: tuple[Tensor | None, Tensor | None] | None,
) -> Result:
    A_log, dt_bias = gate or (None, None)
    forward_only(
        q=q, k=k, v=v, g=g, beta=beta, A_log=A_log, dt_bias=dt_bias, initial_state=initial_state
    )
    if gate is not None and A_log is None:
        raise ValueError("use_gate_in_kernel=True needs A_log")
    state = fla_states.entering(initial_state, v_first)
    options: dict[str, Any] = {
        "A_log": A_log,
        "dt_bias": dt_bias,
        "scale": scale,
        "qk_l2norm": qk_l2norm,
        "beta_sigmoid": beta_sigmoid,
        "negative": negative,
    }
    if v.shape[1] == 1 and cu_seqlens is None:
        final = fla_states.copied(state, q, v, v.shape[2])
        token = (x if x is None else x[:, 0] for x in (q, k, v, g, beta))
        o = getattr(ssmprof_kernels, f"{op}_step")(final, *token, **options).unsqueeze(1)
    else:
        o, final = getattr(ssmprof_kernels, op)(
            q, k, v, g, beta, initial_state=state, return_final_state=True,
            cu_seqlens=fla_states.packed_ends(cu_seqlens), **options,
        )  # fmt: skip
    return o, fla_states.leaving(final, v_first, output_final_state)
