"""RetNet (arXiv:2307.08621), as flash-linear-attention writes it."""

from __future__ import annotations

from ssmprof.mixers.linear_attention.shape import RetNet
from ssmprof.models.config.fla import Fla, conv, fla_recipe, width
from ssmprof.models.config.keys import Factor
from ssmprof.models.config.reader import Family
from ssmprof.models.recipe import Recipe
from ssmprof.scalars import Size


class RetNetKeys(Fla, frozen=True, kw_only=True):
    """Keys of a RetNet."""

    hidden_ratio: Factor | None = 2
    num_heads: Size = 8
    num_kv_heads: Size | None = None
    expand_k: Factor = 1.0
    expand_v: Factor = 2.0
    use_output_gate: bool = True
    use_short_conv: bool = False
    conv_size: Size = 4


def _retnet(keys: RetNetKeys, name: str) -> Recipe:
    part = RetNet(
        heads=keys.num_heads,
        kv_heads=keys.num_kv_heads,
        key_dim=width(keys.hidden_size, keys.expand_k, keys.num_heads, "expand_k"),
        value_dim=width(keys.hidden_size, keys.expand_v, keys.num_heads, "expand_v"),
        gate=keys.use_output_gate,
        d_conv=conv(keys, keys.use_short_conv, keys.conv_size),
    )
    return fla_recipe(keys, name, "retnet", part)


FAMILIES = {"retnet": Family(RetNetKeys, _retnet)}
