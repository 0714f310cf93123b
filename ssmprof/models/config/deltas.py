"""Keys of gated DeltaNet beside attention, as Qwen3-Next and its descendants write them."""

from __future__ import annotations

from ssmprof.mixers.delta.shape import GatedDelta
from ssmprof.models.config.common import Attending
from ssmprof.models.config.keys import Layers, held_against, kinds, must_be
from ssmprof.scalars import Dtype, Size

KINDS = {"linear_attention": "gated_delta", "full_attention": "attention"}


class GatedDeltas(Attending, frozen=True, kw_only=True):
    """The `linear_*` keys, and which layers are attention."""

    linear_conv_kernel_dim: Size = 4
    linear_key_head_dim: Size = 128
    linear_value_head_dim: Size = 128
    linear_num_key_heads: Size = 16
    linear_num_value_heads: Size = 32
    full_attention_interval: Size = 4
    layer_types: Layers | None = None
    mamba_ssm_dtype: Dtype = "float32"


def gated_delta(keys: GatedDeltas, act: str) -> GatedDelta:
    """The layer of these keys."""
    must_be(act, "silu", "hidden_act", "a gated DeltaNet with another activation")
    return GatedDelta(
        heads=keys.linear_num_value_heads,
        key_heads=keys.linear_num_key_heads,
        key_dim=keys.linear_key_head_dim,
        value_dim=keys.linear_value_head_dim,
        d_conv=keys.linear_conv_kernel_dim,
        state_dtype=keys.mamba_ssm_dtype,
    )


def mixers_of(keys: GatedDeltas, layers: int) -> list[str]:
    """The mixer of each layer, by a list or by an interval: its last layer is attention."""
    if keys.layer_types is None:
        every = keys.full_attention_interval
        return ["gated_delta" if (layer + 1) % every else "attention" for layer in range(layers)]
    found = kinds(keys.layer_types, KINDS, "layer_types")
    held_against(found, layers, "layer_types")
    return found
