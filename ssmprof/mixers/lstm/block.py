"""LSTM (the form of torch and cuDNN, after Hochreiter and Schmidhuber, 1997) and GRU (1406.1078).

Shape letters: B batch, L tokens, d model width, h hidden size. Both phases call torch's own unit:
cuDNN's kernels on a GPU, in the model's dtype. What is kept between tokens is kept in the state's.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ssmprof.mixers.building import Building
from ssmprof.mixers.cache import Position, StateCache, fill
from ssmprof.mixers.lstm.shape import CALL_TOKENS, Gru, Lstm
from ssmprof.scopes import scope


class RecurrentBlock(nn.Module):
    """(B, L, d) -> (B, L, d); the state (B, vectors, h) is the hidden vector, then the cell."""

    def __init__(self, part: Lstm | Gru, building: Building) -> None:
        super().__init__()
        self.part = part
        weights, d_model = building.weights, building.d_model
        kind = nn.LSTM if isinstance(part, Lstm) else nn.GRU
        self.unit = kind(
            part.reads(d_model), part.hidden, bias=part.bias, batch_first=True, device="meta",
            dtype=weights.dtype,
        )  # fmt: skip
        self.unit.to_empty(device=weights.device).requires_grad_(False)
        for values in self.unit.parameters():
            fill(values, 1 / math.sqrt(values.shape[-1]), weights.generator)
        # One buffer, as cuDNN wants it (else it copies the weights in every call), and inference:
        # torch's unit keeps what a backward pass would need where it believes that it is trained.
        self.unit.flatten_parameters()
        self.unit.eval()
        self.vectors = 2 if isinstance(part, Lstm) else 1
        self.out_proj = None
        if part.hidden != d_model:
            self.out_proj = weights.linear(part.hidden, d_model, scale=weights.branch)
        self.state_dtype = getattr(torch, part.state_dtype)

    def forward(self, x: Tensor, cache: StateCache | None = None) -> Tensor:
        """(B, L, d) -> (B, L, d); the state after the last token is left in the cache."""
        state = None
        if cache is not None and cache.position.tokens > 0:
            state = cache.ssm
        return self._read(x, state, cache)

    def step(self, x: Tensor, cache: StateCache) -> Tensor:
        """(B, d) -> (B, d); the state is overwritten in place."""
        return self._read(x[:, None], cache.ssm, cache).squeeze(1)

    def _read(self, x: Tensor, state: Tensor | None, cache: StateCache | None) -> Tensor:
        with scope("scan", "scan"):
            before = None
            if state is not None:
                kept = state.to(x.dtype).transpose(0, 1)
                before = tuple(one[None].contiguous() for one in kept)
                before = before if self.vectors == 2 else before[0]
            y, after = self._pieces(x, before)
        if cache is not None:
            with scope("cache"):
                for held, new in zip(
                    cache.ssm.unbind(1), after if self.vectors == 2 else (after,), strict=True
                ):
                    held.copy_(new[0])
        if self.out_proj is None:
            return y
        with scope("out_proj"):
            return self.out_proj(y)

    def _pieces(self, x: Tensor, before: Any) -> tuple[Tensor, Any]:
        """Outputs and the state after the last token; no call of the unit is longer than it may."""
        if x.shape[1] <= CALL_TOKENS:
            return self.unit(x, before)
        y = x.new_empty(*x.shape[:2], self.part.hidden)
        for piece, out in zip(x.split(CALL_TOKENS, 1), y.split(CALL_TOKENS, 1), strict=True):
            made, before = self.unit(piece, before)
            out.copy_(made)
            del made
        return y, before

    def new_cache(
        self, batch: int, max_context: int, dtype: torch.dtype, position: Position
    ) -> StateCache:
        """A zero state; its size does not depend on `max_context`."""
        device = next(self.unit.parameters()).device
        none = torch.zeros(batch, 0, 0, dtype=dtype, device=device)
        shape = (batch, self.vectors, self.part.hidden)
        return StateCache(none, torch.zeros(shape, dtype=self.state_dtype, device=device), position)


BLOCKS = {"lstm": RecurrentBlock, "gru": RecurrentBlock}
