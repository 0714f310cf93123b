"""What every token mixer promises, and the cache it keeps between tokens.

Shape letters: B batch, L tokens, d model width. A mixer maps (B, L, d) to (B, L, d) with `forward`
and (B, d) to (B, d) with `step`. Neither moves the position: the owner of the cache does, with
`Cache.advance` or `Cache.seek`, so that one call can be replayed for ever at the same position.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

# Standard deviation of the values that stand for a prompt's keys, values and states.
FILL_STD = 0.5


def tensor_bytes(tensor: Tensor | None) -> int:
    """Bytes of the elements of a tensor, 0 for None."""
    return 0 if tensor is None else tensor.numel() * tensor.element_size()


def fill(tensor: Tensor, std: float, generator: torch.Generator | None) -> Tensor:
    """Overwrite with uniform random values of this standard deviation (a meta tensor stays).

    Uniform, not normal: on a CPU it is several times faster, and power draw and numerics of a
    matmul do not tell them apart.
    """
    if tensor.device.type != "meta":
        bound = 3.0**0.5 * std
        tensor.uniform_(-bound, bound, generator=generator)
    return tensor


class Position:
    """How many tokens a cache holds, on the host and on the device, and tables over positions.

    `tokens` is a plain int, so that slices of a captured graph are fixed; `lengths(rows)` is the
    same on the device: rows of a KV cache of `rows` rows that one step sees, its own included.
    `tables` are made once per cache, under a name that says how (`Attention.turns`). `passed` is
    what a layer hands to later ones; it is empty between calls.
    """

    def __init__(self, batch: int, device: torch.device) -> None:
        self.tokens = 0
        self.tables: dict[str, tuple[Tensor, Tensor]] = {}
        self.passed: dict[str, Tensor] = {}
        self._batch = batch
        self._device = device
        self._lengths: dict[int, Tensor] = {}
        self.each: Tensor | None = None
        self._visible: Tensor | None = None

    def stand_apart(self, each: Tensor, visible: Tensor) -> None:
        """Let sequences be of different lengths, for steps: their tokens, and those plus one.

        Both are int32 (B) on the device and are moved by their owner. Every sequence has read a
        prompt; caches must hold every row (no windows), and the attention of a step must read the
        lengths.
        """
        self.each, self._visible = each, visible

    def lengths(self, rows: int) -> Tensor:
        """int32 (B): visible rows of a ring of `rows` rows during one step."""
        if self._visible is not None:
            return self._visible
        if rows not in self._lengths:
            visible = min(self.tokens + 1, rows)
            self._lengths[rows] = torch.full(
                (self._batch,), visible, dtype=torch.int32, device=self._device
            )
        return self._lengths[rows]

    @torch.inference_mode()
    def seek(self, tokens: int) -> None:
        """Declare that the cache holds `tokens` tokens."""
        self.tokens = tokens
        for rows, lengths in self._lengths.items():
            lengths.fill_(min(tokens + 1, rows))


@dataclass
class KVCache:
    """Keys and values of one attention layer: (B, rows, Hk, dh) each.

    Where values are a part of the keys (latent attention), `v` is empty. Static size. With a window
    the rows are a ring: token t lies in row t % rows. Attention does not depend on the order of the
    rows, since keys are stored rotated.
    """

    k: Tensor
    v: Tensor
    position: Position

    @property
    def rows(self) -> int:
        """Tokens the cache can hold."""
        return self.k.shape[1]

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values."""
        return tensor_bytes(self.k) + tensor_bytes(self.v)

    conv_state_bytes = 0
    ssm_state_bytes = 0

    def randomize(self, generator: torch.Generator | None) -> None:
        """Fill with finite random values, as if a prompt had been read."""
        fill(self.k, FILL_STD, generator)
        fill(self.v, FILL_STD, generator)


@dataclass(eq=False)
class Pending:
    """Inputs of tokens that a state has not seen yet, of a provider that writes it rarely.

    `ring` is what that provider keeps, None until it has run; it stays once it is there, since a
    captured graph may hold it. `live` says that its tokens count. Two of them are alike for whoever
    tells calls apart by their arguments.
    """

    ring: tuple[Tensor, ...] | None = None
    live: bool = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pending)

    def __hash__(self) -> int:
        return hash(Pending)

    @property
    def nbytes(self) -> int:
        """Bytes of the ring."""
        return 0 if self.ring is None else sum(map(tensor_bytes, self.ring))


@dataclass
class StateCache:
    """Fixed state of one state-space layer.

    `conv` (B, channels, d_conv) holds the last inputs of the short convolution, the newest last;
    `ssm` is the recurrent state, (B, D, N) for Mamba-1 and (B, H, P, N) for Mamba-2. A mixer that
    has no convolution, or no other state, has an empty tensor there. `pending` belongs to `ssm`.
    """

    conv: Tensor
    ssm: Tensor
    position: Position
    pending: Pending = field(default_factory=Pending)

    kv_bytes = 0

    @property
    def conv_state_bytes(self) -> int:
        """Bytes of the convolution window."""
        return tensor_bytes(self.conv)

    @property
    def ssm_state_bytes(self) -> int:
        """Bytes of the recurrent state, and of the inputs it has not seen yet."""
        return tensor_bytes(self.ssm) + self.pending.nbytes

    def randomize(self, generator: torch.Generator | None) -> None:
        """Fill with finite random values, as if a prompt had been read."""
        fill(self.conv, FILL_STD, generator)
        fill(self.ssm, FILL_STD, generator)


LayerCache = KVCache | StateCache


class Mixer(Protocol):
    """A sub-layer that mixes tokens."""

    def forward(self, x: Tensor, cache: LayerCache | None) -> Tensor:
        """Read L tokens (B, L, d) after those the cache holds, and leave them in the cache."""
        ...

    def step(self, x: Tensor, cache: LayerCache) -> Tensor:
        """Read one token (B, d) after those the cache holds, and leave it in the cache."""
        ...

    def new_cache(
        self, batch: int, max_context: int, dtype: torch.dtype, position: Position
    ) -> LayerCache | None:
        """An empty cache on the mixer's device for at most `max_context` tokens.

        None where it reads that of an earlier layer; `borrowed(cache, max_context)` then takes it.
        """
        ...


@dataclass
class Cache:
    """The caches of all mixers of a stack, in order, and their common position."""

    position: Position
    max_context: int
    layers: list[LayerCache] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Tokens read so far."""
        return self.position.tokens

    def seek(self, tokens: int) -> None:
        """Declare that the cache holds `tokens` tokens; 0 starts a new sequence."""
        if not 0 <= tokens <= self.max_context:
            raise ValueError(f"position {tokens} outside a cache of {self.max_context} tokens")
        self.position.seek(tokens)

    def advance(self, tokens: int = 1) -> None:
        """Declare that `tokens` more tokens were read."""
        self.seek(self.position.tokens + tokens)

    def owned(self) -> list[LayerCache]:
        """Every cache once: some layers read that of an earlier one."""
        return list({id(layer): layer for layer in self.layers}.values())

    @torch.inference_mode()
    def randomize(self, generator: torch.Generator | None) -> None:
        """Fill every cache with finite random values, as if a prompt had been read."""
        for layer in self.owned():
            layer.randomize(generator)

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values; grows with the context."""
        return sum(layer.kv_bytes for layer in self.owned())

    @property
    def conv_state_bytes(self) -> int:
        """Bytes of the convolution windows; fixed."""
        return sum(layer.conv_state_bytes for layer in self.owned())

    @property
    def ssm_state_bytes(self) -> int:
        """Bytes of the recurrent states; fixed."""
        return sum(layer.ssm_state_bytes for layer in self.owned())

    @property
    def nbytes(self) -> int:
        """Everything that is kept between tokens."""
        return self.kv_bytes + self.conv_state_bytes + self.ssm_state_bytes
