"""vLLM's one pool: pages of equal size for keys and states, in groups of equally many layers.

A block of attention is made as long as a state is large; each state is padded to that page.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssmprof.serving.layout import Caches, KeyCache, StateCache

if TYPE_CHECKING:
    from ssmprof.serving.rules import GdnPrefill, Prefix, Vllm


@dataclass(frozen=True)
class Kind:
    """Layers with equal caches: how many groups they make, and tokens of their block."""

    cache: KeyCache | StateCache
    groups: int
    block_tokens: int

    def blocks(self, context: int, state_blocks: int) -> int:
        """Blocks of one sequence; those that a window has left behind are free again."""
        if isinstance(self.cache, StateCache):
            return self.groups * state_blocks
        tokens = self.cache.prefix + context
        passed = 0 if self.cache.window is None else max(0, tokens - self.cache.window + 1)
        return self.groups * (-(-tokens // self.block_tokens) - passed // self.block_tokens)


@dataclass(frozen=True)
class Plan:
    """How the pool is cut. `block_bytes` is one block of all layers of a group.

    `block_tokens` is None where there are no keys; `state_blocks` are those of one sequence in one
    group of states.
    """

    block_tokens: int | None
    page_bytes: int
    block_bytes: int
    kinds: tuple[Kind, ...]
    state_blocks: int

    @property
    def groups(self) -> int:
        """Groups of layers, each with blocks of its own."""
        return sum(one.groups for one in self.kinds)

    def blocks(self, context: int) -> int:
        """Blocks that one sequence of `context` tokens takes."""
        return sum(one.blocks(context, self.state_blocks) for one in self.kinds)


def plan(found: Caches, rules: Vllm, prefix: Prefix, gdn_prefill: GdnPrefill, drafts: int) -> Plan:
    """Blocks, pages and groups of a model's caches."""
    keys, states = found.keys, found.states
    chunked = prefix == "align" and any(one.rule == "gated_delta" for one in states)
    step = rules.gdn_chunk_tokens[gdn_prefill] if chunked else 1
    checkpoints = rules.gdn_checkpoint_blocks[gdn_prefill] if chunked else 0
    page = max((one.sequence_bytes for one in states), default=0)
    block = 0
    if keys:
        least = rules.latent_block_tokens if any(one.latent for one in keys) else rules.block_tokens
        per_token = max(one.token_bytes for one in keys)
        step = math.lcm(least, step)
        block = step * max(1, -(-page // (step * per_token)))
        page = block * per_token
    counts = Counter([*keys, *states])
    alike = not states and len({(one.window, one.prefix) for one in keys}) == 1
    size = sum(counts.values()) if alike else _layers_of_a_group(counts.values(), rules)
    kinds = [
        Kind(cache, -(-count // size), _block(cache, block, page))
        for cache, count in counts.items()
    ]
    block_bytes = page * size
    if alike:  # one table serves all layers, whatever the size of each: pages are not padded
        kinds = [Kind(keys[0], 1, block)]
        block_bytes = block * sum(one.token_bytes for one in keys)
    return Plan(
        block_tokens=block or None,
        page_bytes=page,
        block_bytes=block_bytes,
        kinds=tuple(kinds),
        state_blocks=rules.state_blocks[prefix] + drafts + checkpoints,
    )


def _layers_of_a_group(counts: Iterable[int], rules: Vllm) -> int:
    """The smaller number of layers of a kind, or the larger one where they are nearly even."""
    few, many = min(counts), max(counts)
    return many if many < rules.uneven_ratio * few else few


def _block(cache: KeyCache | StateCache, block: int, page: int) -> int:
    """Tokens of a page: more where a token takes a whole part of the largest, else padded."""
    if isinstance(cache, StateCache):
        return 0
    return page // cache.token_bytes if page % (block * cache.token_bytes) == 0 else block
