"""Mamba (arXiv:2312.00752) and Falcon-Mamba (arXiv:2410.05355) as transformers writes them."""

from __future__ import annotations

from typing import Any

from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.models.config.common import Ends, steps
from ssmprof.models.config.keys import Count, Epsilon, Positive, Text, agree, chosen, must_be
from ssmprof.models.config.names.scans import mamba1_names
from ssmprof.models.config.reader import Family
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size


class Mamba(Ends, frozen=True, kw_only=True):
    """Keys of a Mamba; those from `d_model` on were kept from the file it was converted from."""

    num_hidden_layers: Count
    state_size: Size = 16
    expand: Positive = 2
    intermediate_size: Size | None = None
    conv_kernel: Size = 4
    time_step_rank: int | Text | None = "auto"
    use_bias: bool = False
    use_conv_bias: bool = True
    hidden_act: Text = "silu"
    layer_norm_epsilon: Epsilon = 1e-5
    tie_word_embeddings: bool = True
    d_model: Size | None = None
    d_inner: Size | None = None
    n_layer: Count | None = None
    rms_norm: bool = True
    pad_vocab_size_multiple: Size = 8


class FalconMamba(Mamba, frozen=True, kw_only=True):
    """Keys of a Falcon-Mamba."""

    mixer_rms_eps: Epsilon = 1e-6


def _mamba(keys: Mamba, name: str, **values: Any) -> Recipe:
    width = keys.hidden_size
    inner = keys.intermediate_size or int(keys.expand * width)
    agree(keys.d_model, width, "d_model", "hidden_size")
    agree(keys.d_inner, inner, "d_inner", "the inner width")
    agree(keys.n_layer, keys.num_hidden_layers, "n_layer", "num_hidden_layers")
    must_be(keys.hidden_act, "silu", "hidden_act", "a Mamba with another activation")
    must_be(keys.rms_norm, True, "rms_norm", "a Mamba with norms of another kind")
    part = Mamba1(
        d_inner=inner,
        d_state=keys.state_size,
        d_conv=keys.conv_kernel,
        dt_rank=chosen(keys.time_step_rank, -(-width // 16), "time_step_rank"),
        conv_bias=keys.use_conv_bias,
        proj_bias=keys.use_bias,
        **values,
    )
    return recipe(
        name,
        width,
        steps(["mamba1"] * keys.num_hidden_layers),
        {"mamba1": part},
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.layer_norm_epsilon,
    )


def _falcon_mamba(keys: FalconMamba, name: str) -> Recipe:
    return _mamba(keys, name, inner_norms="plain", inner_norm_eps=keys.mixer_rms_eps)


FAMILIES = {
    "mamba": Family(Mamba, _mamba, mamba1_names),
    "falcon_mamba": Family(FalconMamba, _falcon_mamba, mamba1_names),
}
