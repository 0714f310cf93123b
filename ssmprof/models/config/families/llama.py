"""Llama (arXiv:2302.13971)."""

from __future__ import annotations

from ssmprof.models.config.dense import Dense, dense, slides
from ssmprof.models.config.keys import KeyProblem, must_be
from ssmprof.models.config.names.dense import llama_names
from ssmprof.models.config.reader import Family
from ssmprof.models.recipe import Recipe


class Llama(Dense, frozen=True, kw_only=True):
    """Keys of a Llama."""

    attention_bias: bool = False
    mlp_bias: bool = False
    rope_interleaved: bool = False


def _llama(keys: Llama, name: str) -> Recipe:
    must_be(keys.rope_interleaved, False, "rope_interleaved", "rotary embedding of neighbours")
    sliding = slides(keys, [False] * keys.num_hidden_layers)
    if any(sliding):
        raise KeyProblem("layer_types", "cannot build 'sliding_attention': a Llama has no window")
    return dense(keys, name, sliding, None, bias=keys.attention_bias, mlp_bias=keys.mlp_bias)


FAMILIES = {"llama": Family(Llama, _llama, llama_names)}
