"""Gated linear attention (arXiv:2312.06635), as flash-linear-attention writes it."""

from __future__ import annotations

from ssmprof.mixers.linear_attention.shape import Gla
from ssmprof.models.config.fla import Fla, conv, fla_recipe, width
from ssmprof.models.config.keys import Factor, Real, must_be
from ssmprof.models.config.reader import Family
from ssmprof.models.recipe import Recipe
from ssmprof.scalars import Size


class GlaKeys(Fla, frozen=True, kw_only=True):
    """Keys of a GLA."""

    num_heads: Size = 4
    num_kv_heads: Size | None = None
    expand_k: Factor = 0.5
    expand_v: Factor = 1.0
    use_output_gate: bool = True
    use_short_conv: bool = False
    conv_size: Size = 4
    use_gk: bool = True
    use_gv: bool = False
    clamp_min: Real | None = None


def _gla(keys: GlaKeys, name: str) -> Recipe:
    must_be(keys.use_gk, True, "use_gk", "linear attention without a decay of keys")
    must_be(keys.use_gv, False, "use_gv", "linear attention with a decay of values")
    must_be(keys.clamp_min, None, "clamp_min", "a bound of the decay")
    part = Gla(
        heads=keys.num_heads,
        kv_heads=keys.num_kv_heads,
        key_dim=width(keys.hidden_size, keys.expand_k, keys.num_heads, "expand_k"),
        value_dim=width(keys.hidden_size, keys.expand_v, keys.num_heads, "expand_v"),
        gate=keys.use_output_gate,
        d_conv=conv(keys, keys.use_short_conv, keys.conv_size),
    )
    return fla_recipe(keys, name, "gla", part)


FAMILIES = {"gla": Family(GlaKeys, _gla)}
