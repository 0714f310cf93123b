"""Caches of prefixes: which keys and which states they keep, and what they give up first.

Keys are kept block by block, a state at the ends of some blocks. A prompt can start from the
deepest state on its path whose keys are there, too; its last token is always computed. What is used
last stays longest. A block is given up before the blocks it follows, a state no later than its
block: a tombstone keeps its keys.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Policy = Literal["kv-only", "last-block", "junctions", "periodic", "every-block", "marconi"]
Refresh = Literal["used", "path"]
POLICIES: dict[Policy, str] = {
    "kv-only": "keys alone, as for a model without states",
    "last-block": "a state at the end of the last full block of every prompt",
    "junctions": "... and where a prompt leaves what an earlier one began with",
    "periodic": "... of the last block, and every --interval tokens",
    "every-block": "a state at the end of every block",
    "marconi": "as junctions; the least FLOPs saved per byte and use go first (arXiv:2411.19379)",
}


@dataclass(frozen=True)
class Sizes:
    """A cache and what stands in it, in bytes; `pool_bytes` None never gives anything up.

    `slots` is a pool of states of its own, so many of them: they take none of `pool_bytes`.
    """

    pool_bytes: int | None
    block_tokens: int
    block_bytes: int
    state_bytes: int
    slots: int | None = None


@dataclass
class Counts:
    """What a cache gave up, so far."""

    blocks_evicted: int = 0
    states_evicted: int = 0


class _Recent:
    """Names by when they were used last. Of those used together the last one goes first."""

    def __init__(self) -> None:
        self.kept: dict[int, int] = {}
        self._batches: deque[tuple[int, Sequence[int]]] = deque()
        self._going: list[int] = []
        self._since = 0

    def renew(self, names: Sequence[int], now: int) -> None:
        """These are used now."""
        self.kept.update(dict.fromkeys(names, now))
        self._batches.append((now, names))

    def oldest(self) -> int | None:
        """When the next to go was used; None where nothing is kept."""
        kept = self.kept
        while True:
            while self._going:
                if kept.get(self._going[-1]) == self._since:
                    return self._since
                self._going.pop()
            if not self._batches:
                return None
            self._since, names = self._batches.popleft()
            self._going = list(names)

    def pop(self) -> int:
        """Give up what `oldest` was asked about."""
        name = self._going.pop()
        del self.kept[name]
        return name


class Cache:
    """Least recently used first. `sequence` is the only way in: one prompt after the other.

    `refresh` says which states a prompt renews: the one it starts from (`used`) or all on its path.
    """

    def __init__(
        self, policy: Policy, sizes: Sizes, *, interval_blocks: int = 1, refresh: Refresh = "used"
    ) -> None:
        self.counts = Counts()
        self._sizes = sizes
        self._depths = _DEPTHS.get(policy)
        self._interval = interval_blocks
        self._whole_path = refresh == "path"
        self._blocks, self._states = _Recent(), _Recent()
        self._now = 0

    @property
    def states(self) -> int:
        """States that are kept now."""
        return len(self._states.kept)

    @property
    def used_bytes(self) -> int:
        """Of the pool."""
        states = 0 if self._sizes.slots is not None else self.states
        blocks = len(self._blocks.kept)
        return blocks * self._sizes.block_bytes + states * self._sizes.state_bytes

    def sequence(self, blocks: Sequence[int], tokens: int) -> int:
        """Serve a prompt of so many tokens, and keep what it leaves; tokens it need not compute."""
        self._now += 1
        size, depths, states = self._sizes.block_tokens, self._depths, self._states.kept
        held, full = _held(self._blocks.kept, blocks), tokens // size
        start = min(held, (tokens - 1) // size)
        if depths is not None:
            while start and blocks[start - 1] not in states:
                start -= 1
        if full:
            self._blocks.renew(blocks[:full], self._now)
        if depths is not None and full:
            path = blocks[0 if self._whole_path else max(0, start - 1) : start]
            used = [block for block in path if block in states]
            left = depths(start, min(held, full), full, self._interval)
            self._states.renew([*used, *(blocks[depth - 1] for depth in left)], self._now)
        self._make_room()
        return start * size

    def _make_room(self) -> None:
        sizes, states = self._sizes, self._states
        if sizes.slots is not None:
            while len(states.kept) > sizes.slots and states.oldest() is not None:
                states.pop()
                self.counts.states_evicted += 1
        if sizes.pool_bytes is not None and self.used_bytes > sizes.pool_bytes:
            self._give_up(self.used_bytes - sizes.pool_bytes)

    def _give_up(self, excess: int) -> None:
        """What was used longest ago, until so many bytes are free."""
        blocks, states, counts = self._blocks, self._states, self.counts
        block_bytes = self._sizes.block_bytes
        state_bytes = self._sizes.state_bytes if self._sizes.slots is None else 0
        while excess > 0 and (last := blocks.oldest()) is not None:
            oldest = states.oldest() if state_bytes else None
            if oldest is not None and oldest <= last:
                states.pop()
                counts.states_evicted += 1
                excess -= state_bytes
                continue
            block = blocks.pop()
            counts.blocks_evicted += 1
            excess -= block_bytes
            if states.kept.pop(block, None) is not None:
                counts.states_evicted += 1
                excess -= state_bytes


def _held(kept: Container[int], blocks: Sequence[int]) -> int:
    """How many blocks from the first on are kept."""
    held = 0
    for block in blocks:
        if block not in kept:
            break
        held += 1
    return held


# Policy -> the depths, in blocks, at which a prompt leaves a state: it computes those after `start`
# (and no others), finds the keys of `held`, and has `full` blocks.
_Depths = Callable[[int, int, int, int], Iterable[int]]


def _last(start: int, held: int, full: int, interval: int) -> Iterable[int]:
    return (full,) if full > start else ()


def _junctions(start: int, held: int, full: int, interval: int) -> Iterable[int]:
    return (*((held,) if start < held < full else ()), *_last(start, held, full, interval))


def _periodic(start: int, held: int, full: int, interval: int) -> Iterable[int]:
    first = start // interval * interval + interval
    return (*range(first, full, interval), *_last(start, held, full, interval))


def _every(start: int, held: int, full: int, interval: int) -> Iterable[int]:
    return range(start + 1, full + 1)


_DEPTHS: dict[str, _Depths] = {
    "last-block": _last,
    "junctions": _junctions,
    "periodic": _periodic,
    "every-block": _every,
}
