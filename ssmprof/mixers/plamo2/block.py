"""PLaMo 2's Mamba mixer (arXiv:2509.04897, section 2): Mamba-1's selection before Mamba-2's scan.

Shape letters: B batch, L tokens, d model width, D = H*P inner width, N state size, R rank of dt.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssmprof.mixers.building import Building
from ssmprof.mixers.cache import Position, StateCache
from ssmprof.mixers.conv.block import ShortConv
from ssmprof.mixers.mamba2.block import DECAY_RANGE
from ssmprof.mixers.plamo2.shape import Plamo2
from ssmprof.mixers.weights import frozen
from ssmprof.scopes import scope


class Plamo2Block(nn.Module):
    """(B, L, d) -> (B, L, d) with a state of (H, P, N); the gate is inside the scan."""

    def __init__(self, part: Plamo2, building: Building) -> None:
        super().__init__()
        self.part = part
        d_model, weights, ops = building.d_model, building.weights, building.ops
        inner, heads, states, rank = part.d_inner, part.nheads, part.d_state, part.dt_rank
        # Gate and x; of the convolved x then B, C and the factor of dt.
        self.in_proj = weights.linear(part.reads(d_model), 2 * inner)
        self.conv = ShortConv(inner, part.d_conv, building, bias=False)
        self.x_proj = weights.linear(inner, part.selected)
        self.dt_proj = weights.linear(rank, heads)
        self.B_norm, self.C_norm = weights.ones(states), weights.ones(states)
        self.dt_norm = weights.ones(rank)
        low, high = DECAY_RANGE
        self.A = frozen(-weights.uniform(heads, low=low, high=high, float32=True))
        self.D = weights.ones(heads, float32=True)
        self.dt_bias = weights.step_bias(heads)
        self.out_proj = weights.linear(inner, d_model, scale=weights.branch)
        self.eps = building.norm_eps
        self.state_dtype = getattr(torch, part.state_dtype)
        self.norm_op = ops["rms_norm"]
        self.scan_op = ops["ssd_scan"]
        self.update_op = ops["selective_state_update"]
        # Decode treats a head's scalars as constant over its (P, N) or P entries: stride-0 views.
        self.step_A = self.A.view(heads, 1, 1).expand(heads, part.headdim, states)
        self.step_D = self.D.view(heads, 1).expand(heads, part.headdim)
        self.step_bias = self.dt_bias.view(heads, 1).expand(heads, part.headdim)

    def forward(self, x: Tensor, cache: StateCache | None = None) -> Tensor:
        """(B, L, d) -> (B, L, d); the state after the last token is left in the cache."""
        with scope("in_proj"):
            z, u = self.in_proj(x).chunk(2, dim=-1)
        u = self.conv(u, cache)
        dt, B, C = self._select(u)
        z, u = (t.unflatten(-1, (-1, self.part.headdim)) for t in (z, u))
        state = None if cache is None or cache.position.tokens == 0 else cache.ssm
        with scope("scan", "scan"):
            y = self.scan_op(
                u,
                dt,
                self.A,
                B[:, :, None],
                C[:, :, None],
                D=self.D,
                z=z,
                dt_bias=self.dt_bias,
                dt_softplus=True,
                initial_state=state,
                return_final_state=False if cache is None else self.state_dtype,
            )
        del u, z, dt, B, C  # a name held is memory held: each tensor dies at its last use
        if cache is not None:
            y, cache.ssm = y
        with scope("out_proj"):
            return self.out_proj(y.flatten(-2))

    def step(self, x: Tensor, cache: StateCache) -> Tensor:
        """(B, d) -> (B, d); the state is overwritten in place."""
        heads, width = self.part.nheads, self.part.headdim
        with scope("in_proj"):
            z, u = self.in_proj(x).chunk(2, dim=-1)
        u = self.conv.step(u, cache)
        dt, B, C = self._select(u)
        with scope("scan", "scan"):
            y = self.update_op(
                cache.ssm,
                u.unflatten(-1, (heads, width)),
                dt[..., None].expand(-1, heads, width),
                self.step_A,
                B[:, None],
                C[:, None],
                D=self.step_D,
                z=z.unflatten(-1, (heads, width)),
                dt_bias=self.step_bias,
                dt_softplus=True,
            )
        with scope("out_proj"):
            return self.out_proj(y.flatten(-2))

    def _select(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., D) -> dt (..., H), B and C (..., N), each normed before it is used."""
        part = self.part
        with scope("x_proj"):
            B, C, low = self.x_proj(u).split((part.d_state, part.d_state, part.dt_rank), dim=-1)
        with scope("norms", "norm"):
            B = self.norm_op(B, self.B_norm, eps=self.eps)
            C = self.norm_op(C, self.C_norm, eps=self.eps)
            low = self.norm_op(low, self.dt_norm, eps=self.eps)
        with scope("dt_proj"):
            return self.dt_proj(low), B, C

    def new_cache(
        self, batch: int, max_context: int, dtype: torch.dtype, position: Position
    ) -> StateCache:
        """Zero window and state; their size does not depend on `max_context`."""
        part, device = self.part, self.A.device
        shape = (batch, part.nheads, part.headdim, part.d_state)
        return StateCache(
            torch.zeros(batch, part.d_inner, part.d_conv, dtype=dtype, device=device),
            torch.zeros(shape, dtype=self.state_dtype, device=device),
            position,
        )


BLOCKS = {"plamo2": Plamo2Block}
