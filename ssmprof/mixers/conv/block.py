"""The short causal convolution of a state-space mixer and the window it keeps between tokens."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ssmprof.mixers.building import Building
from ssmprof.mixers.cache import StateCache
from ssmprof.mixers.weights import frozen
from ssmprof.scopes import scope


class ShortConv(nn.Module):
    """Depthwise causal convolution of width W over `channels`, with a bias or without.

    SiLU follows it unless `activation` is None.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        building: Building,
        *,
        bias: bool = True,
        activation: Literal["silu"] | None = "silu",
    ) -> None:
        super().__init__()
        self.activation = activation
        weights, ops = building.weights, building.ops
        bound = 1.0 / math.sqrt(width)
        self.weight = frozen(weights.uniform(channels, width, low=-bound, high=bound))
        if bias:
            self.bias = frozen(weights.uniform(channels, low=-bound, high=bound))
        else:  # the kernels add one anyway
            self.register_buffer("bias", torch.zeros_like(self.weight[:, 0]))
        self.prefill_op = ops["causal_conv1d"]
        self.update_op = ops["causal_conv1d_update"]

    def forward(self, x: Tensor, cache: StateCache | None) -> Tensor:
        """(B, L, channels) -> (B, L, channels); the last W inputs are left in the cache."""
        width = self.weight.shape[1]
        before = None
        if cache is not None and cache.position.tokens > 0:
            before = cache.conv[..., 1:].clone()
        with scope("conv", "conv"):
            out = self.prefill_op(
                x, self.weight, self.bias, activation=self.activation, initial_state=before
            )
        if cache is not None:
            with scope("cache"):
                recent = x[:, -width:].transpose(1, 2)
                missing = width - recent.shape[2]
                if missing > 0:
                    older = cache.conv[..., -missing:]
                    if cache.position.tokens == 0:
                        older = torch.zeros_like(older)
                    recent = torch.cat([older, recent], dim=2)
                cache.conv.copy_(recent)
        return out

    def step(self, x: Tensor, cache: StateCache) -> Tensor:
        """(B, channels) -> (B, channels); shifts the window by one."""
        with scope("conv", "conv"):
            return self.update_op(x, cache.conv, self.weight, self.bias, activation=self.activation)
