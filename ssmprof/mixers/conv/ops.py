"""Who runs the short convolution: our kernels, the package causal_conv1d, plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ssmprof.mixers.finding import Ours, Package, Plain
from ssmprof.mixers.ops import Candidates


def _conv(
    call: Callable[..., Any],
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    activation: str,
    initial_state: Tensor | None = None,
) -> Tensor:
    before = None
    if initial_state is not None:
        before = initial_state.transpose(1, 2).contiguous().transpose(1, 2)
    out = call(x.transpose(1, 2), weight, bias, initial_states=before, activation=activation)
    return out.transpose(1, 2)


def _conv_update(
    call: Callable[..., Any],
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    activation: str,
) -> Tensor:
    return call(x, conv_state, weight, bias, activation)


OPS = {
    "causal_conv1d": Candidates(
        "conv",
        {
            "ssmprof": Ours("conv.op", "causal_conv1d"),
            "causal_conv1d": Package("causal_conv1d", "causal_conv1d_fn", _conv),
            "reference": Plain("conv.reference", "causal_conv1d"),
        },
        last=frozenset({"reference"}),
    ),
    "causal_conv1d_update": Candidates(
        "conv",
        {
            "ssmprof": Ours("conv.update", "causal_conv1d_update"),
            "causal_conv1d": Package("causal_conv1d", "causal_conv1d_update", _conv_update),
            "reference": Plain("conv.reference", "causal_conv1d_update"),
        },
        last=frozenset({"reference"}),
        mutates=1,
    ),
}
