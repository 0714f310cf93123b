"""Random weights, made on the device in their dtype, so that a 1B model takes no time on a CPU.

Scales keep activations of order one through any depth and gates away from saturation; timings then
see the arithmetic of a trained model (no denormals, no zeros, which would draw less power).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssmprof.mixers.cache import fill


class Weights:
    """Makes parameters of one model. `layers` scales the residual branches (GPT-2's rule)."""

    def __init__(self, device: torch.device, dtype: torch.dtype, seed: int, layers: int) -> None:
        self.device = device
        self.dtype = dtype
        self.branch = 1.0 / math.sqrt(max(1, 2 * layers))
        self.generator = None
        if device.type != "meta":
            self.generator = torch.Generator(device).manual_seed(seed)

    def linear(
        self, inputs: int, outputs: int, *, bias: bool = False, scale: float = 1.0
    ) -> nn.Linear:
        """A projection (outputs, inputs) with standard deviation scale / sqrt(inputs)."""
        layer = nn.Linear(inputs, outputs, bias=bias, device="meta", dtype=self.dtype)
        layer.to_empty(device=self.device).requires_grad_(False)
        layer.requires_grad_(False)
        fill(layer.weight, scale / math.sqrt(inputs), self.generator)
        if bias:
            fill(layer.bias, 0.02, self.generator)
        return layer

    def biased(self, layer: nn.Linear) -> nn.Linear:
        """The same projection, its weights shared, with a bias of its own."""
        found = nn.Linear(layer.in_features, layer.out_features, device="meta", dtype=self.dtype)
        found.weight = layer.weight
        found.bias = frozen(torch.empty(layer.out_features, device=self.device, dtype=self.dtype))
        fill(found.bias, 0.02, self.generator)
        return found

    def uniform(self, *shape: int, low: float, high: float, float32: bool = False) -> Tensor:
        """Values drawn evenly between `low` and `high`, in the model's dtype or float32."""
        values = torch.empty(
            shape, device=self.device, dtype=torch.float32 if float32 else self.dtype
        )
        if values.device.type != "meta":
            values.uniform_(low, high, generator=self.generator)
        return values

    def ones(self, size: int, *, float32: bool = False) -> nn.Parameter:
        """A vector of ones (norm weights, skips)."""
        return frozen(
            torch.ones(size, device=self.device, dtype=torch.float32 if float32 else self.dtype)
        )

    def zeros(self, size: int) -> nn.Parameter:
        """A vector of zeros (logits of sinks)."""
        return frozen(torch.zeros(size, device=self.device, dtype=self.dtype))

    def step_bias(self, size: int) -> nn.Parameter:
        """Bias of dt whose softplus is log-uniform in [1e-3, 1e-1] (arXiv:2312.00752, sec. 3.6)."""
        low, high = math.log(1e-3), math.log(1e-1)
        step = torch.exp(self.uniform(size, low=low, high=high, float32=True))
        return frozen(step + torch.log(-torch.expm1(-step)))


def frozen(values: Tensor) -> nn.Parameter:
    """A parameter without gradient: nothing here is trained."""
    return nn.Parameter(values, requires_grad=False)
