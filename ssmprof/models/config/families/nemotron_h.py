"""Nemotron-H (arXiv:2504.03624) and Nemotron 3: one sub-layer per layer, spelt by letters.

Attention has no positions. Files of transformers 5 list the kinds of layers, and write the sizes
of experts as defaults of a model that has none.
"""

from __future__ import annotations

from typing import Any

from ssmprof.mixers.mamba2.shape import Mamba2, StepSize
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import Attending, attention, step_limit, steps, ungated
from ssmprof.models.config.keys import (
    Count,
    Epsilon,
    Factor,
    KeyProblem,
    Layers,
    Text,
    Whole,
    agree,
    held_against,
    kinds,
    must_be,
)
from ssmprof.models.config.names.hybrids import nemotron_names
from ssmprof.models.config.reader import Family
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Dtype, Size, Tokens

KINDS = {
    "mamba": "mamba2", "linear_attention": "mamba2", "attention": "attention",
    "full_attention": "attention", "mlp": "mlp", "moe": "moe",
}  # fmt: skip
LETTERS = {"M": "mamba2", "*": "attention", "-": "mlp", "E": "moe"}


class Nemotron(Attending, frozen=True, kw_only=True):
    """Keys of a Nemotron-H. Its code reads neither the rotary keys nor `expand`, `rms_norm_eps`,
    `norm_eps` and the keys of prediction of several tokens, whose layers are not in the model.
    """

    num_hidden_layers: Count | None = None
    hybrid_override_pattern: str = ""
    layers_block_type: Layers | None = None
    num_key_value_heads: Size | None = 8
    attention_head_dim: Size | None = None
    sliding_window: Tokens | None = None
    intermediate_size: Size | None = None
    mlp_hidden_act: Text = "relu2"
    mamba_hidden_act: Text = "silu"
    mamba_num_heads: Size = 128
    mamba_head_dim: Size = 64
    ssm_state_size: Size = 128
    n_groups: Size = 8
    mamba_n_groups: Size | None = None
    conv_kernel: Size = 4
    mamba_d_conv: Size | None = None
    use_conv_bias: bool = True
    mamba_conv_bias: bool | None = None
    time_step_limit: tuple[Any, ...] | None = None
    mamba_dt_limit: tuple[Any, ...] | None = None
    time_step_min: StepSize = 0.001
    mamba_dt_min: StepSize | None = None
    mamba_ssm_cache_dtype: Dtype | None = None
    use_bias: bool = False
    mamba_proj_bias: bool = False
    mlp_bias: bool = False
    attention_bias: bool = False
    tie_word_embeddings: bool = False
    layer_norm_epsilon: Epsilon = 1e-5
    rms_norm_eps: Epsilon | None = None
    norm_eps: Epsilon | None = None
    expand: Factor | None = None
    mamba_expand: Factor | None = None
    time_step_rank: int | Text | None = None
    n_routed_experts: Whole | None = None
    n_shared_experts: Whole = 1
    num_experts_per_tok: Whole | None = None
    moe_intermediate_size: Size | None = None
    moe_shared_expert_intermediate_size: Whole | None = None
    moe_latent_size: Size | None = None
    moe_shared_expert_overlap: bool = True
    n_group: Size = 1
    topk_group: Size = 1
    norm_topk_prob: bool = True
    routed_scaling_factor: Factor = 1.0
    num_nextn_predict_layers: Whole = 0
    mtp_hybrid_override_pattern: str | None = None
    mtp_layers_block_type: Layers | None = None


def _layers(keys: Nemotron) -> list[str]:
    """The kind of every layer, of a list or of letters."""
    if keys.layers_block_type is not None:
        key, found = "layers_block_type", kinds(keys.layers_block_type, KINDS, "layers_block_type")
        if keys.hybrid_override_pattern:
            spelt = kinds(list(keys.hybrid_override_pattern), LETTERS, "hybrid_override_pattern")
            agree(spelt, found, "hybrid_override_pattern", key)
    else:
        key = "hybrid_override_pattern"
        found = kinds(list(keys.hybrid_override_pattern), LETTERS, key)
    held_against(found, keys.num_hidden_layers, key)
    return found


def _steps(keys: Nemotron) -> tuple[float, float] | None:
    """Bounds of the step size: those given, or `time_step_min` from below, as transformers has it.

    Both keys have a second name, that of files which were converted.
    """
    least = keys.time_step_min if keys.mamba_dt_min is None else keys.mamba_dt_min
    given = step_limit(keys.mamba_dt_limit or keys.time_step_limit)
    return given or step_limit((least, None))


def _scan(keys: Nemotron) -> Mamba2:
    must_be(keys.mamba_hidden_act, "silu", "mamba_hidden_act", "a Mamba-2 with another activation")
    if keys.mamba_proj_bias and not keys.use_bias:
        raise KeyProblem("mamba_proj_bias", "True, but use_bias is False")
    conv_bias = keys.use_conv_bias if keys.mamba_conv_bias is None else keys.mamba_conv_bias
    return Mamba2(
        d_inner=keys.mamba_num_heads * keys.mamba_head_dim,
        d_state=keys.ssm_state_size,
        headdim=keys.mamba_head_dim,
        ngroups=keys.mamba_n_groups or keys.n_groups,
        d_conv=keys.mamba_d_conv or keys.conv_kernel,
        conv_bias=conv_bias,
        proj_bias=keys.use_bias,
        dt_limit=_steps(keys),
        state_dtype=keys.mamba_ssm_cache_dtype or "float32",
    )


def _sized(value: int | None, key: str) -> int:
    """A size that a kind of layer of the model needs."""
    if not value:
        raise KeyProblem(key, "missing" if value is None else "0, but there are layers that use it")
    return value


def _experts(keys: Nemotron) -> Moe:
    must_be(keys.mlp_bias, False, "mlp_bias", "experts of which some have biases")
    return Moe(
        experts=_sized(keys.n_routed_experts, "n_routed_experts"),
        experts_per_token=_sized(keys.num_experts_per_tok, "num_experts_per_tok"),
        d_ff=_sized(keys.moe_intermediate_size, "moe_intermediate_size"),
        act=ungated(keys.mlp_hidden_act, "mlp_hidden_act"),
        latent=keys.moe_latent_size,
        shared_d_ff=keys.moe_shared_expert_intermediate_size or 0,
        score="sigmoid",
        selection_bias=True,
        groups=keys.n_group,
        top_groups=keys.topk_group,
        renormalise=keys.norm_topk_prob,
        scale=keys.routed_scaling_factor,
    )


def _width(keys: Nemotron) -> int:
    """Features of a head, under either of its names."""
    agree(keys.attention_head_dim, keys.head_dim, "attention_head_dim", "head_dim")
    return keys.head_dim or keys.attention_head_dim or 128


def _nemotron(keys: Nemotron, name: str) -> Recipe:
    layers = _layers(keys)
    parts: dict[str, Part] = {}
    if "mamba2" in layers:
        parts["mamba2"] = _scan(keys)
    if "attention" in layers:
        must_be(keys.sliding_window, None, "sliding_window", "a Nemotron-H whose attention slides")
        parts["attention"] = attention(keys, None, width=_width(keys), bias=keys.attention_bias)
    if "mlp" in layers:
        d_ff = _sized(keys.intermediate_size, "intermediate_size")
        act = ungated(keys.mlp_hidden_act, "mlp_hidden_act")
        parts["mlp"] = Mlp(d_ff=d_ff, act=act, bias=keys.mlp_bias)
    if "moe" in layers:
        parts["moe"] = _experts(keys)
    return recipe(
        name,
        keys.hidden_size,
        steps(layers),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.layer_norm_epsilon,
    )


FAMILIES = {"nemotron_h": Family(Nemotron, _nemotron, nemotron_names)}
