"""Mistral and Ministral (arXiv:2310.06825): a Llama whose layers slide."""

from __future__ import annotations

from ssmprof.models.config.dense import Dense, dense, slides
from ssmprof.models.config.names.dense import llama_names
from ssmprof.models.config.reader import Family
from ssmprof.models.recipe import Recipe
from ssmprof.scalars import Size, Tokens


class Mistral(Dense, frozen=True, kw_only=True):
    """Keys of a Mistral; null is no window, and a file without the key has that of its class."""

    num_key_value_heads: Size | None = 8
    sliding_window: Tokens | None = 4096


def _mistral(keys: Mistral, name: str) -> Recipe:
    otherwise = [keys.sliding_window is not None] * keys.num_hidden_layers
    return dense(keys, name, slides(keys, otherwise), keys.sliding_window)


FAMILIES = {
    "mistral": Family(Mistral, _mistral, llama_names),
    "ministral": Family(Mistral, _mistral, llama_names),
}
