"""Mamba-3 mixer (arXiv:2603.15569, sections 3 and 4): one projection, norms of B and C, scan.

Shape letters: B batch, L tokens, d model width, D = H*P inner width, G groups, N state size, R
ranks, S angles. There is no convolution: the trapezoidal rule looks back by one token.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from ssmprof_kernels.reference.mamba3 import Weights
from torch import Tensor, nn

from ssmprof.mixers.building import Building
from ssmprof.mixers.cache import Position, StateCache
from ssmprof.mixers.mamba3.shape import Mamba3
from ssmprof.mixers.norm.block import GatedRMSNorm
from ssmprof.mixers.weights import frozen
from ssmprof.scopes import scope


class Inputs(NamedTuple):
    """Of a token or of all: gate z and value x (..., H, P), normed keys and queries (..., R, G, N).

    Then a, dt, trap (..., H) and angles (..., S), as projected.
    """

    z: Tensor
    x: Tensor
    B: Tensor
    C: Tensor
    dt: Tensor
    a: Tensor
    trap: Tensor
    angles: Tensor


class Mamba3Block(nn.Module):
    """(B, L, d) -> (B, L, d) with a state of (H, P, N), and the last token's keys and value."""

    def __init__(self, part: Mamba3, building: Building) -> None:
        super().__init__()
        self.part = part
        d_model, weights, ops = building.d_model, building.weights, building.ops
        heads, rank, states = part.nheads, part.mimo_rank, part.d_state
        self.in_proj = weights.linear(part.reads(d_model), part.projected)
        self.dt_bias = weights.step_bias(heads)
        self.B_bias, self.C_bias = (
            frozen(weights.uniform(heads, rank, states, low=0.5, high=1.5, float32=True))
            for _ in range(2)
        )
        self.B_norm, self.C_norm = weights.ones(states), weights.ones(states)
        self.D = weights.ones(heads, float32=True)
        self.mimo_x = self.mimo_z = self.mimo_o = None
        if rank > 1:
            self.mimo_x, self.mimo_z, self.mimo_o = (
                frozen(
                    weights.uniform(
                        heads, rank, part.headdim, low=0.5 * mean, high=1.5 * mean, float32=True
                    )
                )
                for mean in (1.0 / rank, 1.0, 1.0 / rank)
            )
        self.norm = None
        if part.out_norm:
            self.norm = GatedRMSNorm(part.d_inner, part.headdim, building, before_gate=True)
        self.out_proj = weights.linear(part.d_inner, d_model, scale=weights.branch)
        self.eps = building.norm_eps
        self.state_dtype = getattr(torch, part.state_dtype)
        self.norm_op = ops["rms_norm"]
        self.scan_op = ops["mamba3_scan"]
        self.step_op = ops["mamba3_step"]

    def forward(self, x: Tensor, cache: StateCache | None = None) -> Tensor:
        """(B, L, d) -> (B, L, d); the state after the last token is left in the cache."""
        found = self._project(x)
        state = None if cache is None or cache.position.tokens == 0 else cache.ssm
        z = found.z
        with scope("scan", "scan"):
            y = self.scan_op(
                *self._scanned(found),
                **self._options(z),
                initial_state=state,
                return_final_state=False if cache is None else self.state_dtype,
            )
        del found  # a name held is memory held: each tensor dies at its last use
        if cache is not None:
            y, cache.ssm = y
        y = self._gated(y, z)
        del z
        with scope("out_proj"):
            return self.out_proj(y)

    def step(self, x: Tensor, cache: StateCache) -> Tensor:
        """(B, d) -> (B, d); the state is overwritten in place."""
        found = self._project(x)
        with scope("scan", "scan"):
            y = self.step_op(cache.ssm, *self._scanned(found), **self._options(found.z))
        y = self._gated(y, found.z)
        with scope("out_proj"):
            return self.out_proj(y)

    def _project(self, x: Tensor) -> Inputs:
        part = self.part
        keys = part.d_state * part.ngroups * part.mimo_rank
        sizes = (part.d_inner, part.d_inner, keys, keys, *[part.nheads] * 3, part.angles)
        with scope("in_proj"):
            z, value, B, C, dt, a, trap, angles = self.in_proj(x).split(sizes, dim=-1)
        shape = (part.mimo_rank, part.ngroups, part.d_state)
        with scope("norms", "norm"):
            B = self.norm_op(B.unflatten(-1, shape), self.B_norm, eps=self.eps)
            C = self.norm_op(C.unflatten(-1, shape), self.C_norm, eps=self.eps)
        z, value = (t.unflatten(-1, (-1, part.headdim)) for t in (z, value))
        return Inputs(z, value, B, C, dt, a, trap, angles)

    def _scanned(self, found: Inputs) -> tuple[Tensor, ...]:
        """What the scan and its step read of each token, in their order."""
        return found.C, found.B, found.x, found.a, found.dt, found.trap, found.angles

    def _options(self, z: Tensor) -> dict[str, Any]:
        """Weights of the scan; with a norm behind it, ranks stay apart and gates wait."""
        out = self.mimo_o if self.norm is None else None
        weights = Weights(
            self.dt_bias, self.C_bias, self.B_bias, self.D, self.mimo_x, self.mimo_z, out
        )
        return {"weights": weights, "z": z if self.norm is None else None}

    def _gated(self, y: Tensor, z: Tensor) -> Tensor:
        """Gated norm and sum of ranks, (..., D), or y as it is where the scan has done both."""
        if self.norm is None:
            return y.flatten(-2)
        if self.mimo_z is None or self.mimo_o is None:
            return self.norm(y.flatten(-2), z.flatten(-2))
        with scope("norm"):
            # (..., R, H, P) each.
            into, out = (t.transpose(0, 1).to(z.dtype) for t in (self.mimo_z, self.mimo_o))
            gated = self.norm(y.flatten(-2), (z[..., None, :, :] * into).flatten(-2))
            y = gated.view_as(y)
            del gated
            return (y * out).sum(-3).flatten(-2)

    def new_cache(
        self, batch: int, max_context: int, dtype: torch.dtype, position: Position
    ) -> StateCache:
        """A zero state of h, keys and value; its size does not depend on `max_context`."""
        part, device = self.part, self.D.device
        keys = part.nheads * part.mimo_rank * part.d_state
        size = part.d_inner * part.d_state + keys + part.d_inner
        none = torch.zeros(batch, 0, 0, dtype=dtype, device=device)
        state = torch.zeros(batch, size, dtype=self.state_dtype, device=device)
        return StateCache(none, state, position)


BLOCKS = {"mamba3": Mamba3Block}
