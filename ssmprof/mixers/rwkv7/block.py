"""RWKV-7's time mix and channel mix (arXiv:2503.14456, section 4; appendix with the plain code).

Shape letters: B batch, L tokens, d width, H heads of width K.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssmprof.errors import ConfigError
from ssmprof.mixers.building import Building
from ssmprof.mixers.cache import Position, StateCache
from ssmprof.mixers.rwkv7.shape import LOWEST, MIXED, Rwkv7, Rwkv7Ffn
from ssmprof.mixers.weights import Weights, frozen
from ssmprof.scopes import scope

# What the first layer hands to the later ones of a call.
FIRST_VALUES = "rwkv7 values"


def kept_token(x: Tensor, cache: StateCache | None) -> tuple[Tensor, bool]:
    """Where the last token of x (B, L, d) goes, and whether the one before x stands there."""
    if cache is None:
        return torch.empty_like(x[:, 0]), False
    return cache.conv, cache.position.tokens > 0


class LowRank(nn.Module):
    """(..., d) -> (..., H K) by way of a few features, with an activation of those."""

    def __init__(self, reads: int, rank: int, writes: int, weights: Weights, bias: bool) -> None:
        super().__init__()
        self.down = weights.linear(reads, rank)
        self.up = weights.linear(rank, writes, bias=bias)

    def forward(self, x: Tensor, act: str = "none") -> Tensor:
        """`act`: none, tanh or sigmoid."""
        low = self.down(x)
        if act != "none":
            low = low.tanh_() if act == "tanh" else low.sigmoid_()
        return self.up(low)


class Rwkv7Block(nn.Module):
    """Time mix: (B, L, d) -> (B, L, d) with a state of (H, K, K) per sequence.

    Values of the first layer (`value_rank` 0) are mixed into those of the later ones.
    """

    def __init__(self, part: Rwkv7, building: Building) -> None:
        super().__init__()
        self.part = part
        weights, d_model = building.weights, building.d_model
        reads, width = part.reads(d_model), part.width
        self.shared = part.value_rank > 0  # reads what an earlier layer left beside the cache
        self.mix = frozen(weights.uniform(MIXED, reads, low=0.0, high=1.0))
        self.r_proj, self.k_proj, self.v_proj = (weights.linear(reads, width) for _ in range(3))
        self.decay = LowRank(reads, part.decay_rank, width, weights, bias=True)
        self.rate = LowRank(reads, part.step_rank, width, weights, bias=True)
        self.gate = LowRank(reads, part.gate_rank, width, weights, bias=False)
        self.value = None
        if part.value_rank:
            self.value = LowRank(reads, part.value_rank, width, weights, bias=True)
        self.removed, self.added, self.bonus = (
            frozen(weights.uniform(width, low=0.5, high=1.0)) for _ in range(3)
        )
        self.norm_weight = weights.ones(width)
        self.norm_bias = weights.zeros(width) if part.norm_bias else None
        self.norm_eps = part.head_dim * building.norm_eps
        self.out_proj = weights.linear(width, d_model, scale=weights.branch)
        self.state_dtype = getattr(torch, part.state_dtype)
        self.prefill_op = building.ops["rwkv7"]
        self.step_op = building.ops["rwkv7_step"]
        self.shift_op = building.ops["token_shift"]
        self.keys_op = building.ops["rwkv7_keys"]
        self.output_op = building.ops["rwkv7_output"]

    def forward(self, x: Tensor, cache: StateCache | None = None) -> Tensor:
        """(B, L, d) -> (B, L, d); the state after the last token is left in the cache."""
        self._forget(cache)
        with scope("shift"):
            last, resumed = kept_token(x, cache)
            mixed = self.shift_op(x, self.mix, last, resumed=resumed)
        r, raw, gate, share = self._project(mixed, cache)
        del mixed, last  # a name held is memory held: each tensor dies at its last use
        w, k, v, kk, a = self._keys(raw, share, cache)
        del raw, share
        r = self._heads(r)
        state = None if cache is None or cache.position.tokens == 0 else cache.ssm
        with scope("scan", "scan"):
            y = self.prefill_op(
                r, w, k, v, kk, a,
                initial_state=state,
                return_final_state=False if cache is None else self.state_dtype,
            )  # fmt: skip
        del w, kk, a
        if cache is not None:
            y, cache.ssm = y
        y = self._normed(y, r, k, v, gate)
        del r, k, v, gate
        with scope("out_proj"):
            return self.out_proj(y)

    def step(self, x: Tensor, cache: StateCache) -> Tensor:
        """(B, d) -> (B, d); the state is overwritten in place."""
        self._forget(cache)
        with scope("shift"):
            mixed = self.shift_op(x, self.mix, cache.conv, resumed=True)
        r, raw, gate, share = self._project(mixed, cache)
        w, k, v, kk, a = self._keys(raw, share, cache)
        r = self._heads(r)
        with scope("scan", "scan"):
            y = self.step_op(cache.ssm, r, w, k, v, kk, a)
        y = self._normed(y, r, k, v, gate)
        with scope("out_proj"):
            return self.out_proj(y)

    def _forget(self, cache: StateCache | None) -> None:
        """A first layer begins a stack anew."""
        if cache is not None and self.value is None:
            cache.position.passed.pop(FIRST_VALUES, None)

    def _heads(self, x: Tensor) -> Tensor:
        """(..., H K) -> (..., H, K)."""
        return x.unflatten(-1, (-1, self.part.head_dim))

    def _project(
        self, mixed: Tensor, cache: StateCache | None
    ) -> tuple[Tensor, tuple[Tensor, ...], Tensor, Tensor | None]:
        """(6, ..., d) -> (..., H K) each: r; logits of the decay, k, logits of the step size, v;
        gate; logits of the first layer's share in v, where it has one."""
        xr, xw, xk, xv, xa, xg = mixed.unbind(0)
        with scope("in_proj"):
            r, k, v = self.r_proj(xr), self.k_proj(xk), self.v_proj(xv)
        if self.value is None and cache is not None:
            cache.position.passed[FIRST_VALUES] = v
        with scope("low_rank"):
            share = None if self.value is None else self.value(xv)
            w = self.decay(xw, "tanh")
            a = self.rate(xa)
            gate = self.gate(xg, "sigmoid")
        return r, (w, k, a, v), gate, share

    def _keys(
        self, raw: tuple[Tensor, ...], share: Tensor | None, cache: StateCache | None
    ) -> tuple[Tensor, ...]:
        """Log decay, key that is added, values, key that is removed, step size, (..., H, K) each;
        values are mixed with those of the first layer, which hands its own on."""
        first = None
        if share is not None:
            first = None if cache is None else cache.position.passed.get(FIRST_VALUES)
            if first is None:
                raise ConfigError(
                    "RWKV-7: value_rank mixes values with those of a first layer, and none came "
                    "before",
                    fix="a layer with value_rank = 0 first",
                )
        with scope("keys"):
            return self.keys_op(
                *raw, self.removed, self.added, v_first=first, share=share,
                heads=self.part.heads, lowest=LOWEST,
            )  # fmt: skip

    def _normed(self, y: Tensor, r: Tensor, k: Tensor, v: Tensor, gate: Tensor) -> Tensor:
        """(..., H, K) -> (..., H K): heads normed, the present token's bonus added, gated."""
        with scope("norm", "norm"):
            return self.output_op(
                y, r, k, v, gate, self.norm_weight, self.bonus, bias=self.norm_bias,
                eps=self.norm_eps,
            )  # fmt: skip

    def new_cache(
        self, batch: int, max_context: int, dtype: torch.dtype, position: Position
    ) -> StateCache:
        """Zero token and state; their size does not depend on `max_context`."""
        part, device = self.part, self.out_proj.weight.device
        size = (batch, part.heads, part.head_dim, part.head_dim)
        return StateCache(
            torch.zeros(batch, part.width, dtype=dtype, device=device),
            torch.zeros(size, dtype=self.state_dtype, device=device),
            position,
        )


class Rwkv7FfnBlock(nn.Module):
    """Channel mix: a squared rectifier on each token mixed with the one before."""

    def __init__(self, part: Rwkv7Ffn, building: Building) -> None:
        super().__init__()
        weights = building.weights
        self.width = part.width
        self.mix = frozen(weights.uniform(part.width, low=0.0, high=1.0))
        self.up = weights.linear(part.width, part.d_ff)
        self.down = weights.linear(part.d_ff, building.d_model, scale=weights.branch)
        self.shift_op = building.ops["token_shift"]
        self.relu2_op = building.ops["relu2"]

    def forward(self, x: Tensor, cache: StateCache | None = None) -> Tensor:
        """(B, L, d) -> (B, L, d); the last token is left in the cache."""
        with scope("shift"):
            last, resumed = kept_token(x, cache)
            mixed = self.shift_op(x, self.mix, last, resumed=resumed)
        return self._write(mixed)

    def step(self, x: Tensor, cache: StateCache) -> Tensor:
        """(B, d) -> (B, d)."""
        with scope("shift"):
            mixed = self.shift_op(x, self.mix, cache.conv, resumed=True)
        return self._write(mixed)

    def _write(self, mixed: Tensor) -> Tensor:
        with scope("up"):
            hidden = self.up(mixed)
        with scope("act"):
            hidden = self.relu2_op(hidden)
        with scope("down"):
            return self.down(hidden)

    def new_cache(
        self, batch: int, max_context: int, dtype: torch.dtype, position: Position
    ) -> StateCache:
        """The token before; there is no state."""
        device = self.mix.device
        return StateCache(
            torch.zeros(batch, self.width, dtype=dtype, device=device),
            torch.zeros(batch, 0, dtype=dtype, device=device),
            position,
        )


BLOCKS = {"rwkv7": Rwkv7Block, "rwkv7_ffn": Rwkv7FfnBlock}
