"""Mamba-2 (arXiv:2405.21060) as transformers writes it: Codestral Mamba and conversions."""

from __future__ import annotations

from typing import Any

from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.models.config.common import Ends, step_limit, steps
from ssmprof.models.config.keys import Count, Epsilon, Positive, Text, agree, must_be
from ssmprof.models.config.names.scans import mamba2_names
from ssmprof.models.config.reader import Family
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size


class Keys(Ends, frozen=True, kw_only=True):
    """Keys of a Mamba-2. Nothing reads `time_step_rank`; the norm gates first whatever the file
    says in `norm_before_gate`.
    """

    num_hidden_layers: Count
    num_heads: Size = 128
    head_dim: Size = 64
    state_size: Size = 128
    n_groups: Size = 8
    expand: Positive = 2
    intermediate_size: Size | None = None
    conv_kernel: Size = 4
    time_step_rank: int | Text | None = None
    time_step_limit: tuple[Any, ...] | None = None
    use_bias: bool = False
    use_conv_bias: bool = True
    rms_norm: bool = True
    norm_before_gate: bool = True
    hidden_act: Text = "silu"
    layer_norm_epsilon: Epsilon = 1e-5
    tie_word_embeddings: bool = False


def _mamba2(keys: Keys, name: str) -> Recipe:
    inner = int(keys.expand * keys.hidden_size)
    agree(keys.num_heads * keys.head_dim, inner, "num_heads * head_dim", "expand * hidden_size")
    agree(keys.intermediate_size, inner, "intermediate_size", "expand * hidden_size")
    must_be(keys.hidden_act, "silu", "hidden_act", "a Mamba-2 with another activation")
    must_be(keys.rms_norm, True, "rms_norm", "a Mamba-2 without its gated norm")
    part = Mamba2(
        d_inner=inner,
        d_state=keys.state_size,
        headdim=keys.head_dim,
        ngroups=keys.n_groups,
        d_conv=keys.conv_kernel,
        conv_bias=keys.use_conv_bias,
        proj_bias=keys.use_bias,
        dt_limit=step_limit(keys.time_step_limit),
    )
    return recipe(
        name,
        keys.hidden_size,
        steps(["mamba2"] * keys.num_hidden_layers),
        {"mamba2": part},
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.layer_norm_epsilon,
    )


FAMILIES = {"mamba2": Family(Keys, _mamba2, mamba2_names)}
