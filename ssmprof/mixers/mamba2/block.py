"""Mamba-2 mixer (arXiv:2405.21060, section 7): projections, convolution, SSD scan, gated norm.

Shape letters: B batch, L tokens, d model width, D = H*P inner width, G groups, N state size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssmprof.mixers.building import Building
from ssmprof.mixers.cache import Position, StateCache
from ssmprof.mixers.conv.block import ShortConv
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.norm.block import GatedRMSNorm
from ssmprof.mixers.state_update.ring import planned, replaced, settled
from ssmprof.mixers.weights import frozen
from ssmprof.scopes import scope

# Decay rates of the published initialisation: A uniform in [1, 16].
DECAY_RANGE = (1.0, 16.0)


class Mamba2Block(nn.Module):
    """(B, L, d) -> (B, L, d) with a state of (H, P, N) per sequence.

    Without `gated_norm` (Falcon-H1) the gate is applied inside the scan and nothing is normed.
    """

    def __init__(self, part: Mamba2, building: Building) -> None:
        super().__init__()
        self.part = part
        d_model, weights, ops = building.d_model, building.weights, building.ops
        inner, heads, states = part.d_inner, part.nheads, part.d_state
        self.channels = part.channels
        projected = inner + self.channels + heads
        self.in_proj = weights.linear(part.reads(d_model), projected, bias=part.proj_bias)
        self.conv = ShortConv(self.channels, part.d_conv, building, bias=part.conv_bias)
        low, high = DECAY_RANGE
        self.A = frozen(-weights.uniform(heads, low=low, high=high, float32=True))
        self.D = weights.ones(heads, float32=True)
        self.dt_bias = weights.step_bias(heads)
        self.norm = None
        if part.gated_norm:
            self.norm = GatedRMSNorm(
                inner,
                inner // part.groups_normed,
                building,
                before_gate=part.norm_before_gate,
                eps=part.norm_eps,
            )
        self.out_proj = weights.linear(inner, d_model, bias=part.proj_bias, scale=weights.branch)
        self.state_dtype = getattr(torch, part.state_dtype)
        # Of a prompt only: published steps bound nothing.
        self.limits = {} if part.dt_limit is None else {"dt_limit": part.dt_limit}
        self.scan_op = ops["ssd_scan"]
        self.update_op = ops["selective_state_update"]
        # Decode treats a head's scalars as constant over its (P, N) or P entries: stride-0 views.
        self.step_A = self.A.view(heads, 1, 1).expand(heads, part.headdim, states)
        self.step_D = self.D.view(heads, 1).expand(heads, part.headdim)
        self.step_bias = self.dt_bias.view(heads, 1).expand(heads, part.headdim)

    def forward(self, x: Tensor, cache: StateCache | None = None) -> Tensor:
        """(B, L, d) -> (B, L, d); the state after the last token is left in the cache."""
        with scope("in_proj"):
            z, xbc, dt = self._split(self.in_proj(x))
        u, B, C = self._groups(self.conv(xbc, cache))
        del xbc
        z = z.unflatten(-1, (-1, self.part.headdim))
        state = None if cache is None or cache.position.tokens == 0 else settled(cache, self.step_A)
        with scope("scan", "scan"):
            y = self.scan_op(
                u,
                dt,
                self.A,
                B,
                C,
                D=self.D,
                z=None if self.norm else z,
                dt_bias=self.dt_bias,
                dt_softplus=True,
                initial_state=state,
                return_final_state=False if cache is None else self.state_dtype,
                **self.limits,
            )
        del u, B, C, dt  # a name held is memory held: each tensor dies at its last use
        if cache is not None:
            y, cache.ssm = y
            replaced(cache.pending)
        y = self._gate(y.flatten(-2), z.flatten(-2))
        del z
        with scope("out_proj"):
            return self.out_proj(y)

    def step(self, x: Tensor, cache: StateCache) -> Tensor:
        """(B, d) -> (B, d); the state is overwritten in place."""
        heads, width = self.part.nheads, self.part.headdim
        with scope("in_proj"):
            z, xbc, dt = self._split(self.in_proj(x))
        u, B, C = self._groups(self.conv.step(xbc, cache))
        z = z.unflatten(-1, (heads, width))
        # Nothing but views lies between the two, and our convolution lets its successor start.
        overlap = self.conv.update_op.name == "ssmprof"
        with scope("scan", "scan"):
            y = self.update_op(
                cache.ssm,
                u,
                dt[..., None].expand(-1, heads, width),
                self.step_A,
                B,
                C,
                D=self.step_D,
                z=None if self.norm else z,
                dt_bias=self.step_bias,
                dt_softplus=True,
                overlap=overlap,
                pending=cache.pending,
            )
        y = self._gate(y.flatten(-2), z.flatten(-2))
        with scope("out_proj"):
            return self.out_proj(y)

    def _split(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sizes = (self.part.d_inner, self.channels, self.part.nheads)
        z, xbc, dt = projected.split(sizes, dim=-1)
        return z, xbc, dt

    def _groups(self, xbc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., D + 2GN) -> x (..., H, P), B and C (..., G, N), all views."""
        part = self.part
        bc = part.ngroups * part.d_state
        u, B, C = xbc.split((part.d_inner, bc, bc), dim=-1)
        return (
            u.unflatten(-1, (-1, part.headdim)),
            B.unflatten(-1, (part.ngroups, -1)),
            C.unflatten(-1, (part.ngroups, -1)),
        )

    def _gate(self, y: Tensor, z: Tensor) -> Tensor:
        """Gated norm (..., D), or y as it is where the scan has gated it."""
        return y if self.norm is None else self.norm(y, z)

    def new_cache(
        self, batch: int, max_context: int, dtype: torch.dtype, position: Position
    ) -> StateCache:
        """Zero window and state; their size does not depend on `max_context`."""
        part = self.part
        device = self.A.device
        window = torch.zeros(batch, self.channels, part.d_conv, dtype=dtype, device=device)
        shape = (batch, part.nheads, part.headdim, part.d_state)
        state = torch.zeros(shape, dtype=self.state_dtype, device=device)
        x = window.new_empty(batch, part.nheads, part.headdim)
        B = window.new_empty(batch, part.ngroups, part.d_state)
        pending = planned(self.update_op, state, x, self.step_A, B)
        return StateCache(window, state, position, pending)


BLOCKS = {"mamba2": Mamba2Block}
