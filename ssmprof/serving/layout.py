"""A recipe as the caches of its layers on one rank, in bytes, as serving engines lay them out.

Per token, attention adds the keys and values of the rank's heads; per sequence, a recurrence keeps
a state and `columns` tokens of its convolution. Ranks share out heads; groups of Mamba-2 that do
not divide are copied, one to each rank, as are latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ssmprof.errors import ConfigError
from ssmprof.mixers.part import Keys, State, kind
from ssmprof.scalars import StoredDtype, stored_bytes, window_dtype

if TYPE_CHECKING:
    from ssmprof.models.recipe import Recipe


@dataclass(frozen=True)
class Sharing:
    """How a model is kept: ranks, drafted tokens, dtypes of keys with windows, and of states."""

    tp: int = 1
    drafts: int = 0
    cache_dtype: StoredDtype = "bfloat16"
    state_dtype: StoredDtype | None = None


class KeyCache(NamedTuple):
    """Keys and values of one layer on one rank; beyond `window` tokens nothing is kept."""

    token_bytes: int
    window: int | None
    latent: bool
    prefix: int

    def tokens(self, context: int) -> int:
        """Tokens kept of a sequence of `context` tokens."""
        return self.prefix + min(context, self.window or context)

    def sequence_bytes(self, context: int) -> int:
        """Bytes of a sequence of `context` tokens."""
        return self.token_bytes * self.tokens(context)


class StateCache(NamedTuple):
    """What one recurrent layer keeps of a sequence on one rank."""

    rule: str
    recurrent_bytes: int
    conv_bytes: int

    @property
    def sequence_bytes(self) -> int:
        """Bytes of a sequence, however long."""
        return self.recurrent_bytes + self.conv_bytes


@dataclass(frozen=True)
class Caches:
    """Of every layer, in order."""

    keys: tuple[KeyCache, ...]
    states: tuple[StateCache, ...]

    @property
    def recurrent_bytes(self) -> int:
        """Recurrent states of a sequence."""
        return sum(one.recurrent_bytes for one in self.states)

    @property
    def conv_bytes(self) -> int:
        """Windows of convolutions of a sequence."""
        return sum(one.conv_bytes for one in self.states)

    @property
    def state_bytes(self) -> int:
        """Both."""
        return self.recurrent_bytes + self.conv_bytes

    def kv_bytes(self, context: int) -> int:
        """Keys and values of a sequence of `context` tokens."""
        return sum(one.sequence_bytes(context) for one in self.keys)


def caches(recipe: Recipe, sharing: Sharing) -> Caches:
    """The caches of a recipe. Raises ConfigError where its heads cannot be shared out."""
    keys: list[KeyCache] = []
    states: list[StateCache] = []
    for name, part in recipe.used():
        kept = part.kept()
        if not kept and part.memory != "none" and getattr(part, "kv_from", "own") == "own":
            raise ConfigError(f"{recipe.name}: {kind(part)}: no serving layout is known of it")
        for one in kept:
            if isinstance(one, Keys):
                keys.append(_keys(recipe, name, one, sharing))
            else:
                states.append(_state(recipe, name, one, sharing))
    if not keys and not states:
        raise ConfigError(f"{recipe.name} keeps nothing between tokens: there is no cache to size")
    return Caches(tuple(keys), tuple(states))


def _keys(recipe: Recipe, name: str, keys: Keys, sharing: Sharing) -> KeyCache:
    heads = 1
    if not keys.latent:
        if keys.heads % sharing.tp and sharing.tp % keys.heads:
            raise _indivisible(recipe, name, "key/value heads", keys.heads, sharing.tp)
        heads = max(1, keys.heads // sharing.tp)
    size = stored_bytes(heads * keys.width, sharing.cache_dtype)
    return KeyCache(size, keys.window, keys.latent, keys.prefix)


def _state(recipe: Recipe, name: str, state: State, sharing: Sharing) -> StateCache:
    tp = sharing.tp
    if state.heads % tp:
        raise _indivisible(recipe, name, "heads", state.heads, tp)
    groups = state.groups if state.groups % tp == 0 else tp
    channels = (state.channels + groups * state.group_channels) // tp
    columns = state.columns + (sharing.drafts if state.drafts else 0)
    return StateCache(
        state.rule,
        stored_bytes(state.recurrent // tp, sharing.state_dtype or state.dtype),
        stored_bytes(channels * columns, window_dtype(sharing.cache_dtype)),
    )


def _indivisible(recipe: Recipe, name: str, what: str, heads: int, tp: int) -> ConfigError:
    return ConfigError(f"{recipe.name}: {tp} ranks cannot share out the {heads} {what} of {name}")
