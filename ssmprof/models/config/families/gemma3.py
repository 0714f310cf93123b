"""Gemma 2 (arXiv:2408.00118) and Gemma 3 (arXiv:2503.19786): most layers slide.

Every sub-layer is normed before and after, and the embedding is scaled by the root of the width.
Gemma 3 norms queries and keys instead of bounding the scores, and turns by another base where it
slides. Files of models that see, too, leave out what is the default of the class.
"""

from __future__ import annotations

import math
from typing import Any

from msgspec import field, structs

from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import attention, each_with, gated, windowed
from ssmprof.models.config.dense import Dense, slides
from ssmprof.models.config.keys import Count, Factor, KeyProblem, Positive, Text, must_be
from ssmprof.models.config.names.dense import gemma_names
from ssmprof.models.config.reader import Family
from ssmprof.models.config.rotary import THETA, Theta, Turn, per_kind, turn
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size, Tokens

GLOBAL_THETA = 1_000_000.0


class Gemma2(Dense, frozen=True, kw_only=True):
    """Keys of a Gemma 2; every other layer slides, the first one too."""

    vocab_size: Size = 256_000
    num_attention_heads: Size = 8
    num_key_value_heads: Size | None = 4
    head_dim: Size | None = 256
    hidden_act: Text = "gelu_pytorch_tanh"
    hidden_activation: Text = "gelu_pytorch_tanh"
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    query_pre_attn_scalar: Positive = 256
    sliding_window: Tokens | None = 4096
    final_logit_softcapping: Factor | None = 30.0
    attn_logit_softcapping: Factor | None = 50.0
    use_bidirectional_attention: bool = False

    @property
    def period(self) -> int:
        """Layers from one that looks at everything to the next."""
        return 2


class Gemma3(Gemma2, frozen=True, kw_only=True):
    """Keys of the text model of a Gemma 3; one layer of six looks at everything."""

    vocab_size: Size = 262_208
    final_logit_softcapping: Factor | None = None
    attn_logit_softcapping: Factor | None = None
    rope_local_base_freq: Theta = THETA
    sliding_window_pattern: Count | None = None
    kept_pattern: Count = field(default=6, name="_sliding_window_pattern")

    @property
    def period(self) -> int:
        """Layers from one that looks at everything to the next."""
        return self.sliding_window_pattern or self.kept_pattern


def _gemma2(keys: Gemma2, name: str) -> Recipe:
    turned = turn(keys, keys.width)
    return _gemma(keys, name, turned, turned, qk_norm="none")


def _gemma3(keys: Gemma3, name: str) -> Recipe:
    if keys.rope_parameters and not per_kind(keys):
        raise KeyProblem("rope_parameters", "expected an object for each kind of layer")
    wide = turn(keys, keys.width, theta=GLOBAL_THETA)
    near = Turn(keys.rope_local_base_freq, None, None)
    if per_kind(keys):
        own = structs.replace(keys, rope_scaling=None, rope_theta=None)
        near = turn(own, keys.width, theta=keys.rope_local_base_freq, kind="sliding_attention")
    return _gemma(keys, name, wide, near, qk_norm="head")


def _gemma(keys: Gemma2, name: str, wide: Turn, near: Turn, *, qk_norm: str) -> Recipe:
    must_be(
        keys.use_bidirectional_attention, False, "use_bidirectional_attention",
        "attention to tokens after",
    )  # fmt: skip
    otherwise = [bool((layer + 1) % keys.period) for layer in range(keys.num_hidden_layers)]
    sliding = slides(keys, otherwise)
    values: dict[str, Any] = {
        "bias": keys.attention_bias,
        "qk_norm": qk_norm,
        "score_cap": keys.attn_logit_softcapping,
    }
    window = windowed(keys.sliding_window) if any(sliding) else None
    parts: dict[str, Part] = {
        "sliding": attention(keys, near, window=window, **values),
        "attention": attention(keys, wide, **values),
        "mlp": Mlp(
            d_ff=keys.intermediate_size, act=gated(keys.hidden_activation, "hidden_activation")
        ),
    }
    return recipe(
        name,
        keys.hidden_size,
        each_with(("sliding" if near else "attention" for near in sliding), "mlp", sandwich=True),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
        embedding_scale=math.sqrt(keys.hidden_size),
        logits_cap=keys.final_logit_softcapping,
    )


FAMILIES = {
    "gemma2": Family(Gemma2, _gemma2, gemma_names),
    "gemma3": Family(Gemma3, _gemma3, gemma_names),
    "gemma3_text": Family(Gemma3, _gemma3, gemma_names),
}
