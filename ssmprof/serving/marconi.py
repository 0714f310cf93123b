"""A cache that keeps what saves most: Marconi's admission and eviction (arXiv:2411.19379).

Nodes are stretches of keys that end in a state: at the last full block of a prompt, and where a
prompt leaves what an earlier one began with. What goes first is the node with the smallest sum of

- how recently it was used, in prompts, over the prompts that the pool holds, and
- the FLOPs that a hit saves beyond its parent, per byte of the node, over the largest such value.

A node with one child gives up its state alone and its keys go to the child; a node with several is
kept. Both terms weigh the same here; the paper tunes the weight while it serves.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ssmprof.serving.policies import Counts, Sizes


@dataclass(eq=False)
class _Node:
    """`blocks` are those after the parent's; its state stands behind the last of them."""

    parent: _Node | None
    depth: int  # blocks from the beginning
    blocks: list[int]
    used: int = 0
    children: set[_Node] = field(default_factory=set)  # type: ignore[assignment]
    turn: int = 0  # which of its entries in the heap counts


class Marconi:
    """The same doors as `policies.Cache`. `flops` are those of a prefill of so many tokens.

    `span` are the prompts that the pool holds, about, and `most` is the largest number of FLOPs
    per byte that a node can save: they make both terms of a node's worth comparable.
    """

    def __init__(
        self, sizes: Sizes, flops: Callable[[int], float], span: float, most: float
    ) -> None:
        self.counts = Counts()
        self._sizes = sizes
        self._flops, self._span, self._most = flops, span, most
        self._root = _Node(None, 0, [])
        self._of: dict[int, _Node] = {}
        self._heap: list[tuple[float, int, int, _Node]] = []
        self._now = self._pushed = self.states = self.used_bytes = 0

    def sequence(self, blocks: Sequence[int], tokens: int) -> int:
        """Serve a prompt of so many tokens, and keep what it leaves; tokens it need not compute."""
        self._now += 1
        size = self._sizes.block_tokens
        held, full = 0, tokens // size
        for block in blocks:
            if block not in self._of:
                break
            held += 1
        node = self._of[blocks[held - 1]] if held else self._root
        # The last node whose state lies on the path, deep enough to leave a token to compute.
        start = node if node.depth <= min(held, (tokens - 1) // size) else node.parent
        while start is not None and start.depth > (tokens - 1) // size:
            start = start.parent
        assert start is not None
        resumed = start.depth
        if start is not self._root:
            start.used = self._now
            self._push(start)
        if self._fits(full):
            self._insert(blocks[:full], min(held, full))
            self._make_room()
        return resumed * size

    def _fits(self, full: int) -> bool:
        """Whether a prompt alone is not too large for the pool."""
        sizes = self._sizes
        needed = full * sizes.block_bytes + (0 if sizes.slots else 2 * sizes.state_bytes)
        return full > 0 and (sizes.pool_bytes is None or needed <= sizes.pool_bytes)

    def _insert(self, blocks: Sequence[int], held: int) -> None:
        node = self._of[blocks[held - 1]] if held else self._root
        if node.depth > held:
            node = self._split(node, held)
        if len(blocks) > held:
            node = self._add(_Node(node, len(blocks), list(blocks[held:])))
        node.used = self._now
        self._push(node)

    def _add(self, node: _Node) -> _Node:
        assert node.parent is not None
        node.parent.children.add(node)
        self._of.update(dict.fromkeys(node.blocks, node))
        self.used_bytes += len(node.blocks) * self._sizes.block_bytes
        self._new_state()
        self._push(node.parent)  # it may have had no child, or one
        return node

    def _split(self, node: _Node, depth: int) -> _Node:
        """A node that ends at `depth`, between a node and its parent."""
        assert node.parent is not None
        cut = depth - node.parent.depth
        middle = _Node(node.parent, depth, node.blocks[:cut], self._now, {node})
        node.parent.children.remove(node)
        node.parent.children.add(middle)
        node.parent, node.blocks = middle, node.blocks[cut:]
        self._of.update(dict.fromkeys(middle.blocks, middle))
        self._new_state()
        self._push(node)
        return middle

    def _new_state(self) -> None:
        self.states += 1
        self.used_bytes += self._state_bytes

    @property
    def _state_bytes(self) -> int:
        return 0 if self._sizes.slots is not None else self._sizes.state_bytes

    def _push(self, node: _Node) -> None:
        """Into the heap by what it is worth now; earlier entries of it no longer count."""
        if node.parent is None or len(node.children) > 1:
            node.turn += 1
            return
        sizes = self._sizes
        tokens, before = (one.depth * sizes.block_tokens for one in (node, node.parent))
        held = len(node.blocks) * sizes.block_bytes + sizes.state_bytes
        saved = (self._flops(tokens) - self._flops(before)) / held if held else self._most
        self._pushed += 1
        node.turn = self._pushed
        worth = node.used / self._span + saved / self._most
        heapq.heappush(self._heap, (worth, self._pushed, node.turn, node))

    def _make_room(self) -> None:
        sizes = self._sizes
        while self._heap and (
            (sizes.pool_bytes is not None and self.used_bytes > sizes.pool_bytes)
            or (sizes.slots is not None and self.states > sizes.slots)
        ):
            _, _, turn, node = heapq.heappop(self._heap)
            if node.turn == turn and len(node.children) <= 1:
                self._evict(node)

    def _evict(self, node: _Node) -> None:
        parent = node.parent
        assert parent is not None
        node.turn = 0
        self.states -= 1
        self.counts.states_evicted += 1
        self.used_bytes -= self._state_bytes
        parent.children.remove(node)
        if node.children:
            (child,) = node.children
            child.parent, child.blocks = parent, node.blocks + child.blocks
            parent.children.add(child)
            self._of.update(dict.fromkeys(node.blocks, child))
            self._push(child)
            return
        for block in node.blocks:
            del self._of[block]
        self.counts.blocks_evicted += len(node.blocks)
        self.used_bytes -= len(node.blocks) * self._sizes.block_bytes
        self._push(parent)
