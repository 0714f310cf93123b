"""Mamba-1 mixer (arXiv:2312.00752, section 3.4): projections, short convolution, selective scan.

Shape letters: B batch, L tokens, d model width, D inner width, N state size, R rank of dt.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmprof.mixers.building import Building, Memory
from ssmprof.mixers.cache import Position, StateCache
from ssmprof.mixers.conv.block import ShortConv
from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.state_update.ring import planned, replaced, settled
from ssmprof.mixers.weights import frozen
from ssmprof.scopes import scope


class Mamba1Block(nn.Module):
    """(B, L, d) -> (B, L, d) with a state of (D, N) per sequence; the gate is inside the scan.

    Where later layers read what the scan made before its gate (`memory`), it is applied behind it.
    """

    def __init__(self, part: Mamba1, building: Building) -> None:
        super().__init__()
        self.part = part
        d_model, weights, ops = building.d_model, building.weights, building.ops
        inner, states = part.d_inner, part.d_state
        self.rank = part.rank(d_model)
        self.eps = part.inner_norm_eps or building.norm_eps
        self.in_proj = weights.linear(part.reads(d_model), 2 * inner, bias=part.proj_bias)
        self.conv = ShortConv(inner, part.d_conv, building, bias=part.conv_bias)
        self.x_proj = weights.linear(inner, self.rank + 2 * states)
        self.dt_proj = weights.linear(self.rank, inner)
        self.dt_bias = weights.step_bias(inner)
        decay = torch.arange(1, states + 1, dtype=torch.float32, device=weights.device)
        self.A = frozen(-decay.expand(inner, states).contiguous())
        self.D = weights.ones(inner, float32=True)
        self.out_proj = weights.linear(inner, d_model, bias=part.proj_bias, scale=weights.branch)
        self.state_dtype = getattr(torch, part.state_dtype)
        self.normed = part.inner_norms != "none"
        self.dt_norm = self.B_norm = self.C_norm = None
        if part.inner_norms == "weighted":
            self.dt_norm = weights.ones(self.rank)
            self.B_norm, self.C_norm = weights.ones(states), weights.ones(states)
        self.memory: Memory | None = None
        self.scan_op = ops["selective_scan"]
        self.update_op = ops["selective_state_update"]

    def forward(self, x: Tensor, cache: StateCache | None = None) -> Tensor:
        """(B, L, d) -> (B, L, d); the state after the last token is left in the cache."""
        with scope("in_proj"):
            u, z = self.in_proj(x).chunk(2, dim=-1)
        u = self.conv(u, cache)
        dt, B, C = self._select(u)
        state = None if cache is None or cache.position.tokens == 0 else settled(cache, self.A)
        with scope("scan", "scan"):
            y = self.scan_op(
                u,
                dt,
                self.A,
                B,
                C,
                D=self.D,
                z=z if self.memory is None else None,
                dt_bias=self.dt_bias,
                dt_softplus=True,
                initial_state=state,
                return_final_state=False if cache is None else self.state_dtype,
            )
        del u, dt, B, C  # a name held is memory held: each tensor dies at its last use
        if cache is not None:
            y, cache.ssm = y
            replaced(cache.pending)
        y = self._kept(y, z)
        del z
        with scope("out_proj"):
            return self.out_proj(y)

    def step(self, x: Tensor, cache: StateCache) -> Tensor:
        """(B, d) -> (B, d); the state is overwritten in place."""
        with scope("in_proj"):
            u, z = self.in_proj(x).chunk(2, dim=-1)
        u = self.conv.step(u, cache)
        dt, B, C = self._select(u)
        with scope("scan", "scan"):
            y = self.update_op(
                cache.ssm,
                u,
                dt,
                self.A,
                B,
                C,
                D=self.D,
                z=z if self.memory is None else None,
                dt_bias=self.dt_bias,
                dt_softplus=True,
                pending=cache.pending,
            )
        y = self._kept(y, z)
        with scope("out_proj"):
            return self.out_proj(y)

    def _kept(self, y: Tensor, z: Tensor) -> Tensor:
        """y (..., D); with a memory it is left there and gated here, else the scan has done so."""
        if self.memory is None:
            return y
        self.memory.value = y
        with scope("gate"):
            return F.silu(z).mul_(y)

    def _select(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., D) -> dt (..., D), B and C (..., N): what makes the scan selective."""
        states = self.part.d_state
        with scope("x_proj"):
            low, B, C = self.x_proj(u).split((self.rank, states, states), dim=-1)
        if self.normed:
            with scope("norms", "norm"):
                low = F.rms_norm(low, (self.rank,), self.dt_norm, self.eps)
                B = F.rms_norm(B, (states,), self.B_norm, self.eps)
                C = F.rms_norm(C, (states,), self.C_norm, self.eps)
        with scope("dt_proj"):
            # As a matrix: a strided (B, L, R) would become a batched product or a copy.
            dt = self.dt_proj(low.flatten(0, -2)).view_as(u)
        return dt, B, C

    def new_cache(
        self, batch: int, max_context: int, dtype: torch.dtype, position: Position
    ) -> StateCache:
        """Zero window and state; their size does not depend on `max_context`."""
        part = self.part
        device = self.A.device
        window = torch.zeros(batch, part.d_inner, part.d_conv, dtype=dtype, device=device)
        shape = (batch, part.d_inner, part.d_state)
        state = torch.zeros(shape, dtype=self.state_dtype, device=device)
        B = window.new_empty(batch, part.d_state)
        pending = planned(self.update_op, state, window[..., 0], self.A, B)
        return StateCache(window, state, position, pending)


BLOCKS = {"mamba1": Mamba1Block}
