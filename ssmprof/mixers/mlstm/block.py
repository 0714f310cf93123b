"""The mLSTM layer of xLSTM-7B (arXiv:2503.13427, section 3): no convolution, gates per head.

Shape letters: B batch, L tokens, d model width, H heads, K and V width of a key and a value.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmprof.mixers.building import Building
from ssmprof.mixers.cache import Position, StateCache
from ssmprof.mixers.mlstm.shape import Mlstm
from ssmprof.scopes import scope

# Initial biases of the gates: little comes in, and little is forgotten (section 3.3).
INPUT_BIAS, FORGET_BIAS = -10.0, (3.0, 6.0)


class MlstmBlock(nn.Module):
    """(B, L, d) -> (B, L, d) with a matrix (K, V), a vector (K) and a maximum per head."""

    def __init__(self, part: Mlstm, building: Building) -> None:
        super().__init__()
        self.part = part
        weights, d_model = building.weights, building.d_model
        reads, width = part.reads(d_model), part.value_width
        # Queries, keys, values and output gate.
        self.in_proj = weights.linear(reads, part.projected)
        # Input gates of all heads, then forget gates.
        self.gates = weights.linear(reads, 2 * part.heads, bias=True)
        if weights.device.type != "meta":
            low, high = FORGET_BIAS
            self.gates.bias[: part.heads] = INPUT_BIAS
            self.gates.bias[part.heads :] = weights.uniform(part.heads, low=low, high=high)
        self.norm = weights.ones(width)
        self.out_proj = weights.linear(width, d_model, scale=weights.branch)
        self.eps = building.norm_eps
        self.state_dtype = getattr(torch, part.state_dtype)
        self.scan_op = building.ops["mlstm_scan"]
        self.step_op = building.ops["mlstm_step"]

    def forward(self, x: Tensor, cache: StateCache | None = None) -> Tensor:
        """(B, L, d) -> (B, L, d); the state after the last token is left in the cache."""
        scanned, gate = self._project(x)
        state = None if cache is None or cache.position.tokens == 0 else cache.ssm
        with scope("scan", "scan"):
            h = self.scan_op(
                *scanned,
                cap=self.part.gate_cap,
                initial_state=state,
                return_final_state=False if cache is None else self.state_dtype,
            )
        del scanned  # a name held is memory held: each tensor dies at its last use
        if cache is not None:
            h, cache.ssm = h
        h = self._gated(h, gate)
        del gate
        with scope("out_proj"):
            return self.out_proj(h)

    def step(self, x: Tensor, cache: StateCache) -> Tensor:
        """(B, d) -> (B, d); the state is overwritten in place."""
        scanned, gate = self._project(x)
        with scope("scan", "scan"):
            h = self.step_op(cache.ssm, *scanned, cap=self.part.gate_cap)
        h = self._gated(h, gate)
        with scope("out_proj"):
            return self.out_proj(h)

    def _project(self, x: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """q, k (..., H, K), v (..., H, V), both gates (..., H); and the output gate (..., H V)."""
        part = self.part
        sizes = (part.key_width, part.key_width, part.value_width, part.value_width)
        with scope("in_proj"):
            q, k, v, out = self.in_proj(x).split(sizes, dim=-1)
            gates = self.gates(x).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (part.heads, -1)) for t in (q, k, v))
        return (q, k, v, *gates), out

    def _gated(self, h: Tensor, gate: Tensor) -> Tensor:
        """(..., H, V), each head normed, times the sigmoid of the gate (..., H V)."""
        with scope("norm", "norm"):
            h = F.layer_norm(h, h.shape[-1:], eps=self.eps).flatten(-2).mul_(self.norm)
            return h.mul_(gate.sigmoid())

    def new_cache(
        self, batch: int, max_context: int, dtype: torch.dtype, position: Position
    ) -> StateCache:
        """A zero state; its size does not depend on `max_context`."""
        part, device = self.part, self.norm.device
        size = part.heads * (part.key_dim * part.value_dim + part.key_dim + 1)
        none = torch.zeros(batch, 0, 0, dtype=dtype, device=device)
        state = torch.zeros(batch, size, dtype=self.state_dtype, device=device)
        return StateCache(none, state, position)


BLOCKS = {"mlstm": MlstmBlock}
