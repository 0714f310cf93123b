"""How many sequences of a length fit into a pool, by an engine's rules, and what is wasted.

Beside each engine's own way stands a pool for every cache: keys in the smallest blocks it has,
states in slots of their own size, as many of each as the sequences need. The difference is what one
pool of equal pages, or two pools in a fixed ratio, cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import Struct

from ssmprof.errors import ConfigError
from ssmprof.models.cost import weight_bytes, weights
from ssmprof.scalars import StoredDtype
from ssmprof.serving import sglang, vllm
from ssmprof.serving.layout import Caches, Sharing, caches
from ssmprof.serving.rules import GdnPrefill, Prefix, Radix, Sglang, Vllm
from ssmprof.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ssmprof.models.recipe import Recipe


@dataclass(frozen=True)
class Asked:
    """A pool and how it is used. `drafts` are tokens speculated ahead.

    `longest_tokens` is the context that the server is started for; it bounds how many sequences
    SGLang runs at once.
    """

    pool_bytes: int
    longest_tokens: int
    prefix: Prefix = "align"
    gdn_prefill: GdnPrefill = "triton"
    radix: Radix = "extra_buffer_overlap"
    tp: int = 1
    drafts: int = 0
    cache_dtype: StoredDtype = "bfloat16"
    state_dtype: StoredDtype | None = None

    def sharing(self, engine: Vllm | Sglang) -> Sharing:
        """SGLang keeps drafted tokens beside its slots, vLLM in the window of the convolution."""
        drafts = self.drafts if isinstance(engine, Vllm) else 0
        return Sharing(self.tp, drafts, self.cache_dtype, self.state_dtype)


class Capacity(Struct, frozen=True, kw_only=True):
    """What fits: bytes on one rank; None where a model has no such thing.

    `block_tokens`, `page_bytes`, `groups` and `blocks` are vLLM's; SGLang's blocks are the tokens
    of its key/value pool, and `slots` its states. `copies` are the states that an engine keeps for
    a running sequence. `kv_bytes_per_token` is taken over the whole context: windows lower it.
    `waste_share` is the part of the pool that holds neither keys nor the present states of the
    sequences. `balanced_ratio` is the ratio of states to keys that would waste nothing.
    `separate_*` are those of a pool for each cache; `fragmentation_share` is the part of those
    sequences that the engine's own way loses.
    """

    model: str
    engine: str
    engine_version: str
    prefix_mode: Prefix
    context_tokens: int
    block_tokens: int | None
    page_bytes: int | None
    groups: int
    blocks: int | None
    sequences: int
    waste_share: float
    recurrent_bytes_per_sequence: int
    conv_bytes_per_sequence: int
    state_bytes_per_sequence: int
    kv_bytes_per_token: float
    balanced_ratio: float | None
    copies: int | None
    slots: int | None
    pool_bytes: int
    separate_sequences: int
    separate_waste_share: float
    fragmentation_share: float | None


def capacities(
    recipe: Recipe, engine: Vllm | Sglang, asked: Asked, contexts: Sequence[int]
) -> list[Capacity]:
    """What fits at each context. Raises ConfigError where the model cannot be served so."""
    found = caches(recipe, asked.sharing(engine))
    of = _vllm if isinstance(engine, Vllm) else _sglang
    return [of(recipe, engine, found, asked, context) for context in contexts]  # type: ignore[arg-type]


def pool_of(recipe: Recipe, memory_bytes: int, tp: int, dtype: StoredDtype) -> int:
    """Bytes left for caches beside a rank's share of the weights. Raises ConfigError if none."""
    share = -(-sum(weight_bytes(one, dtype) for one in weights(recipe)) // tp)
    if memory_bytes <= share:
        raise ConfigError(
            f"{recipe.name}: {format_bytes(memory_bytes)} of usable memory cannot hold its weights "
            f"({format_bytes(share)}{' per rank' if tp > 1 else ''})",
            fix="a larger --memory, more --tp, or --weights-dtype float8",
        )
    return memory_bytes - share


def room(
    recipe: Recipe, engine: Vllm | Sglang, asked: Asked
) -> tuple[int, Callable[[int], int] | None, int | None]:
    """Units of the pool, how many a sequence of so many tokens takes, and how many run at once.

    Units are vLLM's blocks and SGLang's tokens; None where nothing bounds them.
    """
    found = caches(recipe, asked.sharing(engine))
    if isinstance(engine, Vllm):
        plan = vllm.plan(found, engine, asked.prefix, asked.gdn_prefill, asked.drafts)
        return asked.pool_bytes // plan.block_bytes, plan.blocks, None
    made = sglang.pools(
        found, engine, asked.pool_bytes, _slots(engine, asked), asked.drafts, asked.longest_tokens
    )
    if made.tokens is None:
        return 0, None, made.running
    return made.tokens, lambda tokens: tokens, made.running


def _slots(engine: Sglang, asked: Asked) -> int:
    return engine.slots["none" if asked.prefix == "none" else asked.radix]


def _vllm(recipe: Recipe, engine: Vllm, found: Caches, asked: Asked, context: int) -> Capacity:
    plan = vllm.plan(found, engine, asked.prefix, asked.gdn_prefill, asked.drafts)
    blocks = asked.pool_bytes // plan.block_bytes
    return _capacity(
        recipe, engine, found, asked, context,
        block_tokens=plan.block_tokens,
        page_bytes=plan.page_bytes,
        groups=plan.groups,
        blocks=blocks,
        sequences=blocks // plan.blocks(context),
        copies=plan.state_blocks if found.states else None,
        slots=None,
    )  # fmt: skip


def _sglang(recipe: Recipe, engine: Sglang, found: Caches, asked: Asked, context: int) -> Capacity:
    each = _slots(engine, asked)
    made = sglang.pools(
        found, engine, asked.pool_bytes, each, asked.drafts, asked.longest_tokens
    )  # fmt: skip
    sizes = (made.slots, made.tokens, made.window_tokens)
    page = engine.block_tokens * sum(one.token_bytes for one in found.keys)
    return _capacity(
        recipe, engine, found, asked, context,
        block_tokens=engine.block_tokens if found.keys else None,
        page_bytes=page or None,
        groups=sum(size is not None for size in sizes),
        blocks=made.tokens if made.tokens is not None else made.window_tokens,
        sequences=made.sequences(context),
        copies=each if found.states else None,
        slots=made.slots,
    )  # fmt: skip


def _capacity(
    recipe: Recipe, engine: Vllm | Sglang, found: Caches, asked: Asked, context: int, *,
    block_tokens: int | None, page_bytes: int | None, groups: int, blocks: int | None,
    sequences: int, copies: int | None, slots: int | None,
) -> Capacity:  # fmt: skip
    state, kv, pool = found.state_bytes, found.kv_bytes(context), asked.pool_bytes
    least = engine.block_tokens
    own = (copies or 0) * state + sum(
        one.token_bytes * -(-one.tokens(context) // least) * least for one in found.keys
    )
    separate = pool // own
    return Capacity(
        model=recipe.name,
        engine=engine.name,
        engine_version=engine.version,
        prefix_mode=asked.prefix,
        context_tokens=context,
        block_tokens=block_tokens,
        page_bytes=page_bytes,
        groups=groups,
        blocks=blocks,
        sequences=sequences,
        waste_share=1 - sequences * (kv + state) / pool,
        recurrent_bytes_per_sequence=found.recurrent_bytes,
        conv_bytes_per_sequence=found.conv_bytes,
        state_bytes_per_sequence=state,
        kv_bytes_per_token=_whole(kv / context),
        balanced_ratio=copies * state / kv if copies and kv else None,
        copies=copies,
        slots=slots,
        pool_bytes=pool,
        separate_sequences=separate,
        separate_waste_share=1 - separate * (kv + state) / pool,
        fragmentation_share=1 - sequences / separate if separate else None,
    )


def _whole(value: float) -> float:
    """A whole number as one: most models keep as many bytes of every token."""
    return int(value) if value == int(value) else value
