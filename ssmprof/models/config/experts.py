"""Keys of mixtures of experts, and layers of which some have one and some a feed-forward."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta

from ssmprof import limits
from ssmprof.models.config.common import steps
from ssmprof.models.config.keys import Count, Factor, KeyProblem, Text, Whole, agree, must_be
from ssmprof.models.config.rotary import Rotary
from ssmprof.models.recipe import Layer
from ssmprof.scalars import Size

Indices = Annotated[
    tuple[Annotated[int, Meta(ge=0, le=limits.LAYERS)], ...], Meta(max_length=limits.LAYERS)
]

# Norms of latents keep their own epsilon, whatever the file says of the others.
LATENT_EPS = 1e-6


def pairs_of(mixers: Iterable[str], afters: Iterable[str]) -> tuple[Layer, ...]:
    """Layers of a mixer and, in a step of its own, what comes after it: a name for each."""
    return steps([name for pair in zip(mixers, afters, strict=True) for name in pair])


def one_of(first: int | None, second: int | None, key: str, other: str, default: int) -> int:
    """A number that has two names."""
    agree(first, second, key, other)
    return next((value for value in (first, second) if value is not None), default)


def qwen_afters(layers: int, experts: int, step: int, dense: Indices) -> list[str]:
    """What each layer of a Qwen has after its mixer: experts every `step` layers, but for some."""
    outside = [layer for layer in dense if layer >= layers]
    if outside:
        raise KeyProblem("mlp_only_layers", f"{outside[0]} of {layers} layers")
    sparse = [experts and layer not in dense and (layer + 1) % step == 0 for layer in range(layers)]
    return ["moe" if here else "mlp" for here in sparse]


class DeepseekExperts(Rotary, frozen=True, kw_only=True):
    """Keys of DeepSeek's experts: the first layers are dense, some experts see every token.

    `ep_size` is how many devices share the experts; layers of `num_nextn_predict_layers` predict
    further tokens and are not in the model.
    """

    num_hidden_layers: Count
    intermediate_size: Size
    moe_intermediate_size: Size
    hidden_act: Text = "silu"
    n_routed_experts: Whole | None = None
    num_local_experts: Whole | None = None
    n_shared_experts: Whole | None = None
    num_experts_per_tok: Size | None = None
    first_k_dense_replace: Whole | None = None
    moe_layer_freq: Size = 1
    n_group: Size | None = None
    topk_group: Size | None = None
    topk_method: Text | None = None
    scoring_func: Text | None = None
    norm_topk_prob: bool | None = None
    routed_scaling_factor: Factor | None = None
    mlp_bias: bool = False
    ep_size: Whole = 1
    num_nextn_predict_layers: Whole = 0
    num_mtp_layers: Whole = 0


def deepseek_afters(layers: int, dense: int, every: int) -> list[str]:
    """What each layer of a DeepSeek has after its mixer: the first `dense` have no experts."""
    return ["moe" if layer >= dense and layer % every == 0 else "mlp" for layer in range(layers)]


def without_bias(bias: bool) -> None:
    """Biases of feed-forwards that no model with experts has."""
    must_be(bias, False, "mlp_bias", "experts of which some have biases")
