"""Qwen2 and Qwen2.5 (arXiv:2407.10671): a Llama with biases before the scores."""

from __future__ import annotations

from ssmprof.models.config.dense import Dense, dense, slides
from ssmprof.models.config.keys import KeyProblem, Whole, must_be
from ssmprof.models.config.names.dense import llama_names
from ssmprof.models.config.reader import Family
from ssmprof.models.recipe import Recipe
from ssmprof.scalars import Size, Tokens


class Qwen2(Dense, frozen=True, kw_only=True):
    """Keys of a Qwen2; layers from `max_window_layers` on slide where any do."""

    num_key_value_heads: Size | None = 32
    use_sliding_window: bool = False
    sliding_window: Tokens | None = 4096
    max_window_layers: Whole = 28
    use_mrope: bool = False


def windows(keys: Qwen2) -> tuple[list[bool], int | None]:
    """Which layers slide, and how far those look."""
    must_be(keys.use_mrope, False, "use_mrope", "another rotary embedding")
    window = keys.sliding_window if keys.use_sliding_window else None
    first = keys.max_window_layers if window is not None else keys.num_hidden_layers
    otherwise = [layer >= first for layer in range(keys.num_hidden_layers)]
    sliding = slides(keys, otherwise)
    if any(sliding) and not keys.use_sliding_window:
        raise KeyProblem("use_sliding_window", "False, but layer_types has sliding_attention")
    return sliding, window


def _qwen2(keys: Qwen2, name: str) -> Recipe:
    return dense(keys, name, *windows(keys), qkv_bias=True)


FAMILIES = {"qwen2": Family(Qwen2, _qwen2, llama_names)}
