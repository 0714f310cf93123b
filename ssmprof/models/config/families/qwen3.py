"""Qwen3 (arXiv:2505.09388): queries and keys are normed head by head, and biases are gone."""

from __future__ import annotations

from ssmprof.models.config.dense import dense
from ssmprof.models.config.families.qwen2 import Qwen2, windows
from ssmprof.models.config.names.dense import llama_names
from ssmprof.models.config.reader import Family
from ssmprof.models.recipe import Recipe
from ssmprof.scalars import Size


class Qwen3(Qwen2, frozen=True, kw_only=True):
    """Keys of a Qwen3; a head has 128 features whatever the model's width."""

    head_dim: Size | None = 128
    attention_bias: bool = False


def _qwen3(keys: Qwen3, name: str) -> Recipe:
    return dense(keys, name, *windows(keys), bias=keys.attention_bias, qk_norm="head")


FAMILIES = {"qwen3": Family(Qwen3, _qwen3, llama_names)}
