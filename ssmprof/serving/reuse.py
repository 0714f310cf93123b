"""What a cache of prefixes would have saved of a trace, by policy and size.

Prompts are served one after the other, as they came; each finds what all before it left. What was
generated is not cached: traces do not name it. Keys of windowed layers count as if they saw it all.
Reuse is counted in the blocks of the trace, or in those of an engine, whose pages are then counted
whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import Struct

from ssmprof.errors import ConfigError
from ssmprof.models.cost import cost
from ssmprof.records import Point, Prefill, collector_at_rest
from ssmprof.serving import vllm
from ssmprof.serving.layout import Caches, StateCache
from ssmprof.serving.marconi import Marconi
from ssmprof.serving.policies import Cache, Policy, Refresh, Sizes
from ssmprof.serving.requests import Request, Trace

if TYPE_CHECKING:
    from ssmprof.models.recipe import Recipe

# FLOPs of a prefill are a parabola of its length; these two lengths tell which.
_FLOPS_TOKENS = (4_096, 65_536)


class Reuse(Struct, frozen=True, kw_only=True):
    """What one policy saved. `hits` are prompts of which some token was reused.

    `states_kept` and `used_bytes` are those at the end of the trace, `evictions` blocks and states
    given up on the way. `pool_bytes` is None for a cache without end.
    """

    model: str
    policy: Policy
    pool_bytes: int | None
    requests: int
    prompt_tokens: int
    reused_tokens: int
    reused_share: float
    hits: int
    states_kept: int
    evictions: int
    blocks_evicted: int
    states_evicted: int
    used_bytes: int
    block_tokens: int


@dataclass(frozen=True)
class Model:
    """A model as a cache of prefixes sees it: a trace in its blocks, their bytes, its FLOPs."""

    name: str
    trace: Trace
    block_bytes: int
    state_bytes: int
    flops: Callable[[int], float]

    @property
    def block_tokens(self) -> int:
        """Of the trace."""
        assert self.trace.block_tokens is not None
        return self.trace.block_tokens


def in_trace_blocks(recipe: Recipe, found: Caches, trace: Trace) -> Model:
    """Bytes of keys and states as they are. Raises ConfigError where the trace has no prefixes."""
    block = _blocks_of(trace) * sum(one.token_bytes for one in found.keys)
    return Model(recipe.name, trace, block, found.state_bytes, _flops(recipe))


def in_engine_blocks(recipe: Recipe, plan: vllm.Plan, trace: Trace) -> Model:
    """The trace cut into blocks of vLLM, whose pages are counted whole.

    A prefix is known to be shared where the block of the trace that it ends in is.
    Raises ConfigError where the trace has no prefixes, or the model no blocks of tokens.
    """
    theirs, ours = _blocks_of(trace), plan.block_tokens
    if ours is None:
        raise ConfigError(
            f"{recipe.name} has no attention, so that its engine has no block of tokens",
            fix="--granularity trace",
        )
    states = sum(one.groups for one in plan.kinds if isinstance(one.cache, StateCache))
    cut = tuple(one._replace(blocks=tuple(_cut(one, theirs, ours))) for one in trace.requests)
    again = Trace(trace.name, cut, ours, trace.dropped)
    keys = (plan.groups - states) * plan.block_bytes
    return Model(recipe.name, again, keys, states * plan.block_bytes, _flops(recipe))


def _cut(request: Request, theirs: int, ours: int) -> Iterator[int]:
    for number in range(1, request.prompt_tokens // ours + 1):
        yield (request.blocks[(number * ours - 1) // theirs] << 32) + number


def replay(
    model: Model,
    policy: Policy,
    pool_bytes: int | None,
    *,
    slots: int | None = None,
    interval_tokens: int = 4_096,
    refresh: Refresh = "used",
) -> Reuse:
    """Serve the trace through a cache of this size under this policy.

    Args:
        slots: a pool of states of its own, of so many; without it they share the pool's bytes.
        interval_tokens: between states of the policy `periodic`, rounded up to whole blocks.
        refresh: which states a prompt renews (`policies.Cache`).
    """
    cache, reused = reused_tokens(
        model, policy, pool_bytes, slots=slots, interval_tokens=interval_tokens, refresh=refresh
    )
    tokens = model.trace.prompt_tokens
    return Reuse(
        model=model.name,
        policy=policy,
        pool_bytes=pool_bytes,
        requests=len(reused),
        prompt_tokens=tokens,
        reused_tokens=sum(reused),
        reused_share=sum(reused) / tokens,
        hits=sum(one > 0 for one in reused),
        states_kept=cache.states,
        evictions=cache.counts.blocks_evicted + cache.counts.states_evicted,
        blocks_evicted=cache.counts.blocks_evicted,
        states_evicted=cache.counts.states_evicted,
        used_bytes=cache.used_bytes,
        block_tokens=model.block_tokens,
    )


def reused_tokens(
    model: Model,
    policy: Policy,
    pool_bytes: int | None,
    *,
    slots: int | None = None,
    interval_tokens: int = 4_096,
    refresh: Refresh = "used",
) -> tuple[Cache | Marconi, list[int]]:
    """The cache at the end of the trace, and the tokens that each prompt found in it."""
    sizes = Sizes(pool_bytes, model.block_tokens, model.block_bytes, model.state_bytes, slots)
    interval = max(1, -(-interval_tokens // model.block_tokens))
    if not model.state_bytes:  # keys are all that such a model needs to start from
        cache: Cache | Marconi = Cache("kv-only", sizes)
    elif policy == "marconi":
        cache = _marconi(model, sizes)
    else:
        cache = Cache(policy, sizes, interval_blocks=interval, refresh=refresh)
    with collector_at_rest():
        found = [cache.sequence(one.blocks, one.prompt_tokens) for one in model.trace.requests]
    return cache, found


def _marconi(model: Model, sizes: Sizes) -> Marconi:
    """What a pool holds, about, and what the longest prompt saves: the scales of its two terms."""
    longest = max(one.prompt_tokens for one in model.trace.requests)
    mean = model.trace.prompt_tokens / len(model.trace.requests)
    each = mean / model.block_tokens * model.block_bytes + model.state_bytes
    span = (sizes.pool_bytes or 0) / each if each else 0.0
    held = longest / model.block_tokens * model.block_bytes + model.state_bytes
    most = model.flops(longest) / held if held else 1.0
    return Marconi(sizes, model.flops, max(1.0, span), most)


def _flops(recipe: Recipe) -> Callable[[int], float]:
    """FLOPs of a prefill of so many tokens, as the parabola through two lengths."""
    first, second = (
        cost(
            recipe, Point(block=recipe.name, block_digest="", workload=Prefill(context=at))
        ).flops / at
        for at in _FLOPS_TOKENS
    )  # fmt: skip
    slope = (second - first) / (_FLOPS_TOKENS[1] - _FLOPS_TOKENS[0])
    base = first - slope * _FLOPS_TOKENS[0]
    return lambda tokens: tokens * (base + slope * tokens)


def _blocks_of(trace: Trace) -> int:
    if trace.block_tokens is None:
        raise ConfigError(
            f"{trace.name}: says nothing of shared prefixes, so that no reuse can be told",
            fix="a trace with hash_ids, or a generated one: sessions=200,turns=6",
        )
    return trace.block_tokens


def default_pools(pool_bytes: int) -> list[int]:
    """Sizes around one that show how reuse grows: from a sixteenth to sixteen times."""
    return [max(1, round(pool_bytes * 2.0**power)) for power in range(-4, 5)]
