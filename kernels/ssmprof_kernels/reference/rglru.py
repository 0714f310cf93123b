"""The real-gated linear recurrent unit in plain torch (arXiv:2402.19427, section 2.4).

Equations 1 to 4: `r = sigmoid(decay gate)`, `i = sigmoid(input gate)`, `log a = -8 softplus(rate)
r`, `h_t = a_t h_{t-1} + sqrt(1 - a_t^2) i_t x_t`. Before the first token of a sequence there is
nothing to be weighed against: its input counts whole, as in the published code.

Shapes: x and gates (B, L, H, P), rate (H, P), state (B, H, P).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# How much the gate can shorten the memory.
POWER = 8.0
# Tokens that are scanned at once: memory grows with them, and not with the prompt.
CHUNK = 256


def _terms(
    x: Tensor, input_gate: Tensor, decay_gate: Tensor, rate: Tensor, first: bool
) -> tuple[Tensor, Tensor]:
    """Decay and what is added; `first` says that x begins with the first token of a sequence."""
    compute = torch.promote_types(x.dtype, torch.float32)
    log = -POWER * F.softplus(rate.to(compute)) * torch.sigmoid(decay_gate.to(compute))
    share = torch.sqrt(-torch.expm1(2 * log))
    if first:
        share[:, 0] = 1.0
    return torch.exp(log), share * torch.sigmoid(input_gate.to(compute)) * x.to(compute)


def rglru_scan(
    x: Tensor,
    input_gate: Tensor,
    decay_gate: Tensor,
    rate: Tensor,
    *,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """A whole prompt by doubling: after s rounds each token has seen 2^s tokens."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    h = None if initial_state is None else initial_state
    for lo in range(0, x.shape[1], CHUNK):
        span = slice(lo, lo + CHUNK)
        decay, added = _terms(
            x[:, span], input_gate[:, span], decay_gate[:, span], rate, first=h is None
        )
        if h is not None:
            added[:, 0].addcmul_(decay[:, 0], h.to(added.dtype))
        near = 1
        while near < added.shape[1]:
            added[:, near:] += decay[:, near:] * added[:, :-near]
            decay[:, near:] = decay[:, near:] * decay[:, :-near]
            near *= 2
        out[:, span] = added
        h = added[:, -1]
    if return_final_state is False:
        return out
    assert h is not None, "a prompt has a token"
    wanted = torch.float32 if return_final_state is True else return_final_state
    return out, h.to(wanted, copy=True)


def rglru_step(
    state: Tensor, x: Tensor, input_gate: Tensor, decay_gate: Tensor, rate: Tensor, *, first: bool
) -> Tensor:
    """One token (B, H, P); the state is overwritten in place."""
    decay, added = _terms(x[:, None], input_gate[:, None], decay_gate[:, None], rate, first)
    h = added[:, 0] if first else decay[:, 0] * state + added[:, 0]
    state.copy_(h)
    return h.to(x.dtype)


def rglru_sequential(
    x: Tensor,
    input_gate: Tensor,
    decay_gate: Tensor,
    rate: Tensor,
    *,
    compute_dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Token by token, from the first of a sequence on."""
    x, input_gate, decay_gate, rate = (
        t.to(compute_dtype) for t in (x, input_gate, decay_gate, rate)
    )
    y = torch.empty_like(x)
    h = torch.zeros_like(x[:, 0])
    for t in range(x.shape[1]):
        r = 1 / (1 + torch.exp(-decay_gate[:, t]))
        i = 1 / (1 + torch.exp(-input_gate[:, t]))
        a = torch.exp(-POWER * torch.log1p(torch.exp(rate)) * r)
        h = a * h + (torch.sqrt(1 - a**2) if t else 1.0) * i * x[:, t]
        y[:, t] = h
    return y
